"""How good speech sounds to people, foretold: DNSMOS P.808 (Reddy et al., arXiv 2010.15258), for measuring only, never a training loss.

The network is the published ONNX file (`model_v8.onnx`); it is not part of this package.
"""

import math
import os
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import AudioError, ModelError
from .extras import require

SAMPLE_RATE = 16000
WINDOW = int(9.01 * SAMPLE_RATE)
STEP = SAMPLE_RATE
N_FFT, HOP, BANDS, FRAMES = 321, 160, 120, 900


class Dnsmos:
    """Foretells the mean opinion score that listeners would give a clip.

    Args:
        path: the ONNX file.
        threads: CPU threads.

    Raises:
        ModelError: if the file is missing or another network.
        MissingDependencyError: without the extra `[evaluate]`.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 1) -> None:
        if not os.path.isfile(path):
            raise ModelError(f"no DNSMOS network at {os.fspath(path)}; give the path of model_v8.onnx")
        runtime = require("onnxruntime", "DNSMOS")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        try:
            self.session = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has an exception of its own for each way to fail
            raise ModelError(f"{os.fspath(path)} is not an ONNX network: {error}") from error
        inputs = [(each.name, list(each.shape)[1:]) for each in self.session.get_inputs()]
        if inputs != [("input_1", [FRAMES, BANDS])]:
            raise ModelError(f"{os.fspath(path)} takes {inputs}, not the log-mel that DNSMOS P.808 takes; give the path of model_v8.onnx")
        self._made_of = os.fspath(path), threads
        self.window = torch.hann_window(N_FFT)
        self.filters = _filters()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what it was made of: the network's session stays in its process."""
        path, threads = self._made_of
        return partial(Dnsmos, threads=threads), (path,)

    def score(self, waveform: Tensor) -> float | None:
        """Return the score, about 1 to 5: the mean over windows of 9.01 s, one a second; None for digital silence or no samples.

        A clip shorter than a window is played again and again until it fills one.

        Args:
            waveform: float32 `(samples,)` at 16 kHz, in [-1, 1].

        Raises:
            AudioError: if the waveform has more than one axis.
        """
        if waveform.ndim != 1:
            raise AudioError(f"expected a mono waveform (samples,), got {tuple(waveform.shape)}; mix it down first")
        if not waveform.any():
            return None
        while len(waveform) < WINDOW:
            waveform = torch.cat([waveform, waveform])
        parts = torch.stack([self._log_mel(part) for part in waveform.unfold(0, WINDOW, STEP)])
        scores = self.session.run(None, {"input_1": parts.numpy()})[0]
        return float(scores.mean())

    def _log_mel(self, part: Tensor) -> Tensor:
        """Return float32 `(900, 120)`: 0 to -40 dB under the loudest becomes 1 to 0; what is softer than -80 dB counts as that."""
        spectrum = torch.stft(part[:-HOP], N_FFT, HOP, window=self.window, pad_mode="constant", return_complex=True)
        power = (self.filters @ spectrum.abs().square()).T.clamp_min(1e-10)
        decibel = 10 * (power / power.max()).log10()
        return (decibel.clamp_min(-80) + 40) / 40


def _filters() -> Tensor:
    """Return triangles of unit area on Slaney's mel scale, float32 `(bands, bins)`; narrow ones may fall between two bins and stay empty."""
    step = math.log(6.4) / 27
    points = torch.linspace(0, 15 + math.log(SAMPLE_RATE / 2 / 1000) / step, BANDS + 2, dtype=torch.float64)[:, None]
    edges = torch.where(points < 15, points * 200 / 3, 1000 * torch.exp(step * (points - 15)))
    bins = torch.arange(N_FFT // 2 + 1, dtype=torch.float64) * SAMPLE_RATE / N_FFT
    rise, fall = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2]), (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return (torch.minimum(rise, fall).clamp_min(0) * 2 / (edges[2:] - edges[:-2])).float()
