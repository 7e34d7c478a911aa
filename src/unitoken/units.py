"""Samples, frames, seconds: exact integer arithmetic and one rounding rule (up), so that no sample is ever lost."""

from fractions import Fraction


def frames_for(samples: int, hop: int) -> int:
    """Return how many frames of `hop` samples cover `samples` samples.

    >>> frames_for(0, 640), frames_for(1, 640), frames_for(640, 640), frames_for(641, 640)
    (0, 1, 1, 2)
    """
    return -(-samples // hop)


def resampled_length(samples: int, source_rate: int, target_rate: int) -> int:
    """Return the length of `samples` samples after resampling: `ceil(samples * target_rate / source_rate)`.

    >>> resampled_length(44100, 44100, 16000), resampled_length(1, 48000, 16000)
    (16000, 1)
    """
    return -(-samples * target_rate // source_rate)


def frame_rate(sample_rate: int, hop: int) -> Fraction:
    """Return frames per second as an exact fraction.

    >>> frame_rate(16000, 640), frame_rate(16000, 1280)
    (Fraction(25, 1), Fraction(25, 2))
    """
    return Fraction(sample_rate, hop)


def bits_for(size: int) -> int:
    """Return how many bits an index below `size` needs when packed.

    >>> bits_for(1), bits_for(2), bits_for(4096), bits_for(4097)
    (0, 1, 12, 13)
    """
    return (size - 1).bit_length()
