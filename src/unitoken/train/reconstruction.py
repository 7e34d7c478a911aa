"""Stage 1: P, G and the decoder learn to rebuild speech around semantic tokens that stay as they are."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import TrainError
from ..model.codec import Codec
from ..model.decoder import EDGE
from ..model.pitch import make_source
from ..nn.flow import Rows
from .augment import perturb
from .batches import frame_mask
from .examples import Example, ReconstructionSettings
from .listening import heard_error, only_listening, voice_error
from .losses import EnvelopeLoss, SpectralLoss, voiced_loss
from .pitch import HOP as PITCH_HOP
from .quantizers import build_trainer, masked_mean
from .redundancy import Redundancy
from .teachers import Teacher

SAME_HEIGHT = 0.2
"""Voices whose median log-F0 is less apart than this keep their own height: one speaker's height varies as much, and P may then be believed."""


class Reconstructor(nn.Module):
    """The codec with what only training needs: quantizer trainers, an energy head of P, the network that foretells P, losses.

    The semantic encoder and codebook get no gradient.

    Args:
        codec: what is trained.
        settings: dropouts, perturbation and weights.
        autocast: bfloat16 for encoders and decoder.
        teacher: hears the words of what is decoded; needed where `settings` say that it is to.

    Raises:
        TrainError: if it is missing.
    """

    def __init__(self, codec: Codec, settings: ReconstructionSettings, *, autocast: bool = True, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.codec, self.settings, self.autocast, self.teacher = codec, settings, autocast, teacher if settings.swapped or settings.heard else None
        if self.teacher is None and (settings.swapped or settings.heard):
            raise TrainError("words are to be heard (swapped, heard), but there is no teacher to hear them; give one, such as the teacher of S")
        for module in (codec.semantic, codec.quantizer_s):
            module.requires_grad_(False)
        self.trainer_p = build_trainer(codec.quantizer_p, settings.entropy)
        self.trainer_g = build_trainer(codec.quantizer_g, settings.entropy)
        self.steps = codec.config.hop_p // PITCH_HOP
        self.energy = nn.Sequential(nn.Linear(codec.config.residual.quantizer.dim, 128), nn.GELU(), nn.Linear(128, self.steps))
        self.redundancy = Redundancy(codec.config.semantic.quantizer.dim, codec.config.residual.quantizer.dim)
        self.spectral = SpectralLoss(codec.config.sample_rate, compressed=settings.magnitudes)
        self.envelope = EnvelopeLoss(codec.config.sample_rate)

    def forward(self, example: Example, generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return the losses by name, the decoded waveform and the samples' mask, float32 `(batch, samples)` each."""
        codec, device = self.codec, example.clean.device
        batch, samples = example.clean.shape
        with torch.no_grad():
            features = codec.front_end.compress(perturb(codec.front_end.magnitudes(example.degraded), self.settings.perturbation, generator))
            reference = codec.front_end(example.reference)
        mask_p = frame_mask(example.samples, samples // codec.config.hop_p, codec.config.hop_p)
        s = codec.quantizer_s.dequantize(example.tokens)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
            latent_p = codec.residual(features, Rows(mask_p), s if codec.config.p_hears_s else None)
        latent_g = self._latent_g(reference, example.reference_samples)
        p = self.trainer_p(latent_p.float(), mask_p)
        g = self.trainer_g(latent_g[:, None], torch.ones(batch, 1, 1, device=device))
        decoded, losses_f0 = self._decode(example, s, p.codewords, g.codewords[:, 0], generator)
        mask = frame_mask(example.samples, samples, 1)[..., 0]
        losses = self.spectral(decoded, example.clean, mask, example.limits)
        losses["envelope"] = self.envelope(decoded, example.clean, mask, example.limits)
        losses |= {"commit": p.commitment + g.commitment, "entropy": p.entropy + g.entropy, "f0": losses_f0}
        losses["energy"] = self._energy(example, p.codewords, mask_p)
        losses |= self._redundancy(s, p.codewords, mask_p)
        p_fixed, g_fixed = p.codewords.detach(), g.codewords[:, 0].detach()
        own = slice(0, self.settings.heard)
        losses["heard"] = self._heard(decoded[own], example.clean[own], example.samples[own])
        losses["swapped"] = self._swapped_s(example, s, p_fixed, g_fixed, generator)
        losses["height"], losses["voice"] = self._swapped_g(example, s, p_fixed, g_fixed, latent_g, generator)
        return losses, decoded, mask

    def warm_start(self, state: Mapping[str, Tensor] | None = None) -> None:
        """Train a codec further that has been trained: keep its codebooks, which an untrained codec's first steps draw anew.

        Args:
            state: averaged weights of another run, heads and averages included, of which the semantic encoder and codebook are left out: those of
                the codec made the tokens of the pool, and may have been trained since. None starts the heads anew.

        Raises:
            TrainError: if they are of another configuration.
        """
        self.trainer_p.warm_start()
        self.trainer_g.warm_start()
        if state is not None:
            own = {name: value for name, value in self.state_dict().items() if name.startswith(("codec.semantic.", "codec.quantizer_s."))}
            try:
                self.load_state_dict(dict(state) | own)
            except RuntimeError as error:
                raise TrainError(f"the reconstruction run is of another configuration than the codec; give the run that made it ({error})") from error

    def compile_parts(self) -> None:
        """Compile the encoders that are trained and the decoder's blocks; names and values of weights stay as they are."""
        for encoder in (self.codec.residual, self.codec.global_encoder):
            encoder.compile()
        setattr(self.codec.decoder, "heads", torch.compile(self.codec.decoder.heads))  # noqa: B010  (no attribute of the class is meant)

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of the losses."""
        return torch.stack([weight * losses[name] for name, weight in self.settings.weights]).sum()

    def _heard(self, decoded: Tensor, clean: Tensor, samples: Tensor) -> Tensor:
        """Return how far the teacher is from hearing the words of `clean` in `decoded`, see `heard_error`; 0 where there is nothing to hear."""
        if self.teacher is None or not len(decoded):
            return decoded.new_zeros(())
        inside = frame_mask(samples, decoded.shape[1], 1)[..., 0]
        with torch.autocast(decoded.device.type, torch.bfloat16, enabled=self.autocast):
            return heard_error(self.teacher, decoded * inside, clean * inside, samples)

    def _swapped_s(self, example: Example, s: Tensor, p: Tensor, g: Tensor, generator: torch.Generator) -> Tensor:
        """Decode the last utterances with the S of another of them; return how far the teacher is from hearing its words, 0 with none."""
        if not self.settings.swapped:
            return s.new_zeros(())
        rows = slice(len(s) - self.settings.swapped, len(s))
        other = torch.roll(torch.arange(len(s))[rows], 1).to(s.device)
        samples = torch.minimum(example.samples[rows], example.samples[other])
        mixed = replace(example, clean=example.clean[rows], samples=samples, pitch=example.pitch[rows], gain=example.gain[rows])
        decoded, _ = self._decode(mixed, s[other], p[rows], g[rows], generator)
        return self._heard(decoded, example.clean[other], samples)

    def _latent_g(self, features: Tensor, samples: Tensor) -> Tensor:
        """Return the latent of G, float32 `(batch, dim)`, of log-mel frames."""
        codec = self.codec
        stride = codec.config.global_.encoder.stride
        mask = frame_mask(samples, features.shape[1] // stride, codec.config.front_end.hop * stride)
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.autocast):
            frames = codec.global_encoder(features, Rows(mask))
        return codec.global_latent(codec.global_statistics(frames.float(), mask))

    def _swapped_g(self, example: Example, s: Tensor, p: Tensor, g: Tensor, latent: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Decode the first utterances with the G of another of them; return the loss of the F0 and how far the voice that is heard is from that G's.

        F0 is to keep its course at the other's height; at its own where they are nearly the same, or one of the two has no voice. The voice is heard
        at the level at which it is decoded.
        """
        rows = slice(0, self.settings.voices)
        if not self.settings.voices:
            return s.new_zeros(()), s.new_zeros(())
        other = torch.roll(torch.arange(self.settings.voices), 1).to(s.device)
        shift = (example.height[other] - example.height[rows]).nan_to_num()
        shift = torch.where(shift.abs() < SAME_HEIGHT, 0, shift)
        mixed = replace(
            example,
            clean=example.clean[rows],
            samples=example.samples[rows],
            pitch=example.pitch[rows] + shift[:, None],
            gain=torch.ones_like(example.gain[rows]),
        )
        decoded, height = self._decode(mixed, s[rows], p[rows], g[other], generator)
        codec, inside = self.codec, frame_mask(mixed.samples, decoded.shape[1], 1)[..., 0]
        with only_listening(codec.global_encoder, codec.pooling, codec.global_out):
            heard = self._latent_g(codec.front_end(decoded.float() * inside), mixed.samples)
        return height, voice_error(heard, latent[other], latent[rows])

    def _decode(self, example: Example, s: Tensor, p: Tensor, g: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the waveform at the recording's own level, and the loss of the decoder's F0.

        The harmonics follow the true F0 or the predicted one, and no gradient reaches the prediction through them: F0 is learnt from its own loss.
        """
        codec, decoder, device = self.codec, self.codec.decoder, p.device
        batch, hop = len(p), codec.config.decoder.hop

        def chance(share: float) -> Tensor:
            return (torch.rand(batch, 1, generator=generator) < share).to(device, non_blocking=True)

        drop_p, drop_g, true_f0 = chance(self.settings.drop_p), chance(self.settings.drop_g), chance(self.settings.true_f0)
        mask = frame_mask(example.samples, example.clean.shape[1] // hop, hop)
        rows, wide = Rows(mask), Rows(frame_mask(example.samples + 2 * EDGE * hop, mask.shape[1] + 2 * EDGE, hop))
        with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
            rest = torch.where(drop_p.unsqueeze(-1), decoder.null_p, p)
            local = decoder.local(s, rest, rows)
            condition = torch.where(drop_g, decoder.conditioning(None, batch), decoder.conditioning(g, batch))
            log_f0, voice = decoder.pitch(s, rest, rows, condition)
            loss = voiced_loss(voice, log_f0, example.pitch, mask[..., 0])
            known, true_f0 = torch.isfinite(example.pitch), true_f0 | drop_p
            log_f0 = torch.where(true_f0 & known, example.pitch.nan_to_num(), log_f0.detach())
            voice = torch.where(true_f0, known.float(), torch.sigmoid(voice.detach()))
            log_f0, voice = (F.pad(value, (EDGE, EDGE)) for value in (log_f0, voice * mask[..., 0]))
            first = torch.full((batch,), -EDGE, device=device)
            source = make_source(codec.config, log_f0, voice, first)
            if decoder.noisy is not None:  # never the same noise twice
                source = replace(source, start=torch.randint(2**31, (batch,), generator=generator).to(device, non_blocking=True))
            spectrum = decoder.spectrum(decoder.heads(F.pad(local, (0, 0, EDGE, EDGE)), wide, condition), wide, source)
        return decoder.waveform(spectrum) / example.gain, loss

    def _energy(self, example: Example, p: Tensor, mask_p: Tensor) -> Tensor:
        """Return how far P is from telling the level of every 20 ms over the utterance's own mean."""
        frames = example.clean.view(len(p), -1, PITCH_HOP)
        energy = torch.log10(frames.square().mean(-1) + 1e-6)
        valid = mask_p.repeat_interleave(self.steps, dim=1)
        mean = (energy * valid[..., 0]).sum(1, keepdim=True) / valid[..., 0].sum(1, keepdim=True)
        return masked_mean((self.energy(p).flatten(1).unsqueeze(-1) - (energy - mean).unsqueeze(-1)) ** 2, valid)

    def _redundancy(self, s: Tensor, p: Tensor, mask_p: Tensor) -> dict[str, Tensor]:
        config, fine = self.codec.config, min(self.codec.config.hop_s, self.codec.config.hop_p)
        s = s.repeat_interleave(config.hop_s // fine, 1)
        p, mask = (value.repeat_interleave(config.hop_p // fine, 1) for value in (p, mask_p))
        guess, redundancy = self.redundancy(s, p, mask)
        return {"guess": guess, "redundancy": redundancy}
