"""What the reconstruction and adversarial stages learn from: settings, and crops with all that is known about them."""

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..config import CodecConfig
from ..errors import TrainError
from .augment import Perturbation
from .batches import samples_of
from .noise import NoiseBank
from .pitch import HOP as PITCH_HOP
from .pitch import PitchCache
from .pool import Pool, Utterance
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
            voice follow G, at some cost in quality; `voices` does that without (design note 0003).
        gain_db: range, such as (-36, 6), of gains that half of the utterances are given before they are encoded, never over full scale; what is
            decoded is compared at the recording's own level. So P and G learn of quiet recordings; (0, 0) for none.
        heard: utterances of each step in whose decoding a teacher is to hear their words; P learns from it, too. 0 for none.
        swapped: utterances of each step, 2 or more, that are decoded once more with the S of another one of them; the decoder learns that a teacher
            hears that one's words, so that words follow S where P contradicts. 0 for none, and no teacher.
        voices: utterances of each step, 2 or more, that are decoded once more with the G of another one of them; the decoder learns that F0 keeps its
            course at that one's height, and that the global encoder hears that one's voice, so that voices follow G where P contradicts. 0 for none.
        magnitudes: windows, in samples, of the loss of compressed magnitudes.
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
    gain_db: tuple[float, float] = (0.0, 0.0)
    heard: int = 0
    swapped: int = 0
    voices: int = 0
    magnitudes: tuple[int, ...] = (2048,)
    entropy: float = 0.95
    weights: tuple[tuple[str, float], ...] = (
        ("mel", 1.0),
        ("magnitude", 4.0),
        ("envelope", 0.0),
        ("commit", 1.0),
        ("entropy", 4e-4),
        ("f0", 2.0),
        ("energy", 0.1),
        ("guess", 1.0),
        ("redundancy", 0.2),
        ("heard", 0.25),
        ("swapped", 0.03),
        ("height", 0.1),
        ("voice", 0.02),
    )

    def __post_init__(self) -> None:
        """Check the numbers of utterances."""
        for name, number in (("swapped", self.swapped), ("voices", self.voices)):
            if number and not 2 <= number <= self.batch:
                raise TrainError(f"{name} must be 0, or from 2 to the batch of {self.batch}, got {number}")
        if not 0 <= self.heard <= self.batch:
            raise TrainError(f"heard must be from 0 to the batch of {self.batch}, got {self.heard}")
        if len(self.gain_db) != 2 or not self.gain_db[0] <= self.gain_db[1]:
            raise TrainError(f"gain_db must be the lowest and the highest gain in dB, such as (-36, 6), got {self.gain_db}")
        if not self.magnitudes or any(window < 64 or window % 4 for window in self.magnitudes):
            raise TrainError(f"magnitudes must be windows of 64 samples or more, divisible by 4, at least one, got {self.magnitudes}")


@dataclass(frozen=True)
class Example:
    """One step's data, on the device of what it was made from.

    Attributes:
        clean: float32 `(batch, samples)`, what is to be rebuilt, zero behind an utterance's end.
        degraded: float32 `(batch, samples)`, what P's encoder hears before perturbation, `gain` times as loud as `clean`.
        samples: int64 `(batch,)`, valid samples of each row.
        tokens: int64 `(batch, frames of S, 1)`.
        reference: float32 `(batch, reference samples)` for the global encoder, `gain` times as loud as it was recorded.
        reference_samples: int64 `(batch,)`.
        pitch: float32 `(batch, frames of 20 ms)`, log-F0, NaN without voice.
        height: float32 `(batch,)`, median log-F0 of the whole utterance, NaN without voice.
        limits: float32 `(batch,)`, Hz.
        gain: float32 `(batch, 1)`, positive; 1 leaves the recording as it is.
    """

    clean: Tensor
    degraded: Tensor
    samples: Tensor
    tokens: Tensor
    reference: Tensor
    reference_samples: Tensor
    pitch: Tensor
    height: Tensor
    limits: Tensor
    gain: Tensor


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
        self.by_voice = dict[tuple[str, str, float], list[Utterance]]()
        for utterance in utterances:
            if utterance.speaker != "unk":
                self.by_voice.setdefault(utterance.voice, []).append(utterance)

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
        degraded = self.noise.degrade(clean, samples, chance, room=0.0, noise=0.15) if self.noise else clean
        reference = self.audio.crop(references, longest)
        gain = self._gain(random, torch.maximum(degraded.abs().amax(1), reference.abs().amax(1)))
        return Example(
            clean=clean,
            degraded=degraded * gain,
            samples=samples,
            tokens=self.tokens.crop(crops, width // self.config.hop_s).unsqueeze(-1),
            reference=reference * gain,
            reference_samples=samples_of(references, device),
            pitch=self.pitch.crop(crops, width // PITCH_HOP),
            height=self._height([crop.utterance for crop in crops]),
            limits=self._limits([crop.utterance for crop in crops]).to(device, non_blocking=True),
            gain=gain,
        )

    def _gain(self, random: np.random.Generator, peaks: Tensor) -> Tensor:
        """Return the gains of utterances with these peaks, float32 `(batch, 1)`: one for a half of them; at most what leads to full scale."""
        decibels = random.uniform(*self.settings.gain_db, len(peaks)) * (random.random(len(peaks)) < 0.5)
        gain = torch.from_numpy(10 ** (decibels / 20)).float().to(peaks.device, non_blocking=True)
        return torch.where(gain > 1, torch.minimum(gain, 1 / peaks.clamp(1e-4, 1.0)), gain).unsqueeze(1)

    def _limits(self, utterances: list[Utterance]) -> Tensor:
        names, speeds = [utterance.source for utterance in utterances], [utterance.speed for utterance in utterances]
        return band_limits(self.sources, names, speeds, self.config.sample_rate / 2)

    def _height(self, utterances: list[Utterance]) -> Tensor:
        """Return the median log-F0 of whole utterances, float32 `(batch,)`."""
        longest = max(utterance.samples for utterance in utterances)
        return self.pitch.crop([Crop(utterance, 0, utterance.samples) for utterance in utterances], -(-longest // PITCH_HOP)).nanmedian(1).values

    def _reference(self, utterance: Utterance, random: np.random.Generator) -> Crop:
        others = self.by_voice.get(utterance.voice, [])
        if len(others) > 1 and random.random() < self.settings.other_utterance:
            utterance = others[int(random.integers(len(others)))]
        length = min(utterance.samples, int(self.settings.reference_seconds * self.config.sample_rate))
        return Crop(utterance, int(random.integers(0, utterance.samples - length + 1)), length)
