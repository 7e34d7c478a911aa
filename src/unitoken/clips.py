"""One clip in any form to blocks of samples at one rate, as often as they are asked for, in bounded memory."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from .audio import AudioSpan, Source, audio_blocks
from .errors import AudioError
from .resample import check_rate, resample_parts
from .waveform import checked, regrouped, waveform_blocks

Audio = Source | np.ndarray[Any, Any] | Tensor
"""One clip: a file (path, bytes or file object) or a span of one, an array or a tensor."""
Blocks = Callable[[], Iterator[Tensor]]
"""Begins to give a clip's samples in blocks, float32 `(samples,)` on the CPU."""


def clip_blocks(audio: Any, sample_rate: int | None, target_rate: int, size: int) -> Blocks:
    """Return what gives a clip in blocks.

    Args:
        audio: a clip of the kind `Audio`.
        sample_rate: Hz; needed with arrays, refused with files, which know their own.
        target_rate: Hz, of the blocks.
        size: samples of a block; the last one may be shorter.

    Raises:
        AudioError: if audio is of the wrong shape or type, or `sample_rate` is missing or out of place; when a block is asked for, if it is not
            finite or cannot be read.
    """
    if isinstance(audio, (str, os.PathLike, bytes, AudioSpan)) or hasattr(audio, "read"):
        if sample_rate is not None:
            raise AudioError(f"sample_rate={sample_rate} was given with an audio file, which knows its own rate; leave it out")
        source: Any = audio
        if hasattr(source, "read") and not (hasattr(source, "seekable") and source.seekable()):
            source = source.read()  # it may be asked for twice
        return lambda: audio_blocks(source, block_seconds=size / target_rate, sample_rate=target_rate)
    wave = checked(audio)
    if sample_rate is None:
        raise AudioError(f"an array of {wave.shape[-1]} samples has no sample rate; give it: encode(audio, sample_rate=16000)")
    rate = check_rate(sample_rate)
    return lambda: regrouped(resample_parts(waveform_blocks(wave, size), rate, target_rate), size)
