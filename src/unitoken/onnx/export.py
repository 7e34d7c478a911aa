"""A codec as ONNX graphs, with a runner that needs NumPy and onnxruntime only; or as programs of `torch.export`."""

import importlib.util
import json
import math
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from ..config import CodecConfig
from ..errors import ConfigError, missing_extra
from ..files import replacing
from ..model import windows
from ..model.codec import Codec
from ..model.decoder import EDGE
from ..units import frames_for
from .graphs import EncoderGraph, PitchGraph, VoiceGraph, WaveGraph

OPSET = 20
"""Of the graphs: understood by every onnxruntime from 1.17 on."""
ENCODE_CORE = 2 * windows.CORE
"""Frames of the codec's hop that the runner encodes at once, beside their context."""
PARTS = {"encode": "encoder", "decode": "wave"}
"""Graphs whose residual blocks can be products of bytes. F0 is in none of them: its errors add up to phases."""
_BLOCK = re.compile(r"codec\.[a-z_]+\.(blocks|stages)\.")


def export_onnx(codec: Codec, folder: str | os.PathLike[str], fingerprint: str, *, int8: Collection[str] = ()) -> None:
    """Write a folder with the codec's graphs and a runner for them.

    Args:
        codec: in eval mode, on the CPU.
        folder: made if it is not there; files of an earlier export are replaced.
        fingerprint: of the tokenizer.
        int8: `encode`, `decode`, both or neither: where the products in residual blocks are of bytes, weights scaled by channel and inputs by
            tensor. Decoded speech stays nearly the same; of tokens some are others.

    Raises:
        ConfigError: if `int8` names anything else.
        MissingDependencyError: without the extra `[onnx]`.
    """
    if unknown := set(int8) - set(PARTS):
        raise ConfigError(f"int8 is for encode, decode or both, got {', '.join(sorted(unknown))}")
    _check_extra()
    folder, quantized = Path(folder), [PARTS[part] for part in PARTS if part in int8]
    folder.mkdir(parents=True, exist_ok=True)
    for name, graph in _graphs(codec).items():
        with replacing(folder / f"{name}.onnx") as temporary:
            _write(*graph, temporary, int8=name in quantized)
    with replacing(folder / "runner.py") as temporary:
        shutil.copyfile(Path(__file__).with_name("runner.py"), temporary)
    with replacing(folder / "runner.json") as temporary:
        temporary.write_text(json.dumps(_described(codec, fingerprint, quantized), indent=2) + "\n", encoding="utf-8")


def export_programs(codec: Codec, folder: str | os.PathLike[str]) -> None:
    """Write the same graphs as programs of `torch.export`, `encoder.pt2`, `voice.pt2`, `pitch.pt2` and `wave.pt2`.

    Args:
        codec: in eval mode.
        folder: made if it is not there; files of an earlier export are replaced.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, (module, arguments, shapes) in _graphs(codec).items():
        program = torch.export.export(module.eval(), arguments, dynamic_shapes=shapes)
        with replacing(folder / f"{name}.pt2") as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how torch packs weights
            torch.export.save(program, temporary)


def _graphs(codec: Codec) -> dict[str, tuple[nn.Module, tuple[Tensor, ...], tuple[Any, ...]]]:
    """Return each graph with inputs of an example and which of their sizes are free."""
    config, size = codec.config, codec.config.decoder
    rows, frames = Dim("batch", min=1), Dim("frames", min=3)  # two edges and something between them
    batch, count = 2, 8
    s, p, g = (torch.zeros(batch, *shape, dtype=torch.int64) for shape in _token_shapes(config, count))
    fine, parts = config.hop // size.hop, size.subframes
    start, length = torch.zeros(batch, dtype=torch.int64), torch.full((batch,), count * config.hop)
    tokens = ({0: rows, 1: config.hop // config.hop_s * frames}, {0: rows, 1: config.hop // config.hop_p * frames}, {0: rows})
    placed, per = ({0: rows}, {0: rows}), fine * parts
    f0, strength, phase = torch.full((batch, count * per), 100.0), torch.ones(batch, count * per), torch.zeros(batch, count * per).double()
    noise = torch.zeros(batch, (count * per + 3) * size.stft_hop)
    voiced = {0: rows, 1: per * frames}
    return {
        "encoder": (EncoderGraph(codec), (torch.zeros(batch, count * config.hop), start, length), ({0: rows, 1: config.hop * frames}, *placed)),
        "voice": (VoiceGraph(codec), (torch.zeros(batch, 2 * config.global_.encoder.dims[-1]),), ({0: rows},)),
        "pitch": (PitchGraph(codec), (s, p, g, start, length), (*tokens, *placed)),
        "wave": (
            WaveGraph(codec),
            (s, p, g, f0, strength, phase, noise, start, length),  # no tensor twice: it would be one input
            (*tokens, voiced, voiced, voiced, {0: rows, 1: per * size.stft_hop * frames + 3 * size.stft_hop}, *placed),
        ),
    }


def _token_shapes(config: CodecConfig, frames: int) -> tuple[tuple[int, ...], ...]:
    s, p, g = config.semantic.quantizer, config.residual.quantizer, config.global_.quantizer
    return (frames * config.hop // config.hop_s, s.num_codebooks), (frames * config.hop // config.hop_p, p.num_codebooks), (g.num_codebooks,)


def _check_extra() -> None:
    """Raise `MissingDependencyError` if a package is missing that exporting needs."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra("exporting to ONNX", "onnx")


def _write(module: Any, arguments: tuple[Tensor, ...], shapes: tuple[Any, ...], path: Path, *, int8: bool) -> None:
    import onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of insides of torch's exporter
        program = torch.onnx.export(
            module.eval(),
            arguments,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=list(module.INPUTS),
            output_names=list(module.OUTPUTS),
            opset_version=OPSET,
            verbose=False,
        )
    model = program.model_proto  # pyright: ignore[reportOptionalMemberAccess]
    blocks = _products_in_blocks(model)
    for entry in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, model.graph, model):
        del entry.metadata_props[:]  # among them where this machine keeps its files
    if int8:
        model = _quantized(model, blocks)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _products_in_blocks(model: Any) -> list[str]:
    """Return the names of the products of residual blocks with weights."""
    weights = {tensor.name for tensor in model.graph.initializer}
    scopes = {node.name: entry.value for node in model.graph.node for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and _BLOCK.search(scopes.get(node.name, "")) and any(name in weights for name in node.input)
    ]


def _quantized(model: Any, nodes: Sequence[str]) -> Any:
    import onnx
    from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        prepared, made = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(model, prepared, skip_optimization=True, skip_symbolic_shape=True)
        quantize_dynamic(prepared, made, per_channel=True, weight_type=QuantType.QInt8, nodes_to_quantize=list(nodes))
        return onnx.load(made)


def _described(codec: Codec, fingerprint: str, quantized: Sequence[str]) -> dict[str, Any]:
    """Return what the runner has to know."""
    config, size, decoder = codec.config, codec.config.decoder, codec.decoder
    fine = config.hop // size.hop
    quantizers = {"s": config.semantic.quantizer, "p": config.residual.quantizer, "g": config.global_.quantizer}

    def frames(context: Any) -> list[int]:
        return [math.ceil(context.past / fine), math.ceil(context.future / fine)]

    heard = codec.encode_context_frames
    return {
        "name": config.name,
        "fingerprint": fingerprint,
        "code_licence": config.code_licence,
        "weights_licence": config.weights_licence,
        "opset": OPSET,
        "int8": list(quantized),
        "files": {name: f"{name}.onnx" for name in ("encoder", "voice", "pitch", "wave")},
        "sample_rate": config.sample_rate,
        "hop": config.hop,
        "hops": {stream: codec.hop_of(stream) for stream in "spg"},
        "codebooks": {stream: quantizer.num_codebooks for stream, quantizer in quantizers.items()},
        "codebook_sizes": {stream: quantizer.codebook_size for stream, quantizer in quantizers.items()},
        "dims": {stream: quantizer.dim for stream, quantizer in quantizers.items()},
        "voice_channels": config.global_.encoder.dims[-1],
        "encode_core": ENCODE_CORE,
        "encode_context_frames": [heard.past, heard.future],
        "decode_core": windows.CORE,
        "decoder": {
            "hop": size.hop,
            "stft_hop": size.stft_hop,
            "subframes": size.subframes,
            "phase_memory": size.phase_memory,
            "edge": EDGE,
            "lead": frames_for(EDGE * size.hop, config.hop),
            "context_frames": frames(decoder.context),
            "pitch_context_frames": frames(decoder.pitch.context),
        },
    }
