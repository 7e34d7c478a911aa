"""Speaker similarity by a GE2E embedder (Wan et al., arXiv 1710.10467): cosine of unit vectors; for measuring only, never a training loss.

The network is a 3-layer LSTM of 256 cells on 40 mel powers and a linear layer, as in the published Resemblyzer weights (Apache-2.0). The
weights are a safetensors file with the tensors `lstm.*` and `linear.*`; they are not part of this package.
"""

import math
import os

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import AudioError, ModelError
from .mel import mel_filters

SAMPLE_RATE = 16000
WINDOW, HOP, BANDS, DIM = 400, 160, 40, 256
PART_FRAMES, STEP_FRAMES = 160, 77
"""Windows of 1.6 s, 1.3 of them a second."""
MIN_FILLED = 0.75
"""A last window with less speech than this share of it is left out, unless it is the only one."""
TARGET_DBFS = -30.0


class SpeakerEmbedder:
    """Turns a clip into a unit vector that tells speakers apart.

    Args:
        path: the weights, a safetensors file.

    Raises:
        ModelError: if the file is missing or holds other tensors.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not os.path.isfile(path):
            raise ModelError(f"no speaker weights at {os.fspath(path)}; give the path of a GE2E safetensors file")
        self.network = nn.ModuleDict({"lstm": nn.LSTM(BANDS, DIM, 3, batch_first=True), "linear": nn.Linear(DIM, DIM)}).eval()
        try:
            self.network.load_state_dict(safetensors.torch.load_file(path))
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise ModelError(f"{os.fspath(path)} does not hold a GE2E embedder (lstm.* and linear.*): {error}") from error
        self.filters = mel_filters(BANDS, WINDOW, SAMPLE_RATE)
        self.window = torch.hann_window(WINDOW)

    @torch.no_grad()
    def embed(self, waveform: Tensor) -> Tensor:
        """Return the clip's embedding: the mean over windows of 1.6 s, of unit length.

        Args:
            waveform: float32 `(samples,)` at 16 kHz, in [-1, 1]; clips below -30 dBFS are raised to it.

        Returns:
            float32 `(256,)`, norm 1.

        Raises:
            AudioError: if there are no samples or more than one axis.
        """
        if waveform.ndim != 1 or not len(waveform):
            raise AudioError(f"expected a waveform (samples,) with at least one sample, got {tuple(waveform.shape)}")
        parts = self._parts(self._mel(_raised(waveform)), len(waveform))
        _, (hidden, _) = self.network["lstm"](parts)
        each = F.normalize(F.relu(self.network["linear"](hidden[-1])), dim=1)  # (windows, 256)
        return F.normalize(each.mean(0), dim=0)

    def similarity(self, first: Tensor, second: Tensor) -> float:
        """Return the cosine of two clips' embeddings, 0 to 1."""
        return float(self.embed(first) @ self.embed(second))

    def _mel(self, waveform: Tensor) -> Tensor:
        spectrum = torch.stft(waveform, WINDOW, HOP, window=self.window, pad_mode="constant", return_complex=True)
        return (self.filters @ spectrum.abs().square()).T  # (STFT frames, bands)

    def _parts(self, mel: Tensor, samples: int) -> Tensor:
        count = 1 + max(0, math.ceil((len(mel) - PART_FRAMES) / STEP_FRAMES))
        last = (count - 1) * STEP_FRAMES
        if count > 1 and samples - last * HOP < MIN_FILLED * PART_FRAMES * HOP:
            count, last = count - 1, last - STEP_FRAMES
        mel = F.pad(mel, (0, 0, 0, max(0, last + PART_FRAMES - len(mel))))
        return torch.stack([mel[start : start + PART_FRAMES] for start in range(0, last + 1, STEP_FRAMES)])


def _raised(waveform: Tensor) -> Tensor:
    level = 10 * torch.log10(waveform.square().mean() + 1e-12)
    return waveform * 10 ** ((TARGET_DBFS - level).clamp_min(0) / 20)
