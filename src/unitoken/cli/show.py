"""`unitoken info` and `models`: what a file or a model holds."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..audio import AUDIO_SUFFIXES, audio_info
from ..config import CodecConfig
from ..hub import DEFAULT_MODEL, Stored, available_models, load_stored
from ..token_info import StreamInfo
from ..tokens import TokenBundle
from ..utok import MAGIC
from .messages import UsageError, shown
from .options import Json, Revision
from .paths import TOKENS

Facts = dict[str, Any]


def info(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Token file, audio file, model folder, packaged model, or Hub repository org/name.")],
    as_json: Json = False,
    revision: Revision = None,
) -> None:
    """Say what a token file, an audio file or a model holds.

    A token file is read and checked as a whole.
    """
    facts = _facts(name, revision)
    typer.echo(json.dumps(facts, indent=2) if as_json else "\n".join(_lines(facts)))


def models(as_json: Json = False) -> None:
    """List the models that came with the package."""
    found = [model_facts(load_stored(name)) | {"default": name == DEFAULT_MODEL} for name in available_models()]
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    elif found:
        typer.echo("\n".join(_table([_row(model) for model in found])))
    else:
        typer.echo("no models came with this package; name a folder or a Hub repository with --model", err=True)


def model_facts(stored: Stored) -> Facts:
    """Return rates, sizes, fingerprint and licences of a model; numbers that JSON can hold."""
    config = stored.config
    return {
        "kind": "model",
        "name": config.name,
        "fingerprint": stored.fingerprint,
        "decodes": list(stored.decodes),
        "sample_rate": config.sample_rate,
        "bitrate": float(config.bitrate),
        "global_bits": config.global_bits,
        "s": _stream(_local(config, "s"), config.sample_rate),
        "p": _stream(_local(config, "p"), config.sample_rate),
        "g": {"num_codebooks": config.global_.quantizer.num_codebooks, "codebook_size": config.global_.quantizer.codebook_size},
        "parameters": sum(tensor.numel() for tensor in stored.state.values()),
        "code_licence": config.code_licence,
        "weights_licence": config.weights_licence,
    }


def _facts(name: str, revision: str | None) -> Facts:
    path = Path(name)
    if not path.is_file():
        if path.suffix.lower() in (*AUDIO_SUFFIXES, TOKENS) and not path.is_dir():
            raise UsageError(f"no such file: {shown(path)}; check the path")
        return model_facts(load_stored(name, revision=revision))
    with path.open("rb") as file:
        is_tokens = path.suffix.lower() == TOKENS or file.read(len(MAGIC)) == MAGIC
    return _token_facts(path) if is_tokens else _audio_facts(path)


def _audio_facts(path: Path) -> Facts:
    header = audio_info(path)
    return {"kind": "audio", "path": shown(path), **dataclasses.asdict(header), "seconds": header.seconds}


def _token_facts(path: Path) -> Facts:
    bundles = TokenBundle.load_many(path)
    facts: Facts = {"kind": "tokens", "path": shown(path), "bytes": path.stat().st_size}
    if bundles:
        about = bundles[0].info
        facts |= {
            "tokenizer": about.name,
            "fingerprint": about.fingerprint,
            "sample_rate": about.sample_rate,
            "s": _stream(about.s, about.sample_rate),
            "p": _stream(about.p, about.sample_rate),
            "g": {"num_codebooks": about.num_g, "codebook_size": about.g_size},
            "code_licence": about.code_licence,
            "weights_licence": about.weights_licence,
        }
    return facts | {"bundles": [_bundle(bundle) for bundle in bundles]}


def _bundle(bundle: TokenBundle) -> Facts:
    return {
        "seconds": bundle.seconds,
        "samples": bundle.num_samples,
        "s_frames": len(bundle.s),
        "p_frames": None if bundle.p is None else len(bundle.p),
        "g_tokens": None if bundle.g is None else len(bundle.g),
        "bits": bundle.num_bits,
        "numerics": bundle.numerics,
    }


def _local(config: CodecConfig, stream: str) -> StreamInfo:
    hop, quantizer = (config.hop_s, config.semantic.quantizer) if stream == "s" else (config.hop_p, config.residual.quantizer)
    return StreamInfo(hop, quantizer.num_codebooks, quantizer.codebook_size)


def _stream(stream: StreamInfo, sample_rate: int) -> Facts:
    return {"frame_rate": sample_rate / stream.hop, **dataclasses.asdict(stream)}


def _lines(facts: Facts) -> Iterator[str]:
    """Yield one line for each fact, and for each member of a list."""
    for key, value in facts.items():
        if isinstance(value, list):
            yield f"{key}: {len(value)}"
            yield from (f"  {index}: {_text(member)}" for index, member in enumerate(value))
        else:
            yield f"{key}: {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(member)}" for key, member in value.items())
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _row(model: Facts) -> dict[str, str]:
    return {
        "name": model["name"] + (" (default)" if model["default"] else ""),
        "Hz": str(model["sample_rate"]),
        "S frames/s": f"{model['s']['frame_rate']:g}",
        "P frames/s": f"{model['p']['frame_rate']:g}",
        "b/s": f"{model['bitrate']:g}",
        "+ bits a clip": str(model["global_bits"]),
        "parameters": f"{model['parameters'] / 1e6:.2f} M",
        "weights": model["weights_licence"],
        "fingerprint": model["fingerprint"],
    }


def _table(rows: Sequence[dict[str, str]]) -> Iterator[str]:
    """Yield a header and a line for each row, in columns two spaces apart."""
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    for row in ({key: key for key in widths}, *rows):
        yield "  ".join(row[key].ljust(width) for key, width in widths.items()).rstrip()
