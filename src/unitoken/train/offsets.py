"""Where each utterance's frames lie in an array that holds a whole pool's, one utterance after the other."""

from ..units import frames_for
from .pool import Pool


def frame_offsets(pool: Pool, hop: int) -> tuple[dict[str, int], int]:
    """Return the first frame of each utterance, by path, and the number of frames of all, for frames of `hop` samples."""
    starts, total = dict[str, int](), 0
    for utterance in pool.utterances:
        starts[utterance.path] = total
        total += frames_for(utterance.samples, hop)
    return starts, total
