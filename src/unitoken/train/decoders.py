"""Trained decoders that are to become others: a part is changed so that they sound at first much as before, the rest stays."""

import dataclasses
import math

import torch

from ..errors import TrainError
from ..model.codec import Codec
from ..model.decoder import noise_share
from ..nn.blocks import DepthwiseConv

SHORTFALL = 0.5772156649 / 2
"""How far the mean logarithm of noise's magnitudes lies below that of its root mean square (half of Euler's constant)."""


@torch.no_grad()
def with_subframes(codec: Codec, subframes: int) -> Codec:
    """Return a codec whose decoder has so many frames of the inverse STFT in each of its frames, and sounds at first much as it did.

    Each subframe begins with what the whole frame said, of every so many-th bin, at the level that a shorter window asks for; training has to make
    them differ.

    Args:
        codec: with one subframe; not changed.
        subframes: two or more.

    Raises:
        TrainError: if the codec has subframes already.
        ConfigError: if a frame cannot be cut so.
    """
    size = codec.config.decoder
    if size.subframes != 1 or subframes < 2:
        raise TrainError(f"{codec.config.name} has {size.subframes} subframes a frame; a codec with 1 can be given 2 or more, got {subframes}")
    decoder = dataclasses.replace(size, n_fft=size.n_fft // subframes, subframes=subframes)
    made = Codec(dataclasses.replace(codec.config, decoder=decoder))
    state = codec.state_dict()
    quieter = torch.tensor([math.log(subframes) / 2, 0.0, math.log(subframes)])  # free part: noise; its phase; harmonics
    for name, shift in (("decoder.head.weight", 0.0), ("decoder.head.bias", quieter[:, None, None])):
        rows = state[name].view(3, codec.decoder.bins, -1)[:, ::subframes] - shift
        state[name] = rows.reshape(3 * made.decoder.bins, -1).repeat(subframes, 1).view_as(made.state_dict()[name])
    made.load_state_dict(state)
    return made.eval()


@torch.no_grad()
def with_noise(codec: Codec, hz: float) -> Codec:
    """Return a codec whose decoder's free part gives way to noise from a frequency on (`DecoderConfig.noise_hz`).

    Its levels were learnt as those of a smooth spectrum, as means of logarithms; noise of the same mean logarithm is `SHORTFALL` louder.

    Args:
        codec: without noise; not changed.
        hz: see there.

    Raises:
        TrainError: if the codec has noise already.
        ConfigError: if `hz` is not positive.
    """
    size = codec.config.decoder
    if size.noise_hz is not None:
        raise TrainError(f"{codec.config.name} has noise from {size.noise_hz} Hz on already; give a codec without")
    made = Codec(dataclasses.replace(codec.config, decoder=dataclasses.replace(size, noise_hz=hz)))
    made.load_state_dict(codec.state_dict())
    bins = made.decoder.bins
    made.decoder.head.bias.view(size.subframes, 3, bins)[:, 0] += SHORTFALL * noise_share(hz, bins, codec.config.sample_rate)
    return made.eval()


@torch.no_grad()
def with_lookahead(codec: Codec, frames: int) -> Codec:
    """Return a codec whose decoder hears so many token frames ahead (`DecoderConfig.lookahead_frames`), for streams with less delay.

    Tokens stay what they are. A block that loses taps in the future takes what lies there to be as its last tap finds it: the weights of the lost
    taps are added to that one. Training has to make up for the rest.

    Args:
        codec: with a decoder that hears further; not changed.
        frames: 0 or more.

    Raises:
        TrainError: if the decoder does not hear further.
        ConfigError: if `frames` is negative.
    """
    made = Codec(dataclasses.replace(codec.config, decoder=dataclasses.replace(codec.config.decoder, lookahead_frames=frames)))
    heard, left = codec.decoder.lag, made.decoder.lag
    if left >= heard:
        raise TrainError(f"the decoder of {codec.config.name} hears {heard} frames ahead, {frames} frames of lookahead are {left}; give fewer")
    state = codec.state_dict()
    for (name, known), conv in zip(codec.named_modules(), made.modules(), strict=True):
        if isinstance(known, DepthwiseConv) and isinstance(conv, DepthwiseConv):
            old, lost = known.weight, known.future - conv.future
            kept = old[..., : old.shape[-1] - lost].clone()
            kept[..., -1] += old[..., old.shape[-1] - lost :].sum(-1)
            state[f"{name}.weight"] = torch.nn.functional.pad(kept, (lost, 0))
    made.load_state_dict(state)
    return made.eval()
