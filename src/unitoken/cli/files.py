"""`unitoken encode`, `decode` and `convert`: audio files to token files, and back."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import Tensor

from ..audio import AUDIO_SUFFIXES, audio_info, save_audio
from ..errors import AudioFileError, TokenError, TokenFileError
from ..tokenizer import Tokenizer
from ..tokens import TokenBundle
from .messages import UsageError, shown
from .options import AudioFormat, Device, Force, Format, Inputs, Model, Revision, load_tokenizer
from .paths import TOKENS, WRITTEN_AUDIO, Job, plan
from .work import Item, Process, run

Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="OUT", help="File for one input, else a folder; without it, beside each file.")
]
IgnoreFingerprint = Annotated[bool, typer.Option("--ignore-fingerprint", help="Take tokens of another model too, if the sizes fit.")]


def encode(
    inputs: Inputs, output: Output = None, model: Model = None, revision: Revision = None, device: Device = "cpu", force: Force = False
) -> None:
    """Encode audio files to token files (.utok).

    Folders are searched for audio, and the results lie in OUT as the audio lay in the folder. Nothing is done if a result exists.
    """
    jobs = plan(inputs, output, AUDIO_SUFFIXES, TOKENS)

    def start() -> Process:
        tokenizer = load_tokenizer(model, revision, device)

        def process(batch: Sequence[Item]) -> None:
            for item, bundle in zip(batch, _encoded(tokenizer, batch), strict=True):
                _make_folder(item)
                bundle.save(item.target)

        return process

    run("encoded", jobs, _look_at_audio, start, force=force)


def decode(
    inputs: Inputs,
    output: Output = None,
    format_: Format = None,
    without_p: Annotated[bool, typer.Option("--without-p", help="Leave the residual stream out: S and G only.")] = False,
    voice: Annotated[Path | None, typer.Option("--voice", metavar="REF", exists=True, help="Take the voice of this audio or token file.")] = None,
    ignore_fingerprint: IgnoreFingerprint = False,
    model: Model = None,
    revision: Revision = None,
    device: Device = "cpu",
    force: Force = False,
) -> None:
    """Decode token files (.utok) to audio.

    Folders are searched for token files. The bundles of a file that holds several become files with numbers: talk-0.wav, talk-1.wav.
    """
    jobs = plan(inputs, output, (TOKENS,), _suffix(output, format_))

    def start() -> Process:
        tokenizer = load_tokenizer(model, revision, device)
        changes: dict[str, Any] = {"p": None} if without_p else {}
        if voice is not None:
            changes["g"] = _voice(tokenizer, [voice], ignore_fingerprint)
        load = lru_cache(maxsize=1)(TokenBundle.load_many)  # the bundles of one file follow each other

        def process(batch: Sequence[Item]) -> None:
            bundles = [load(item.source)[item.index] for item in batch]
            for item, bundle in zip(batch, bundles, strict=True):
                _check_maker(item.source, bundle, tokenizer, ignore_fingerprint)
            _write_decoded(tokenizer, batch, [bundle.replace(**changes) for bundle in bundles])

        return process

    run("decoded", jobs, _look_at_tokens, start, force=force)


def convert(
    inputs: Annotated[list[Path], typer.Argument(metavar="SOURCE", exists=True, help="Audio files, and folders with all that is in them.")],
    voice: Annotated[list[Path], typer.Option("--voice", metavar="REF", exists=True, help="Audio of the voice, several times for more of it.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="File for one input, else a folder.")],
    format_: Format = None,
    ignore_fingerprint: IgnoreFingerprint = False,
    model: Model = None,
    revision: Revision = None,
    device: Device = "cpu",
    force: Force = False,
) -> None:
    """Say what SOURCE says in the voice of REF.

    Words and melody are those of SOURCE, the global tokens those of REF: audio files, or one token file.
    """
    jobs = plan(inputs, output, AUDIO_SUFFIXES, _suffix(output, format_))

    def start() -> Process:
        tokenizer = load_tokenizer(model, revision, device)
        g = _voice(tokenizer, voice, ignore_fingerprint)

        def process(batch: Sequence[Item]) -> None:
            _write_decoded(tokenizer, batch, [bundle.replace(g=g) for bundle in _encoded(tokenizer, batch)])

        return process

    run("converted", jobs, _look_at_audio, start, force=force)


def _look_at_audio(job: Job) -> list[Item]:
    return [Item(job.source, job.target, audio_info(job.source).seconds)]


def _encoded(tokenizer: Tokenizer, batch: Sequence[Item]) -> list[TokenBundle]:
    """Encode files and refuse those that end before their header says; a header may be off by a little where it is an estimate.

    Raises:
        AudioFileError: if one does.
    """
    bundles = tokenizer.encode([item.source for item in batch])
    for item, bundle in zip(batch, bundles, strict=True):
        if bundle.seconds < 0.98 * item.seconds - 0.1:
            raise AudioFileError(
                f"{shown(item.source)} is cut short: {bundle.seconds:.1f} s of {item.seconds:.1f} s can be decoded; take another copy, or save "
                "what is there with load_audio and save_audio"
            )
    return bundles


def _write_decoded(tokenizer: Tokenizer, batch: Sequence[Item], bundles: Sequence[TokenBundle]) -> None:
    """Decode bundles whose maker was looked at, and save them; one by itself, which may be long, block by block."""
    waveforms = [tokenizer.decode_blocks(bundles[0], force=True)] if len(bundles) == 1 else tokenizer.decode(bundles, force=True)
    for item, waveform in zip(batch, waveforms, strict=True):
        _make_folder(item)
        save_audio(item.target, waveform, tokenizer.sample_rate)


def _look_at_tokens(job: Job) -> list[Item]:
    """Return the bundles of a token file; the targets of several get numbers of equal width."""
    bundles = TokenBundle.load_many(job.source)
    if not bundles:
        raise TokenFileError(f"{shown(job.source)} holds no bundle, there is nothing to decode")
    if len(bundles) == 1:
        return [Item(job.source, job.target, bundles[0].seconds)]
    width = len(str(len(bundles) - 1))
    names = [f"{job.target.stem}-{index:0{width}}{job.target.suffix}" for index in range(len(bundles))]
    return [
        Item(job.source, job.target.with_name(name), bundle.seconds, index) for index, (name, bundle) in enumerate(zip(names, bundles, strict=True))
    ]


def _suffix(output: Path | None, format_: AudioFormat | None) -> str:
    """Return the suffix of the audio to write."""
    if format_ is not None:
        return f".{format_.value}"
    return output.suffix.lower() if output is not None and output.suffix.lower() in WRITTEN_AUDIO and not output.is_dir() else ".wav"


def _make_folder(item: Item) -> None:
    item.target.parent.mkdir(parents=True, exist_ok=True)


def _voice(tokenizer: Tokenizer, references: Sequence[Path], ignore_fingerprint: bool) -> Tensor:
    """Return the global tokens of one voice.

    Raises:
        UsageError: if a token file is not the only reference.
        TokenError: if a token file has no global tokens, or another tokenizer made it.
    """
    tokens = [path for path in references if path.suffix.lower() == TOKENS]
    if not tokens:
        return tokenizer.encode_global(list(references))
    if len(references) > 1:
        raise UsageError(f"the token file {shown(tokens[0])} is a whole voice; give no other --voice beside it")
    bundle = TokenBundle.load(tokens[0])
    if bundle.g is None:
        raise TokenError(f"{shown(tokens[0])} has no global tokens, so no voice; encode its audio again, or give the audio")
    _check_maker(tokens[0], bundle, tokenizer, ignore_fingerprint)
    return bundle.g


def _check_maker(path: Path, bundle: TokenBundle, tokenizer: Tokenizer, ignore_fingerprint: bool) -> None:
    theirs, ours = bundle.info, tokenizer.info
    if theirs.fingerprint not in tokenizer.decodes and not ignore_fingerprint:
        raise TokenError(
            f"{shown(path)} was made by the model {theirs.name} ({theirs.fingerprint:.8}), this one is {ours.name} ({ours.fingerprint:.8}): "
            "its tokens mean something else here; name its model with --model, or add --ignore-fingerprint"
        )
