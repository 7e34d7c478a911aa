"""Arrays and tensors of any common type to waveforms: float32, one channel."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from .errors import AudioError

MAX_CHANNELS = 8
_PCM_SCALE = {torch.int16: 2.0**15, torch.int32: 2.0**31, torch.uint8: 2.0**7}
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_ALLOWED = "float16, bfloat16, float32, float64, int16, int32 or uint8"


def to_mono(waveform: Tensor) -> Tensor:
    """Average the channels of a waveform; the sum runs from the first channel to the last.

    Args:
        waveform: floating `(channels, samples)`, or `(samples,)`, which is returned as it is.

    Returns:
        `(samples,)` of the same type.

    Raises:
        AudioError: if the waveform has no channel or another rank.
    """
    if waveform.ndim == 1:
        return waveform
    if waveform.ndim != 2 or not len(waveform):
        raise AudioError(f"expected (channels, samples) with at least one channel, got {tuple(waveform.shape)}")
    total = waveform[0]
    for channel in waveform[1:]:
        total = total + channel
    return total if len(waveform) == 1 else total / len(waveform)


def as_waveform(audio: object) -> Tensor:
    """Turn an array or tensor into the one form that everything else takes.

    Args:
        audio: NumPy array or torch tensor on any device, `(samples,)` or `(channels, samples)` with 1 to 8 channels; float16, bfloat16,
            float32 or float64 in [-1, 1], or PCM: int16, int32, or uint8 (128 is zero).

    Returns:
        float32 `(samples,)` on the CPU, channels averaged, PCM scaled to [-1, 1]. It may share memory with `audio`.

    Raises:
        AudioError: if `audio` is no array, of another type or shape, or holds NaN or infinite samples.
    """
    wave = to_mono(as_float(audio))
    check_finite(wave, AudioError, "the waveform")
    return wave


def waveform_blocks(audio: Tensor, size: int) -> Iterator[Tensor]:
    """Yield what `as_waveform` returns of what `checked` returned, in blocks of `size` samples, the last one shorter.

    Raises:
        AudioError: while iterating: if it holds NaN or infinite samples.
    """
    for start in range(0, audio.shape[-1], size):
        wave = to_mono(_scaled(audio[..., start : start + size]))
        check_finite(wave, AudioError, "the waveform", start)
        yield wave


def regrouped(parts: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Yield the samples of all parts in blocks of `size`, the last one shorter."""
    held: list[Tensor] = []
    for part in parts:
        held.append(part)
        if sum(map(len, held)) >= size:
            *whole, rest = torch.cat(held).split(size)
            yield from whole
            held = [rest]
    if sum(map(len, held)):
        yield torch.cat(held)


def as_float(audio: object) -> Tensor:
    """Return float32 `(samples,)` or `(channels, samples)` on the CPU, PCM scaled."""
    return _scaled(checked(audio))


def checked(audio: object) -> Tensor:
    """Return an array or tensor as a tensor on the CPU, as it is, if it is of a type and shape that `as_waveform` takes.

    Raises:
        AudioError: if not.
    """
    wave = _as_tensor(audio)
    _check_shape(wave)
    if wave.dtype not in _PCM_SCALE and wave.dtype not in _FLOATS:
        raise AudioError(f"expected samples of type {_ALLOWED}, got {wave.dtype}; convert them, floats to [-1, 1]")
    return wave


def _scaled(wave: Tensor) -> Tensor:
    if wave.dtype in _PCM_SCALE:
        return (wave.float() - (128 if wave.dtype == torch.uint8 else 0)) / _PCM_SCALE[wave.dtype]
    return wave.float()


def _as_tensor(audio: object) -> Tensor:
    if isinstance(audio, Tensor):
        return audio.detach().cpu()
    if not isinstance(audio, np.ndarray):
        raise AudioError(f"expected a NumPy array or a torch tensor, got {type(audio).__name__}; convert it, e.g. numpy.asarray(x, dtype='float32')")
    array = np.require(audio, audio.dtype.newbyteorder("="), ["C", "W"])  # what torch can share memory with
    try:
        return torch.from_numpy(array)
    except TypeError:
        raise AudioError(f"expected samples of type {_ALLOWED}, got {array.dtype}; convert them, floats to [-1, 1]") from None


def _check_shape(wave: Tensor) -> None:
    shape = tuple(wave.shape)
    if wave.ndim == 1 or (wave.ndim == 2 and 1 <= shape[0] <= MAX_CHANNELS):
        return
    remedy = "pass several waveforms as a list of 1-D ones"
    if wave.ndim == 2 and 1 <= shape[1] <= MAX_CHANNELS:
        remedy = "this looks like (samples, channels): transpose it, audio.T"
    raise AudioError(f"expected audio (samples,) or (channels, samples) with 1 to {MAX_CHANNELS} channels, got {shape}; {remedy}")


def check_finite(wave: Tensor, error: type[AudioError], name: str, start: int = 0) -> None:
    """Refuse NaN and infinity in `(samples,)` or `(channels, samples)` whose first sample is number `start`."""
    bad = ~torch.isfinite(wave)
    if count := int(bad.sum()):
        first = start + int((bad.any(0) if bad.ndim == 2 else bad).int().argmax())
        raise error(f"{name} holds {count} values that are NaN or infinite (of {wave.numel()} checked), the first at sample {first}; repair it first")
