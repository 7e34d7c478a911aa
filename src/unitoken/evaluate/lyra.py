"""Lyra v2 as a baseline: its published TensorFlow Lite networks (a SoundStream encoder, a residual quantizer and LyraGAN), frame by frame."""

import importlib
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError, MissingDependencyError, ModelError
from .codecs import Roundtrip

FILES = ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite")
FRAME = 320
"""Samples at 16 kHz: 20 ms."""
RATES = {3200: 64, 6000: 120, 9200: 184}
"""Bits of a frame."""
STAGE_BITS, STAGES = 4, 46
"""Bits of one stage of the quantizer, and how many stages it has."""


class Lyra:
    """Lyra v2 at 3.2, 6 or 9.2 kb/s through its networks; the quantizer's first 16, 30 or 46 stages of 4 bits make a frame.

    Args:
        folder: where `soundstream_encoder.tflite`, `quantizer.tflite` and `lyragan.tflite` lie.
        bitrate: bits a second.
        threads: CPU threads.

    Raises:
        ConfigError: for another bitrate.
        ModelError: if a file is missing.
        MissingDependencyError: without the package `ai-edge-litert`.
    """

    def __init__(self, folder: str | os.PathLike[str], bitrate: int = 3200, *, threads: int = 1) -> None:
        if bitrate not in RATES:
            raise ConfigError(f"unknown bitrate of Lyra {bitrate}; there are: {', '.join(map(str, RATES))}")
        if missing := [name for name in FILES if not (Path(folder) / name).is_file()]:
            raise ModelError(f"{os.fspath(folder)} lacks {', '.join(missing)}; give the folder of Lyra's published networks")
        self._made_of = os.fspath(folder), bitrate, threads
        self.frame_bits = RATES[bitrate]
        self.name = f"Lyra {bitrate / 1000:g}k"
        self._encoder, quantizer, self._decoder = (_interpreter(Path(folder) / name, threads) for name in FILES)
        self._encoder.allocate_tensors()
        self._decoder.allocate_tensors()
        self._quantize, self._dequantize = quantizer.get_signature_runner("encode"), quantizer.get_signature_runner("decode")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what it was made of: the interpreters stay in their process."""
        folder, bitrate, threads = self._made_of
        return partial(Lyra, threads=threads), (folder, bitrate)

    def roundtrip(self, waveform: Tensor, clip: str = "") -> Roundtrip:
        """Encode and decode one clip, both networks starting afresh."""
        start = time.perf_counter()
        frames = F.pad(waveform, (0, -len(waveform) % FRAME)).view(-1, FRAME).numpy()
        self._encoder.reset_all_variables()
        codes = [self._encode(frame) for frame in frames]
        encoded = time.perf_counter()
        self._decoder.reset_all_variables()
        pieces = [torch.from_numpy(self._decode(code)) for code in codes]
        decoded = torch.cat([torch.zeros(0), *pieces])[: len(waveform)].clamp(-1, 1)
        return Roundtrip(decoded, len(frames) * self.frame_bits, None, encoded - start, time.perf_counter() - encoded)

    def _encode(self, frame: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        features = _through(self._encoder, frame[None])
        stages = self.frame_bits // STAGE_BITS
        return self._quantize(input_frames=features, num_quantizers=np.array(stages, np.int32))["output_0"].reshape(-1)[:stages]

    def _decode(self, code: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        indices = np.full((STAGES, 1, 1), -1, np.int32)
        indices[: len(code), 0, 0] = code
        features = self._dequantize(encoding_indices=indices)["output_0"]
        return _through(self._decoder, features.astype(np.float32)).reshape(-1)


def _interpreter(path: Path, threads: int) -> Any:
    try:
        interpreter = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError as error:
        raise MissingDependencyError("Lyra needs a runtime for TensorFlow Lite; run: pip install ai-edge-litert") from error
    return interpreter.Interpreter(str(path), num_threads=threads)


def _through(network: Any, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return what a network with one input and one output makes of an array."""
    network.set_tensor(network.get_input_details()[0]["index"], values)
    network.invoke()
    return network.get_tensor(network.get_output_details()[0]["index"])
