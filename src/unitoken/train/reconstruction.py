"""Stage 1: P, G and the decoder learn to rebuild speech around semantic tokens that stay as they are."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import CodecConfig
from ..errors import TrainError
from ..model.codec import Codec
from ..model.decoder import EDGE
from ..model.pitch import make_source
from .augment import Perturbation, perturb
from .batches import frame_mask, samples_of
from .losses import SpectralLoss, voiced_loss
from .noise import NoiseBank
from .pitch import HOP as PITCH_HOP
from .pitch import PitchCache
from .pool import Pool, Utterance
from .quantizers import build_trainer, masked_mean
from .redundancy import Redundancy
from .sampling import Crop, SpeakerSampler
from .semantic_tokens import SemanticTokens
from .sources import band_limits
from .store import AudioStore


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
        true_f0: share of utterances whose harmonics follow the true F0 instead of the predicted one, besides all without P.
        perturbation: of P's input: formants and spectral tilt, which P is not to hold. Shifting its pitch too makes P relative and the height of the
            voice follow G, at some cost in quality (design note 0003).
        entropy: target of rate control, as a share of a codebook's bits; for quantizers of the kind `gumbel`.
        weights: of the losses; `entropy` (for each bit off the target) is TF-Codec's 0.01 times 0.04; `guess` is that of a network that
            foretells P from S, see `Redundancy`.
    """

    batch: int = 12
    seconds: float = 2.0
    reference_seconds: float = 2.4
    other_utterance: float = 0.3
    drop_p: float = 0.15
    drop_g: float = 0.03
    true_f0: float = 0.3
    perturbation: Perturbation = field(default_factory=lambda: Perturbation(1.0, 1.2, 0.0, 2.0, 0.0, 0.7))
    entropy: float = 0.95
    weights: tuple[tuple[str, float], ...] = (
        ("mel", 1.0),
        ("magnitude", 4.0),
        ("commit", 1.0),
        ("entropy", 4e-4),
        ("f0", 0.2),
        ("energy", 0.1),
        ("guess", 1.0),
        ("redundancy", 0.2),
    )


@dataclass(frozen=True)
class Example:
    """One step's data, on the device of what it was made from.

    Attributes:
        clean: float32 `(batch, samples)`, what is to be rebuilt, zero behind an utterance's end.
        degraded: float32 `(batch, samples)`, what P's encoder hears before perturbation.
        samples: int64 `(batch,)`, valid samples of each row.
        tokens: int64 `(batch, frames of S, 1)`.
        reference: float32 `(batch, reference samples)` for the global encoder.
        reference_samples: int64 `(batch,)`.
        pitch: float32 `(batch, frames of 20 ms)`, log-F0, NaN without voice.
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


class ExampleMaker:
    """Draws examples: crops, their semantic tokens and pitch, and another crop for the global encoder.

    Args:
        pool: the audio.
        utterances: what to draw from.
        tokens: semantic tokens of the pool.
        pitch: pitch of the pool.
        config: the codec's.
        settings: crop sizes.
        noise: for P's input; None for clean input.
        seed: of the order.

    Raises:
        TrainError: if the codec's sample rate is not the pool's, or its decoder's hop not that of the pitch.
    """

    def __init__(
        self,
        pool: Pool,
        utterances: list[Utterance],
        tokens: SemanticTokens,
        pitch: PitchCache,
        config: CodecConfig,
        settings: ReconstructionSettings,
        noise: NoiseBank | None,
        seed: int,
    ) -> None:
        pool.check_rate(config)
        if config.decoder.hop != PITCH_HOP:
            raise TrainError(f"the decoder's hop is {config.decoder.hop} samples, pitch is known every {PITCH_HOP}; make the hop {PITCH_HOP}")
        self.audio, self.tokens, self.pitch, self.noise = AudioStore(pool), tokens, pitch, noise
        self.config, self.settings, self.seed = config, settings, seed
        self.sampler, self.sources = SpeakerSampler(utterances, sources=pool.sources, seed=seed), pool.sources
        self.by_speaker = dict[tuple[str, str], list[Utterance]]()
        for utterance in utterances:
            if utterance.speaker != "unk":
                self.by_speaker.setdefault(utterance.who, []).append(utterance)

    def to(self, device: torch.device | str) -> "ExampleMaker":
        """Return a maker whose data, and so its examples, are on a device."""
        moved = copy.copy(self)
        moved.audio, moved.tokens, moved.pitch = self.audio.to(device), self.tokens.to(device), self.pitch.to(device)
        moved.noise = self.noise.to(device) if self.noise else None
        return moved

    def make(self, step: int) -> Example:
        """Return the example of one step; the same step gives the same example."""
        hop, settings, rate = self.config.hop, self.settings, self.config.sample_rate
        device, random = self.audio.data.device, np.random.default_rng((self.seed, 7, step))
        crops = self.sampler.draw(step, settings.batch, int(settings.seconds * rate) // hop * hop, hop)
        references = [self._reference(crop.utterance, random) for crop in crops]
        width, longest = (-(-max(crop.samples for crop in each) // hop) * hop for each in (crops, references))
        clean, samples = self.audio.crop(crops, width), samples_of(crops, device)
        chance = torch.Generator().manual_seed(int(random.integers(1 << 62)))
        return Example(
            clean=clean,
            degraded=self.noise.degrade(clean, samples, chance, room=0.0, noise=0.15) if self.noise else clean,
            samples=samples,
            tokens=self.tokens.crop(crops, width // self.config.hop_s).unsqueeze(-1),
            reference=self.audio.crop(references, longest),
            reference_samples=samples_of(references, device),
            pitch=self.pitch.crop(crops, width // PITCH_HOP),
            limits=band_limits(self.sources, [crop.utterance.source for crop in crops]).to(device, non_blocking=True),
        )

    def _reference(self, utterance: Utterance, random: np.random.Generator) -> Crop:
        others = self.by_speaker.get(utterance.who, [])
        if len(others) > 1 and random.random() < self.settings.other_utterance:
            utterance = others[int(random.integers(len(others)))]
        length = min(utterance.samples, int(self.settings.reference_seconds * self.config.sample_rate))
        return Crop(utterance, int(random.integers(0, utterance.samples - length + 1)), length)


class Reconstructor(nn.Module):
    """The codec with what only training needs: quantizer trainers, an energy head of P, the network that foretells P, losses.

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
        self.trainer_p = build_trainer(codec.quantizer_p, settings.entropy)
        self.trainer_g = build_trainer(codec.quantizer_g, settings.entropy)
        self.steps = codec.config.hop_p // PITCH_HOP
        self.energy = nn.Sequential(nn.Linear(codec.config.residual.quantizer.dim, 128), nn.GELU(), nn.Linear(128, self.steps))
        self.redundancy = Redundancy(codec.config.semantic.quantizer.dim, codec.config.residual.quantizer.dim)
        self.spectral = SpectralLoss(codec.config.sample_rate)

    def forward(self, example: Example, generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return the losses by name, the decoded waveform and the samples' mask, float32 `(batch, samples)` each."""
        codec, device = self.codec, example.clean.device
        batch, samples = example.clean.shape
        with torch.no_grad():
            features = codec.front_end.compress(perturb(codec.front_end.magnitudes(example.degraded), self.settings.perturbation, generator))
            reference = codec.front_end(example.reference)
        mask_p = frame_mask(example.samples, samples // codec.config.hop_p, codec.config.hop_p)
        hop_g = codec.config.front_end.hop * codec.config.global_.encoder.stride
        mask_g = frame_mask(example.reference_samples, example.reference.shape[1] // hop_g, hop_g)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
            heard = codec.quantizer_s.dequantize(example.tokens) if codec.config.p_hears_s else None
            latent_p = codec.residual(features, mask_p, heard)
            frames_g = codec.global_encoder(reference, mask_g)
        latent_g = codec.global_latent(codec.global_statistics(frames_g.float(), mask_g))
        p = self.trainer_p(latent_p.float(), mask_p)
        g = self.trainer_g(latent_g[:, None], torch.ones(batch, 1, 1, device=device))
        decoded, losses_f0 = self._decode(example, p.codewords, g.codewords[:, 0], generator)
        mask = (torch.arange(samples, device=device)[None] < example.samples[:, None]).float()
        losses = self.spectral(decoded, example.clean, mask, example.limits)
        losses |= {"commit": p.commitment + g.commitment, "entropy": p.entropy + g.entropy, "f0": losses_f0}
        losses["energy"] = self._energy(example, p.codewords, mask_p)
        losses |= self._redundancy(example, p.codewords, mask_p)
        return losses, decoded, mask

    def warm_start(self, state: Mapping[str, Tensor] | None = None) -> None:
        """Train a codec further that has been trained: keep its codebooks, which an untrained codec's first steps draw anew.

        Args:
            state: averaged weights of another run, heads and averages included; None starts the heads anew.

        Raises:
            TrainError: if they are of another configuration.
        """
        self.trainer_p.warm_start()
        self.trainer_g.warm_start()
        if state is not None:
            try:
                self.load_state_dict(dict(state))
            except RuntimeError as error:
                raise TrainError(f"the reconstruction run is of another configuration than the codec; give the run that made it ({error})") from error

    def compile_parts(self) -> None:
        """Compile the encoders that are trained and the decoder's blocks; names and values of weights stay as they are."""
        for encoder in (self.codec.residual, self.codec.global_encoder):
            encoder.compile()
        setattr(self.codec.decoder, "spectrum", torch.compile(self.codec.decoder.spectrum))  # noqa: B010  (no attribute of the class is meant)

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of the losses."""
        return torch.stack([weight * losses[name] for name, weight in self.settings.weights]).sum()

    def _decode(self, example: Example, p: Tensor, g: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the waveform and the loss of the decoder's F0.

        The harmonics follow the true F0 or the predicted one, and no gradient reaches the prediction through them: F0 is learnt from its own loss.
        """
        codec, decoder, device = self.codec, self.codec.decoder, p.device
        batch, hop = len(p), codec.config.decoder.hop

        def chance(share: float) -> Tensor:
            return (torch.rand(batch, 1, generator=generator) < share).to(device, non_blocking=True)

        drop_p, drop_g, told = chance(self.settings.drop_p), chance(self.settings.drop_g), chance(self.settings.true_f0)
        mask = frame_mask(example.samples, example.clean.shape[1] // hop, hop)
        wide = frame_mask(example.samples + 2 * EDGE * hop, mask.shape[1] + 2 * EDGE, hop)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
            s, rest = codec.quantizer_s.dequantize(example.tokens), torch.where(drop_p.unsqueeze(-1), decoder.null_p, p)
            local = decoder.local(s, rest, mask)
            condition = torch.where(drop_g, decoder.conditioning(None, batch), decoder.conditioning(g, batch))
            log_f0, voice = decoder.pitch(s, rest, mask, condition)
            loss = voiced_loss(voice, log_f0, example.pitch, mask[..., 0])
            known, told = torch.isfinite(example.pitch), told | drop_p
            log_f0 = torch.where(told & known, example.pitch.nan_to_num(), log_f0.detach())
            voice = torch.where(told, known.float(), torch.sigmoid(voice.detach()))
            log_f0, voice, inner = (F.pad(value, (EDGE, EDGE)) for value in (log_f0, voice, mask[..., 0]))
            first = torch.full((batch,), -EDGE, device=device)
            source = make_source(codec.config, log_f0, voice, inner.unsqueeze(-1), first)
            spectrum = decoder.spectrum(F.pad(local, (0, 0, EDGE, EDGE)), wide, condition, source)
        return decoder.inverse(spectrum), loss

    def _energy(self, example: Example, p: Tensor, mask_p: Tensor) -> Tensor:
        """Return how far P is from telling the level of every 20 ms over the utterance's own mean."""
        frames = example.clean.view(len(p), -1, PITCH_HOP)
        energy = torch.log10(frames.square().mean(-1) + 1e-6)
        valid = mask_p.repeat_interleave(self.steps, dim=1)
        mean = (energy * valid[..., 0]).sum(1, keepdim=True) / valid[..., 0].sum(1, keepdim=True)
        return masked_mean((self.energy(p).flatten(1).unsqueeze(-1) - (energy - mean).unsqueeze(-1)) ** 2, valid)

    def _redundancy(self, example: Example, p: Tensor, mask_p: Tensor) -> dict[str, Tensor]:
        config, fine = self.codec.config, min(self.codec.config.hop_s, self.codec.config.hop_p)
        s = self.codec.quantizer_s.dequantize(example.tokens).repeat_interleave(config.hop_s // fine, 1)
        p, mask = (value.repeat_interleave(config.hop_p // fine, 1) for value in (p, mask_p))
        guess, redundancy = self.redundancy(s, p, mask)
        return {"guess": guess, "redundancy": redundancy}
