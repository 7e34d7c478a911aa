"""Semantic teachers: frozen speech encoders whose features the semantic stream learns to predict.

A teacher is anything with `features(waveform) -> (batch, frames, dim)` and a `frame_rate`; `load_teacher` builds one from a Hugging Face
Whisper, wav2vec 2.0, HuBERT, WavLM or w2v-BERT 2.0 encoder, by Hub name or local folder. All of them get the same padding, in training and in
probes: `PADDING` samples of silence behind the clip, and none in front (a Whisper encoder sees the clip and that silence, not 30 s). w2v-BERT is
told which frames these are, as it was when it learnt.
"""

import os
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import TrainError, missing_extra

PADDING = 32000
"""Samples of silence (2 s at 16 kHz) put behind every clip that a teacher hears."""


class Teacher(Protocol):
    """A frozen encoder of 16 kHz speech.

    Attributes:
        name: what it was loaded from, with the layer.
        dim: number of features a frame.
        frame_rate: frames a second.
    """

    name: str
    dim: int
    frame_rate: int

    def features(self, waveform: Tensor, padding: int = PADDING) -> Tensor:
        """Return float32 `(batch, frames, dim)` for float32 `(batch, samples)` at 16 kHz in [-1, 1]; `frames = samples * frame_rate // 16000`.

        Weights get no gradient, the waveform does. `padding` samples of silence are put behind it; without any, an
        encoder whose frames are wider than their hop (wav2vec 2.0, HuBERT, WavLM) gives a frame or two less.
        """
        ...


class WhisperTeacher:
    """Hidden states of a Whisper encoder (Radford et al., arXiv 2212.04356), without its padding to 30 s.

    Args:
        encoder: a `transformers` Whisper encoder, already in eval mode.
        extractor: its feature extractor; only the mel filters are used.
        layer: 0 is the embedding, `n` the output of block `n`; the last one goes through the final norm. None is the last.
        name: what to call it in reports.

    Raises:
        TrainError: if the encoder has no such layer.
    """

    frame_rate = 50

    def __init__(self, encoder: nn.Module, extractor: Any, layer: int | None, name: str) -> None:
        self.encoder: Any = encoder.requires_grad_(False)
        self.depth = len(self.encoder.layers)
        self.layer = _layer(layer, self.depth, name)
        self.name = f"{name}#{self.layer}"
        self.dim = int(self.encoder.config.d_model)
        weight = self.encoder.conv1.weight
        self.filters = torch.as_tensor(extractor.mel_filters, dtype=torch.float32, device=weight.device).T
        self.window = torch.hann_window(400, device=weight.device)

    def log_mel(self, waveform: Tensor) -> Tensor:
        """Return Whisper's log-mel `(batch, mels, STFT frames)`: log10, 8 decades below the clip's maximum at most, scaled by 1/4."""
        power = torch.stft(waveform, 400, 160, window=self.window, return_complex=True)[..., :-1].abs() ** 2
        mel = torch.log10((self.filters @ power).clamp_min(1e-10))
        return (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8) + 4) / 4

    def features(self, waveform: Tensor, padding: int = PADDING) -> Tensor:
        """Return float32 `(batch, frames, dim)`; see `Teacher.features`. At most 28 s a clip."""
        frames = waveform.shape[1] * self.frame_rate // 16000
        positions = self.encoder.embed_positions.weight
        mel = self.log_mel(F.pad(waveform.to(self.filters.device), (0, padding))).to(self.encoder.conv1.weight.dtype)
        hidden = F.gelu(self.encoder.conv2(F.gelu(self.encoder.conv1(mel)))).transpose(1, 2)
        if hidden.shape[1] > len(positions):
            raise TrainError(f"a clip of {waveform.shape[1] / 16000:.1f} s is longer than {self.name} can hear; cut it to 28 s")
        hidden = hidden + positions[: hidden.shape[1]]
        for block in list(self.encoder.layers)[: self.layer]:
            out = block(hidden, None)
            hidden = out[0] if isinstance(out, tuple) else out
        if self.layer == self.depth:
            hidden = self.encoder.layer_norm(hidden)
        return hidden[:, :frames].float()


class SpeechModelTeacher:
    """Hidden states of a wav2vec 2.0, HuBERT or WavLM model.

    Args:
        model: the `transformers` model, in eval mode.
        layer: as in `transformers`: 0 is the input of the first block, `n` the output of block `n`. None is the last.
        normalize: whether the model expects waveforms of zero mean and unit variance (its feature extractor's `do_normalize`).
        name: what to call it in reports.
    """

    frame_rate = 50

    def __init__(self, model: nn.Module, layer: int | None, normalize: bool, name: str) -> None:
        self.model: Any = model.requires_grad_(False)
        self.layer = _layer(layer, int(self.model.config.num_hidden_layers), name)
        self.normalize = normalize
        self.name = f"{name}#{self.layer}"
        self.dim = int(self.model.config.hidden_size)

    def features(self, waveform: Tensor, padding: int = PADDING) -> Tensor:
        """Return float32 `(batch, frames, dim)`; see `Teacher.features`."""
        frames = waveform.shape[1] * self.frame_rate // 16000
        if self.normalize:
            waveform = (waveform - waveform.mean(1, keepdim=True)) / (waveform.std(1, keepdim=True) + 1e-5)
        hidden = self.model(F.pad(waveform, (0, padding)).to(self.model.device), output_hidden_states=True).hidden_states[self.layer]
        return hidden[:, :frames].float()


class BertTeacher:
    """Hidden states of a w2v-BERT 2.0 model (Barrault et al., arXiv 2312.05187), which hears pairs of log-mel frames.

    Args:
        model: the `transformers` model, in eval mode.
        extractor: its feature extractor; only the mel filters and the window are used.
        layer: as in `transformers`: 0 is the input of the first block, `n` the output of block `n`. None is the last.
        name: what to call it in reports.

    Raises:
        TrainError: if the model has no such layer.
    """

    frame_rate = 50

    def __init__(self, model: nn.Module, extractor: Any, layer: int | None, name: str) -> None:
        self.model: Any = model.requires_grad_(False)
        self.layer = _layer(layer, int(self.model.config.num_hidden_layers), name)
        self.name = f"{name}#{self.layer}"
        self.dim = int(self.model.config.hidden_size)
        self.filters = torch.as_tensor(extractor.mel_filters, dtype=torch.float32, device=self.model.device)
        self.window = torch.as_tensor(extractor.window, dtype=torch.float32, device=self.model.device)

    def log_mel(self, waveform: Tensor) -> Tensor:
        """Return Kaldi's log-mel `(batch, STFT frames, mels)` of 25 ms every 10 ms: no mean, emphasis of 0.97, power, natural logarithm."""
        pieces = (waveform.to(self.window.device) * 2**15).unfold(1, 400, 160)
        pieces = pieces - pieces.mean(-1, keepdim=True)
        pieces = torch.cat([pieces[..., :1] * (1 - 0.97), pieces[..., 1:] - 0.97 * pieces[..., :-1]], -1)
        power = torch.fft.rfft(pieces * self.window, 512).abs() ** 2
        return torch.log((power @ self.filters).clamp_min(2**-23))

    def features(self, waveform: Tensor, padding: int = PADDING) -> Tensor:
        """Return float32 `(batch, frames, dim)`; see `Teacher.features`."""
        frames, own = waveform.shape[1] * self.frame_rate // 16000, max(2, (waveform.shape[1] - 400) // 160 + 1)
        mel = self.log_mel(F.pad(waveform, (0, padding)))
        mean, variance = mel[:, :own].mean(1, keepdim=True), mel[:, :own].var(1, keepdim=True)
        mel = (mel - mean) / torch.sqrt(variance + 1e-7)
        pairs = mel[:, : mel.shape[1] // 2 * 2].reshape(len(mel), mel.shape[1] // 2, -1)
        heard = (2 * torch.arange(pairs.shape[1], device=mel.device) + 1 < own).long().expand(len(mel), -1)
        hidden = self.model(pairs, attention_mask=heard, output_hidden_states=True).hidden_states[self.layer]
        return hidden[:, :frames].float()


def _layer(layer: int | None, depth: int, name: str) -> int:
    if layer is None:
        return depth
    if not 0 <= layer <= depth:
        raise TrainError(f"{name} has layers 0 to {depth}, not {layer}")
    return layer


def load_teacher(
    name_or_path: str | os.PathLike[str], layer: int | None = None, *, device: str | torch.device = "cpu", bfloat16: bool = False
) -> Teacher:
    """Load a Whisper, wav2vec 2.0, HuBERT, WavLM or w2v-BERT 2.0 encoder as a teacher.

    Args:
        name_or_path: a Hub name, or a folder with a `transformers` model.
        layer: which hidden state; None is the last.
        device: where it runs.
        bfloat16: whether a Whisper encoder computes in bfloat16, after the spectrogram; features are float32 in any case. The others hear samples,
            of which bfloat16 would leave too little: they stay in float32.

    Raises:
        MissingDependencyError: without the extra `[teachers]`.
        TrainError: if it is a model of another kind, or has no such layer.
    """
    try:
        import transformers
    except ImportError as error:
        raise missing_extra("a Hugging Face teacher", "teachers") from error
    with torch.device("meta"):  # now torch lists its constructors; while transformers loads a model, torch.linspace is another one
        torch.empty(0)
    name = os.fspath(name_or_path)
    config = transformers.AutoConfig.from_pretrained(name)
    label = os.path.basename(os.path.normpath(name))
    if config.model_type == "whisper":
        encoder: Any = transformers.WhisperModel.from_pretrained(name, dtype=torch.bfloat16 if bfloat16 else torch.float32).get_encoder()
        return WhisperTeacher(encoder.eval().to(device), transformers.WhisperFeatureExtractor.from_pretrained(name), layer, label)
    if config.model_type in {"wav2vec2", "hubert", "wavlm"}:
        model: Any = transformers.AutoModel.from_pretrained(name, dtype=torch.float32)
        normalize = bool(transformers.AutoFeatureExtractor.from_pretrained(name).do_normalize)
        return SpeechModelTeacher(model.eval().to(device), layer, normalize, label)
    if config.model_type == "wav2vec2-bert":
        model = transformers.AutoModel.from_pretrained(name, dtype=torch.float32)
        return BertTeacher(model.eval().to(device), transformers.AutoFeatureExtractor.from_pretrained(name), layer, label)
    raise TrainError(f"{name} is a {config.model_type} model; teachers are whisper, wav2vec2, hubert, wavlm and wav2vec2-bert encoders")
