"""A codec that hears clips in noise, in a room, from far away: the clip that it is compared with stays as it was."""

import dataclasses
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import ConfigError
from .changes import CHANGES, Change
from .codecs import Codec, Decoded, Roundtrip
from .robustness import unit_edit_distance
from .usage import StreamTokens


class Degraded:
    """A codec whose input something happens to; what it returns has the level and the time of the clip again.

    Args:
        codec: hears the changed clip.
        change: a name of `CHANGES`.
        seed: of the noise, which is another for each clip.

    Raises:
        ConfigError: for another name, or `Decoded`, whose files are made already.
    """

    def __init__(self, codec: Codec, change: str, *, seed: int = 0) -> None:
        if change not in CHANGES:
            raise ConfigError(f"unknown change {change!r}; there are: {', '.join(CHANGES)}")
        if isinstance(codec, Decoded):
            raise ConfigError(f"{codec.name} is a folder of decoded clips, which hears nothing; decode changed clips into another folder")
        self.codec, self.seed = codec, seed
        self.name = f"{codec.name}, {CHANGES[change].title}"
        self._change = change

    @property
    def change(self) -> Change:
        """What happens; found by its name, so that this can be handed to other processes."""
        return CHANGES[self._change]

    def roundtrip(self, waveform: Tensor, clip: str = "") -> Roundtrip:
        """Change, encode, decode, and undo of the change what can be undone."""
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {clip}".encode()))
        trip = self.codec.roundtrip(self.change.apply(waveform, generator), clip)
        return dataclasses.replace(trip, waveform=self.change.undo(trip.waveform, waveform))


def moved(before: Mapping[str, StreamTokens], after: Mapping[str, StreamTokens]) -> dict[str, float | None]:
    """Return how far S and P have moved, as `s_moved` and `p_moved`: the unit edit distance, None without frames; nothing for streams not there."""
    found = dict[str, float | None]()
    for stream in ("s", "p"):
        if stream in before and stream in after:
            one, two = ([token if side.num_codebooks == 1 else tuple(token) for token in side.tokens] for side in (before[stream], after[stream]))
            found[f"{stream}_moved"] = unit_edit_distance(one, two) if one else None
    return found
