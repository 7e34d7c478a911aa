"""Audio in and out: files of any common format, arrays of any common type, one channel or several, at any sample rate."""

import io
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import soundfile
import torch
from torch import Tensor

from .errors import AudioError, AudioFileError, UnitokenError
from .files import replacing
from .resample import Resampler, check_rate, resample, resample_parts
from .waveform import as_float, check_finite, regrouped, to_mono

__all__ = ["AudioInfo", "AudioSpan", "Resampler", "Source", "audio_blocks", "audio_info", "load_audio", "resample", "save_audio"]

File = str | os.PathLike[str] | bytes | BinaryIO
"""A path, the contents of an audio file as bytes, or a binary file object (read from its beginning)."""


@dataclass(frozen=True)
class AudioSpan:
    """A part of an audio file, found by seeking: as if it were a file by itself.

    Of lossy formats the first few milliseconds may be decoded a little differently than in the middle of the whole.

    Attributes:
        source: the file.
        start: seconds from the file's beginning, rounded to its samples; 0 or more.
        end: seconds from the file's beginning, at most 0.1 s behind its end; None for the end.
    """

    source: File
    start: float = 0.0
    end: float | None = None


Source = File | AudioSpan
"""An audio file in any form, or a part of one."""

Target = str | os.PathLike[str] | BinaryIO
"""A path, or a file object opened for binary writing."""


AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".oga", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".nist")
"""What is looked for in folders, in small letters; a file named by itself may have any suffix."""

_BLOCK = 1 << 16  # samples of each channel read or written at once
_FORMATS = {"wav": "WAV PCM_16", "flac": "FLAC PCM_16", "ogg": "OGG VORBIS", "opus": "OGG OPUS", "mp3": "MP3 MPEG_LAYER_III"}
_VORBIS_MAX_RATE = 200000
_LATE_S = 0.1  # by which a span may end behind its file
_EMPTY_ALLOWED = ("wav", "ogg")  # a file without samples can be read back in these only


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says.

    Attributes:
        sample_rate: Hz.
        channels: how many.
        samples: of each channel; of a span, its own.
        format: the container: `WAV`, `FLAC`, `OGG`, `MP3`, ...
    """

    sample_rate: int
    channels: int
    samples: int
    format: str

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.samples / self.sample_rate


def load_audio(source: Source, *, sample_rate: int | None = None, mono: bool = True) -> tuple[Tensor, int]:
    """Read an audio file: WAV, FLAC, OGG (Vorbis, Opus), MP3 and what else libsndfile knows, with any number of channels.

    Args:
        source: a path, the contents of a file as bytes, or a binary file object (read from its beginning); or a part of one, `AudioSpan`.
        sample_rate: Hz to resample to, 4000 to 384000; None keeps the file's.
        mono: average the channels.

    Returns:
        The waveform, float32 `(samples,)` if `mono` else `(channels, samples)`, and its sample rate in Hz. Full scale is [-1, 1]; lossy
        formats, float files and resampling may overshoot a little and are not clipped. Resampled, a file of n samples has
        `ceil(n * sample_rate / file_rate)`. A WAV, OGG or MP3 file cut short gives what
        is there, a FLAC file an error.

    Raises:
        AudioFileError: if the file is missing, cannot be decoded, or holds NaN or infinite samples.
        AudioError: if `source` is none of these, a span lies outside its file, or a sample rate cannot be resampled.
    """
    if sample_rate is not None:
        sample_rate = check_rate(sample_rate)
    with _open(source) as file:
        (source_rate, rate), blocks = _rates(file, _name(source), sample_rate), _decoded(file, source)
        if mono:
            return torch.cat([torch.zeros(0), *resample_parts(map(to_mono, blocks), source_rate, rate)]), rate
        channels = torch.cat([torch.zeros(int(file.channels), 0), *blocks], dim=1)
    return (channels if rate == source_rate else torch.stack([resample(channel, source_rate, rate) for channel in channels])), rate


def audio_blocks(source: Source, *, block_seconds: float, sample_rate: int | None = None) -> Iterator[Tensor]:
    """Read a file of any length, mono, in bounded memory.

    Args:
        source: as in `load_audio`; opened when the first block is asked for.
        block_seconds: length of a block, rounded to whole samples, at least one.
        sample_rate: Hz to resample to, 4000 to 384000; None keeps the file's.

    Returns:
        An iterator of float32 `(samples,)`: equal blocks, the last one shorter, none for a file without samples. One after another they
        are `load_audio(source, sample_rate=sample_rate)[0]`, bit for bit.

    Raises:
        AudioFileError: while iterating: if the file is missing, cannot be decoded, or holds NaN or infinite samples.
        AudioError: if `block_seconds` is not positive, or a sample rate cannot be resampled.
    """
    if not (math.isfinite(block_seconds) and block_seconds > 0):
        raise AudioError(f"block_seconds must be a positive number of seconds, got {block_seconds!r}; try 10")
    rate = None if sample_rate is None else check_rate(sample_rate)

    def blocks() -> Iterator[Tensor]:
        with _open(source) as file:
            source_rate, target = _rates(file, _name(source), rate)
            parts = resample_parts(map(to_mono, _decoded(file, source)), source_rate, target)
            yield from regrouped(parts, max(1, round(block_seconds * target)))

    return blocks()


def audio_info(source: Source) -> AudioInfo:
    """Read the header of an audio file and decode nothing.

    Args:
        source: as in `load_audio`.

    Raises:
        AudioFileError: if the file is missing or no audio file.
        AudioError: if `source` is no path, bytes or binary file object.
    """
    with _open(source) as file:
        return AudioInfo(int(file.samplerate), int(file.channels), _seek(file, source), str(file.format))


def save_audio(
    path_or_file: Target, waveform: Tensor | Iterator[Tensor], sample_rate: int, *, subtype: str | None = None, format: str | None = None
) -> None:
    """Write an audio file; one that is at the path already is replaced when the new one is complete.

    Args:
        path_or_file: a path that ends in `.wav`, `.flac`, `.ogg` (Vorbis), `.opus` or `.mp3`; or a binary file object, with `format`.
        waveform: `(samples,)` or `(channels, samples)` of any type that `as_waveform` takes, in [-1, 1]; values beyond are clipped. Or an iterator
            of such pieces, one after another, which are not held together, such as `tok.decode_blocks(bundle)`.
        sample_rate: Hz. Opus takes 8000, 12000, 16000, 24000 and 48000 only, Vorbis at most 200000.
        subtype: how samples are stored, by libsndfile's name (`PCM_16`, `PCM_24`, `FLOAT`, ...); None means PCM_16 where the format has it.
        format: `wav`, `flac`, `ogg`, `opus` or `mp3`; None takes the path's suffix.

    Raises:
        AudioFileError: if the file cannot be written; what was at the path stays.
        AudioError: if the waveform, its rate or the format cannot be used, or do not fit together.
    """
    pieces, rate = _checked(waveform if isinstance(waveform, Iterator) else iter([waveform])), check_rate(sample_rate)
    first = next(pieces, torch.zeros(1, 0))
    kind = (format or (Path(path_or_file).suffix[1:] if isinstance(path_or_file, (str, os.PathLike)) else "")).lower()
    if kind not in _FORMATS:
        raise AudioError(f"cannot write audio as {kind!r}; end the path in .{', .'.join(_FORMATS)}, or give one of these without the dot as format=")
    container, usual = _FORMATS[kind].split()
    stored = (subtype or usual).upper()
    if stored == "VORBIS" and rate > _VORBIS_MAX_RATE:  # its encoder would crash the process
        raise AudioError(f"OGG Vorbis holds at most {_VORBIS_MAX_RATE} Hz, got {rate}; resample the waveform, or save it as .wav or .flac")

    def encode(target: BinaryIO) -> None:
        samples = _encode(target, itertools.chain([first], pieces), rate, len(first), container, stored)
        if not samples and kind not in _EMPTY_ALLOWED:
            raise AudioError(f"a .{kind} file cannot hold 0 samples; save the waveform as .wav or .ogg")

    if isinstance(path_or_file, (str, os.PathLike)):
        _replace(Path(path_or_file), encode)
    else:
        encode(buffer := io.BytesIO())
        path_or_file.write(buffer.getvalue())


def _checked(pieces: Iterator[Tensor]) -> Iterator[Tensor]:
    """Yield pieces as float32 `(channels, samples)`, all of as many channels."""
    start, channels = 0, None
    for piece in pieces:
        wave = torch.atleast_2d(as_float(piece))
        check_finite(wave, AudioError, "the waveform", start)
        if channels not in (None, len(wave)):
            raise AudioError(f"all pieces of a waveform need as many channels as the first, {channels}; got one of {len(wave)}")
        start, channels = start + wave.shape[1], len(wave)
        yield wave


def _name(source: Source) -> str:
    """Return what error texts call a source."""
    if isinstance(source, AudioSpan):
        return f"{_name(source.source)} from {source.start:g} s to {'its end' if source.end is None else f'{source.end:g} s'}"
    if isinstance(source, bytes):
        return f"the audio of {len(source)} bytes"
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else str(getattr(source, "name", "the file object"))


def _open(source: Any) -> Any:
    """Open a source as a `soundfile.SoundFile`, at its beginning."""
    if isinstance(source, AudioSpan):
        return _open(source.source)
    if isinstance(source, (str, os.PathLike)):
        opened: Any = _name(source)
        if not os.path.exists(opened):
            raise AudioFileError(f"no such file: {opened}; check the path (bytes and file objects are read too)")
        if os.path.isdir(opened):
            raise AudioFileError(f"{opened} is a folder; give the path of one audio file")
    elif isinstance(source, bytes):
        opened = io.BytesIO(source)
    elif hasattr(source, "read") and not isinstance(source, io.TextIOBase):
        opened = source if hasattr(source, "seekable") and source.seekable() else io.BytesIO(source.read())
        opened.seek(0)
    else:
        raise AudioError(f"expected a path, the bytes of an audio file or a file object opened in binary mode, got {type(source).__name__}")
    try:
        return soundfile.SoundFile(opened)
    except (soundfile.SoundFileError, TypeError) as error:
        raise _undecodable(_name(source), error) from error


def _seek(file: Any, source: Source) -> int:
    """Go to where a source begins in its open file, and return how many samples it has by the header."""
    total = int(file.frames)
    if not isinstance(source, AudioSpan):
        return total
    rate, start, end = int(file.samplerate), source.start, source.end
    if not (math.isfinite(start) and start >= 0 and (end is None or start <= end)):
        raise AudioError(f"a span must begin at 0 s or later and end behind its beginning, got {start} to {end}; change start or end")
    first, last = round(start * rate), total if end is None else min(total, round(end * rate))
    if first > total or (end is not None and end > total / rate + _LATE_S):
        raise AudioFileError(
            f"{_name(source)} is not there: the file has {total / rate:.2f} s; change start or end, or take another copy of the file"
        )
    file.seek(first)
    return last - first


def _rates(file: Any, name: str, sample_rate: int | None) -> tuple[int, int]:
    """Return the sample rate of an open file and the one asked for, which is the same if none is; the file's is checked if they differ."""
    rate = int(file.samplerate)
    if sample_rate is not None and sample_rate != rate:
        check_rate(rate, f"the sample rate of {name}")
    return rate, rate if sample_rate is None else sample_rate


def _undecodable(name: str, error: Exception) -> AudioFileError:
    return AudioFileError(f"cannot decode {name}: {_reason(error)}; WAV, FLAC, OGG (Vorbis, Opus) and MP3 are read, convert others first")


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).rstrip(".")


def _decoded(file: Any, source: Source) -> Iterator[Tensor]:
    """Yield float32 `(channels, samples)` blocks of an open source, always cut alike: some decoders round by the block."""
    start, name = 0, _name(source)
    stop = _seek(file, source) if isinstance(source, AudioSpan) else None  # a whole file may have more than its header says
    while True:
        try:
            block = torch.from_numpy(file.read(_BLOCK if stop is None else min(_BLOCK, stop - start), dtype="float32", always_2d=True)).T
        except soundfile.SoundFileError as error:
            raise _undecodable(name, error) from error
        if not block.shape[1]:
            return
        check_finite(block, AudioFileError, name, start)
        yield block
        start += block.shape[1]


def _encode(target: BinaryIO, pieces: Iterable[Tensor], sample_rate: int, channels: int, container: str, subtype: str) -> int:
    """Write `(channels, samples)` pieces as an audio file and return how many samples; in blocks, since some encoders overflow their stack else."""
    samples = 0
    try:
        with soundfile.SoundFile(target, "w", sample_rate, channels, subtype, format=container) as file:
            for piece in pieces:
                for block in piece.split(_BLOCK, 1):
                    values = block.clamp(-1, 1).T
                    if subtype == "PCM_16":  # to the nearest step; libsndfile rounds floats down
                        values = (values * 2**15).round().clamp(-(2**15), 2**15 - 1).to(torch.int16)
                    file.write(values.contiguous().numpy())
                samples += piece.shape[1]
    except (soundfile.SoundFileError, ValueError) as error:
        if isinstance(error, AudioError):  # of a piece
            raise
        what = f"{channels} channels at {sample_rate} Hz as {container} {subtype}"
        raise AudioError(f"cannot write {what}: {_reason(error)}; change the subtype or the rate, or save as .wav") from error
    return samples


def _replace(path: Path, encode: Callable[[BinaryIO], None]) -> None:
    """Write beside `path`, then rename."""
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            encode(file)
    except OSError as error:
        if isinstance(error, UnitokenError):
            raise
        raise AudioFileError(f"cannot write {path}: {error.strerror}; the folder must exist and be writable, the path no folder itself") from error
