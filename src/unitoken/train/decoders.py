"""Trained decoders that are to become others: the head is changed so that they sound at first much as before, the rest stays."""

import dataclasses
import math

import torch

from ..errors import TrainError
from ..model.codec import Codec
from ..model.decoder import noise_share

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
