"""Stage 1: P, G and the decoder learn to rebuild speech around semantic tokens that stay as they are."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import CodecConfig
from ..model.codec import Codec
from ..model.decoder import EDGE
from .augment import Perturbation, perturb
from .codes import SemanticCodes
from .losses import SpectralLoss, band_limits, voiced_loss
from .noise import NoiseBank
from .pitch import HOP as PITCH_HOP
from .pitch import PitchCache
from .pool import Pool, Utterance
from .quantizers import build_trainer, masked_mean
from .sampling import SpeakerSampler


@dataclass(frozen=True)
class ReconstructionSettings:
    """Settings of the reconstruction and adversarial stages.

    Attributes:
        batch: utterances a step.
        seconds: crop that is rebuilt.
        reference_seconds: crop that the global encoder hears, another one of the same utterance or speaker.
        other_utterance: probability that it is of another utterance of the speaker.
        drop_p: share of utterances decoded without P.
        drop_g: share of utterances decoded without G.
        perturbation: of P's input: pitch and formants, so that P holds what is relative and G what is the speaker's.
        weights: of the losses.
    """

    batch: int = 12
    seconds: float = 2.0
    reference_seconds: float = 2.4
    other_utterance: float = 0.3
    drop_p: float = 0.15
    drop_g: float = 0.03
    perturbation: Perturbation = field(default_factory=lambda: Perturbation(1.25, 1.15, 0.0, 1.0, 0.0, 0.6))
    weights: tuple[tuple[str, float], ...] = (("mel", 1.0), ("magnitude", 2.0), ("commit", 1.0), ("pitch", 0.1), ("energy", 0.1))


@dataclass(frozen=True)
class Example:
    """One step's data.

    Attributes:
        clean: float32 `(batch, samples)`, what is to be rebuilt, zero behind an utterance's end.
        degraded: float32 `(batch, samples)`, what P's encoder hears before perturbation.
        samples: int64 `(batch,)`, valid samples of each row.
        tokens: int64 `(batch, frames of S, 1)`.
        reference: float32 `(batch, reference samples)` for the global encoder.
        reference_samples: int64 `(batch,)`.
        pitch: float32 `(batch, frames of 20 ms)`, relative log-F0, NaN without voice.
        limits: float32 `(batch,)`, Hz.
    """

    clean: Tensor
    degraded: Tensor
    samples: Tensor
    tokens: Tensor
    reference: Tensor
    reference_samples: Tensor
    pitch: Tensor
    limits: Tensor

    def to(self, device: torch.device) -> "Example":
        """Return the example on a device."""
        return Example(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


class ExampleMaker:
    """Draws examples: crops, their semantic tokens and pitch, and another crop for the global encoder.

    Args:
        pool: the audio.
        utterances: what to draw from.
        codes: semantic tokens of the pool.
        pitch: pitch of the pool.
        config: the codec's.
        settings: crop sizes.
        noise: for P's input; None for clean input.
        seed: of the order.
    """

    def __init__(
        self,
        pool: Pool,
        utterances: list[Utterance],
        codes: SemanticCodes,
        pitch: PitchCache,
        config: CodecConfig,
        settings: ReconstructionSettings,
        noise: NoiseBank | None,
        seed: int,
    ) -> None:
        self.pool, self.codes, self.pitch, self.config, self.settings, self.noise, self.seed = pool, codes, pitch, config, settings, noise, seed
        self.sampler = SpeakerSampler(utterances, seed=seed)
        self.by_speaker = dict[tuple[str, str], list[Utterance]]()
        for utterance in utterances:
            if utterance.speaker != "unk":
                self.by_speaker.setdefault(utterance.who, []).append(utterance)

    def make(self, step: int) -> Example:
        """Return the example of one step; the same step gives the same example."""
        hop, settings, rate = self.config.hop, self.settings, self.config.sample_rate
        random = np.random.default_rng((self.seed, 7, step))
        crops = self.sampler.draw(step, settings.batch, int(settings.seconds * rate) // hop * hop, hop)
        width = -(-max(crop.samples for crop in crops) // hop) * hop
        clean, count = np.zeros((len(crops), width), np.float32), np.zeros(len(crops), np.int64)
        degraded = clean.copy()
        tokens = np.zeros((len(crops), width // self.config.hop_s, 1), np.int64)
        pitch = np.full((len(crops), width // PITCH_HOP), np.nan, np.float32)
        references = list[np.ndarray]()
        for row, crop in enumerate(crops):
            wave = self.pool.wave(crop.utterance, crop.start, crop.samples)
            clean[row, : len(wave)], count[row] = wave, len(wave)
            degraded[row, : len(wave)] = self.noise.degrade(wave, random, room=0.0, noise=0.15) if self.noise else wave
            frames = -(-crop.samples // self.config.hop_s)
            tokens[row, :frames, 0] = self.codes.get(crop.utterance, crop.start // self.config.hop_s, frames)
            pitch[row] = self.pitch.get(crop.utterance, crop.start // PITCH_HOP, width // PITCH_HOP)
            references.append(self._reference(crop.utterance, random))
        longest = -(-max(len(wave) for wave in references) // hop) * hop
        reference = np.stack([np.pad(wave, (0, longest - len(wave))) for wave in references])
        lengths = np.array([len(wave) for wave in references], np.int64)
        arrays = {"clean": clean, "degraded": degraded, "samples": count, "tokens": tokens, "reference": reference}
        arrays |= {"reference_samples": lengths, "pitch": pitch}
        limits = band_limits([crop.utterance.source for crop in crops])
        return Example(limits=limits, **{name: torch.from_numpy(array) for name, array in arrays.items()})

    def _reference(self, utterance: Utterance, random: np.random.Generator) -> np.ndarray:
        others = self.by_speaker.get(utterance.who, [])
        if len(others) > 1 and random.random() < self.settings.other_utterance:
            utterance = others[int(random.integers(len(others)))]
        length = min(utterance.samples, int(self.settings.reference_seconds * self.config.sample_rate))
        return self.pool.wave(utterance, int(random.integers(0, utterance.samples - length + 1)), length)


class Reconstructor(nn.Module):
    """The codec with what only training needs: quantizer trainers, pitch and energy heads of P, losses.

    The semantic encoder and codebook get no gradient.

    Args:
        codec: what is trained.
        settings: dropouts, perturbation and weights.
        autocast: bfloat16 for encoders and decoder.
    """

    def __init__(self, codec: Codec, settings: ReconstructionSettings, *, autocast: bool = True) -> None:
        super().__init__()
        self.codec, self.settings, self.autocast = codec, settings, autocast
        for module in (codec.semantic, codec.quantizer_s):
            module.requires_grad_(False)
        self.trainer_p = build_trainer(codec.quantizer_p)
        self.trainer_g = build_trainer(codec.quantizer_g)
        self.steps = codec.config.hop_p // PITCH_HOP
        self.heads = nn.Sequential(nn.Linear(codec.config.residual.quantizer.dim, 128), nn.GELU(), nn.Linear(128, 3 * self.steps))
        self.spectral = SpectralLoss(codec.config.sample_rate)

    def forward(self, example: Example, generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return the losses by name, the decoded waveform and the samples' mask, float32 `(batch, samples)` each."""
        codec, device = self.codec, example.clean.device
        batch, samples = example.clean.shape
        with torch.no_grad():
            features = codec.front_end.compress(perturb(codec.front_end.magnitudes(example.degraded), self.settings.perturbation, generator))
            reference = codec.front_end(example.reference)
        mask_p = self._mask(example.samples, samples // codec.config.hop_p, codec.config.hop_p)
        hop_g = codec.config.front_end.hop * codec.config.global_.encoder.stride
        mask_g = self._mask(example.reference_samples, example.reference.shape[1] // hop_g, hop_g)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
            latent_p = codec.residual(features * mask_p.repeat_interleave(features.shape[1] // mask_p.shape[1], 1), mask_p)
            frames_g = codec.global_encoder(reference * mask_g.repeat_interleave(reference.shape[1] // mask_g.shape[1], 1), mask_g)
        latent_g = codec.global_latent(codec.global_statistics(frames_g.float(), mask_g))
        p = self.trainer_p(latent_p.float(), mask_p)
        g = self.trainer_g(latent_g[:, None], torch.ones(batch, 1, 1, device=device))
        decoded = self._decode(example, p.codewords, g.codewords[:, 0], generator)
        mask = (torch.arange(samples, device=device)[None] < example.samples[:, None]).float()
        losses = self.spectral(decoded, example.clean, mask, example.limits)
        losses["commit"] = p.loss + g.loss
        losses |= self._prosody(example, p.codewords, mask_p)
        return losses, decoded, mask

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of the losses."""
        return torch.stack([weight * losses[name] for name, weight in self.settings.weights]).sum()

    @staticmethod
    def _mask(samples: Tensor, frames: int, hop: int) -> Tensor:
        return (torch.arange(frames, device=samples.device)[None] * hop < samples[:, None]).float().unsqueeze(-1)

    def _decode(self, example: Example, p: Tensor, g: Tensor, generator: torch.Generator) -> Tensor:
        codec, decoder, device = self.codec, self.codec.decoder, p.device
        batch, hop = len(p), self.codec.config.decoder.hop
        drop_p = (torch.rand(batch, 1, 1, generator=generator) < self.settings.drop_p).to(device)
        drop_g = (torch.rand(batch, 1, generator=generator) < self.settings.drop_g).to(device)
        mask = self._mask(example.samples, example.clean.shape[1] // hop, hop)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
            local = decoder.local(codec.quantizer_s.dequantize(example.tokens), torch.where(drop_p, decoder.null_p, p), mask)
            condition = torch.where(drop_g, decoder.conditioning(None, batch), decoder.conditioning(g, batch))
            wide = (F.pad(value, (0, 0, EDGE, EDGE)) for value in (local, mask))
            edge = example.samples + EDGE * hop
            span = self._mask(edge + EDGE * hop, mask.shape[1] + 2 * EDGE, hop)
            log_magnitude, phase = decoder.spectrum(next(wide), span, condition)
        return decoder.inverse(log_magnitude.masked_fill(span == 0, -float("inf")), phase)

    def _prosody(self, example: Example, p: Tensor, mask_p: Tensor) -> dict[str, Tensor]:
        out = self.heads(p).unflatten(-1, (self.steps, 3)).flatten(1, 2)
        frames = example.clean.view(len(p), -1, PITCH_HOP)
        energy = torch.log10(frames.square().mean(-1) + 1e-6)
        valid = mask_p.repeat_interleave(self.steps, dim=1)
        mean = (energy * valid[..., 0]).sum(1, keepdim=True) / valid[..., 0].sum(1, keepdim=True)
        error = (out[..., 2:] - (energy - mean).unsqueeze(-1)) ** 2
        return {"pitch": voiced_loss(out[..., :2], example.pitch), "energy": masked_mean(error, valid)}
