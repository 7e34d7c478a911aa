"""A plan's row to audio: its bytes from wherever they lie, a hash of them, and the waveform."""

import functools
import hashlib
import os
import stat
from dataclasses import dataclass

from torch import Tensor

from ..audio import AudioSpan, File, Source, audio_info, load_audio
from ..errors import AudioFileError
from .plan import Row
from .store import filesystem_of, is_url
from .tables import audio_in

WHOLE_S = 120.0
"""Longest utterance whose waveform is held at once; a longer one is read while it is encoded."""
LARGE = 1 << 26
"""Bytes of a file from which on it is not held at once."""
_CHUNK = 1 << 20
_UNKNOWN = 0xFFFFFFFF  # length in the header of a WAV file that was written to a pipe


@dataclass(frozen=True)
class Fetched:
    """A row's audio as it is stored.

    Attributes:
        source: what decodes it.
        source_hash: 16 bytes: BLAKE2b of the audio file's bytes, and of the span if it is one.
    """

    source: Source
    source_hash: bytes


@dataclass(frozen=True)
class Heard:
    """What there is to encode of one row.

    Attributes:
        source_hash: see `Fetched`.
        seconds: its length by the file's header.
        waveform: float32 `(samples,)` at the rate asked for; None of long ones.
        source: long ones, to be read in blocks.
    """

    source_hash: bytes
    seconds: float
    waveform: Tensor | None
    source: Source | None


def fetch(row: Row) -> Fetched:
    """Find a row's audio and hash it.

    Raises:
        AudioFileError: if it is missing.
        OSError: if it cannot be read.
        CorpusError: if a table has no audio there.
    """
    source, digest = _file(row)
    if row.start is None and row.end is None:
        return Fetched(source, digest)
    start, end = row.start or 0.0, row.end
    span = hashlib.blake2b(digest + f"{start!r} {end!r}".encode(), digest_size=16)
    return Fetched(AudioSpan(source, start, end), span.digest())


def hear(fetched: Fetched, sample_rate: int) -> Heard:
    """Decode audio.

    Args:
        fetched: of a row.
        sample_rate: Hz, of the waveform.

    Raises:
        AudioError: if it cannot be decoded.
    """
    _check_whole(fetched.source.source if isinstance(fetched.source, AudioSpan) else fetched.source)
    seconds = audio_info(fetched.source).seconds
    if seconds > WHOLE_S:
        return Heard(fetched.source_hash, seconds, None, fetched.source)
    return Heard(fetched.source_hash, seconds, load_audio(fetched.source, sample_rate=sample_rate)[0], None)


def check_length(row: Row, seconds: float, by_header: float) -> None:
    """Refuse audio that ends before its header says; a header may be off by a little where it is an estimate.

    Raises:
        AudioFileError: if it does.
    """
    if seconds < 0.98 * by_header - 0.1:
        raise AudioFileError(f"{shown(row)} is cut short: {seconds:.1f} s of {by_header:.1f} s can be decoded; take another copy")


def shown(row: Row) -> str:
    """Return what error texts call a row's audio."""
    path = row.path.decode(errors="backslashreplace")
    return path if row.offset is None and row.index is None else f"{row.id} in {path}"


def _file(row: Row) -> tuple[File, bytes]:
    """Return a row's whole file, as bytes unless it is large, and their hash."""
    path = os.fsdecode(row.path)
    if row.index is not None:
        found = audio_in(path, row.column or "", row.index)
        if isinstance(found, bytes):
            return found, _hash(found)
        path = found if is_url(found) else os.path.join(os.path.dirname(path), found)
    if is_url(path):
        fs, name = filesystem_of(path)
        data = fs.cat_file(name, start=row.offset, end=None if row.size is None else (row.offset or 0) + row.size)
        return _complete(row, data), _hash(data)
    if row.offset is not None and row.size is not None:
        with open(path, "rb") as file:
            file.seek(row.offset)
            data = file.read(row.size)
        return _complete(row, data), _hash(data)
    try:
        about = os.stat(path)
    except FileNotFoundError:
        raise AudioFileError(f"no such file: {shown(row)}; check the path") from None
    if not stat.S_ISREG(about.st_mode):  # a pipe would be waited for
        raise AudioFileError(f"{shown(row)} is no file but a folder, pipe or device; give a file")
    if about.st_size < LARGE and row.start is None and row.end is None:
        with open(path, "rb") as file:
            data = file.read()
        return data, _hash(data)
    return path, _hash_of_file(path, about.st_size, about.st_mtime_ns)


def _check_whole(file: File) -> None:
    """Refuse a WAV file that ends before its header says, of which libsndfile gives what is there."""
    if isinstance(file, bytes):
        head, size = file[:8], len(file)
    else:
        with open(os.fspath(file), "rb") as opened:  # type: ignore[arg-type]
            head, size = opened.read(8), os.fstat(opened.fileno()).st_size
    length = int.from_bytes(head[4:8], "little")
    if head[:4] == b"RIFF" and size < length + 8 and length not in {0, _UNKNOWN}:
        raise AudioFileError(f"the WAV file is cut short: it has {size} of {length + 8} bytes; take another copy")


def _complete(row: Row, data: bytes) -> bytes:
    if row.size is not None and len(data) < row.size:
        raise AudioFileError(f"{os.fsdecode(row.path)} ends before {row.id}, which it should hold; take another copy of it")
    return data


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


@functools.lru_cache(maxsize=16)
def _hash_of_file(path: str, size: int, changed: int) -> bytes:
    """Return the hash of a file that many rows may be parts of."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.digest()
