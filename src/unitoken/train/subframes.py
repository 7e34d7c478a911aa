"""A trained decoder that is to answer twice in a frame: its head is cut to size, the rest stays."""

import dataclasses
import math

import torch

from ..errors import TrainError
from ..model.codec import Codec


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
