"""The `.utok` file: a header that names the tokenizer, then records of bit-packed tokens, checksums on all of it.

`docs/token-format.md` describes every byte. This module knows bytes and NumPy arrays; `tokens.py` makes bundles of them.
"""

import dataclasses
import hashlib
import json
import math
import os
import struct
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import TokenError, TokenFileError
from .files import replacing
from .token_info import StreamInfo, TokenizerInfo, check_count, check_text
from .units import bits_for

MAGIC = b"UTOK"
VERSION = 1
FileLike = str | os.PathLike[str] | BinaryIO

_PREFIX = struct.Struct("<4sHI")  # magic, version, bytes of the header
_RECORD = struct.Struct("<cBQH")  # tag, flags, samples, bytes of the numerics
_CRC_SIZE = 4
_RECORD_TAG, _END_TAG = b"R", b"E"
_FLAGS = {"g": 1, "p": 2}  # s is always there
_WRITER = "the program that wrote the file has a fault"
_COPY = "it is damaged: take another copy"
_UPGRADE = "upgrade with pip install -U unitoken-speech, or if that does not help the file is damaged: take another copy"


class Record(NamedTuple):
    """One bundle as the file holds it: int64 tokens by stream name, in the shapes of `TokenizerInfo.shapes`; absent streams left out."""

    num_samples: int
    numerics: str
    tokens: dict[str, NDArray[np.int64]]


def pack_tokens(tokens: NDArray[np.int64], size: int) -> bytes:
    """Write tokens one after the other in `bits_for(size)` bits each, most significant bit first, zero bits up to a whole byte.

    >>> pack_tokens(np.array([4, 0, 3]), 5).hex()
    '8180'
    """
    bits = bits_for(size)
    cells = tokens.reshape(-1).astype(f">u{_width(bits)}").view(np.uint8)
    columns = np.unpackbits(cells.reshape(-1, _width(bits)), axis=1)
    return np.packbits(columns[:, columns.shape[1] - bits :]).tobytes()


def unpack_tokens(payload: bytes, count: int, size: int) -> NDArray[np.int64]:
    """Read back `count` tokens that `pack_tokens` wrote.

    Raises:
        TokenFileError: if a token is `size` or more, or if the padding is not zero.

    >>> unpack_tokens(bytes.fromhex("8180"), 3, 5)
    array([4, 0, 3])
    """
    bits = bits_for(size)
    stored = np.unpackbits(np.frombuffer(payload, np.uint8))
    if stored[count * bits :].any():
        raise TokenFileError(f"the bits after the last token must be zero, some are one; {_WRITER}")
    columns = np.zeros((count, 8 * _width(bits)), np.uint8)
    columns[:, columns.shape[1] - bits :] = stored[: count * bits].reshape(count, bits)
    tokens = np.packbits(columns, axis=1).view(f">u{_width(bits)}").reshape(-1).astype(np.int64)
    if count and tokens.max() >= size:
        raise TokenFileError(f"a token is {tokens.max()}, allowed are 0 to {size - 1}; {_WRITER}")
    return tokens


def _width(bits: int) -> int:
    """Return the bytes of the smallest unsigned integer type that has `bits` bits."""
    return next(width for width in (1, 2, 4, 8) if bits <= 8 * width)


def write(target: FileLike, info: TokenizerInfo | None, records: Iterable[Record]) -> None:
    """Write one file; a path is replaced only when all of it is written.

    Args:
        target: a path, or a file object open for writing bytes.
        info: the tokenizer of all records; None if there are no records.
        records: consumed one at a time.
    """
    with _opened(target) as stream:
        digest = hashlib.sha256()
        for part in _parts(info, records):
            digest.update(part)
            stream.write(part)
        stream.write(digest.digest())


def _parts(info: TokenizerInfo | None, records: Iterable[Record]) -> Iterator[bytes]:
    header = _header(info)
    part = _PREFIX.pack(MAGIC, VERSION, len(header)) + header
    yield part + _crc(part)
    if info is not None:
        for record in records:
            part = _packed(info, record)
            yield part + _crc(part)
    yield _END_TAG


def _header(info: TokenizerInfo | None) -> bytes:
    """Return the one JSON text that stands for `info`."""
    values = None if info is None else dataclasses.asdict(info)
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _crc(part: bytes) -> bytes:
    return zlib.crc32(part).to_bytes(_CRC_SIZE, "little")


def _packed(info: TokenizerInfo, record: Record) -> bytes:
    flags = sum(flag for name, flag in _FLAGS.items() if name in record.tokens)
    numerics = record.numerics.encode()
    payload = b"".join(pack_tokens(record.tokens[name], size) for name, size in info.sizes.items() if name in record.tokens)
    return _RECORD.pack(_RECORD_TAG, flags, record.num_samples, len(numerics)) + numerics + payload


@contextmanager
def _opened(target: FileLike) -> Generator[BinaryIO]:
    """Give a file object; a path gets its new content by renaming a finished temporary file, or keeps its old one."""
    if not isinstance(target, str | os.PathLike):
        yield target
        return
    try:
        with replacing(target) as temporary, temporary.open("xb") as stream:
            yield stream
    except OSError as error:
        raise TokenFileError(f"cannot write {os.fspath(target)}: {error.strerror or error}; its folder must exist and be writable") from error


def read(source: FileLike) -> tuple[TokenizerInfo | None, list[Record]]:
    """Read one whole file and check every byte of it.

    Args:
        source: a path, or a file object open for reading bytes; read from where it stands to its end.

    Raises:
        TokenFileError: if it cannot be read, is no `.utok` file, of another version, damaged, cut short, or followed by other bytes.
    """
    is_path = isinstance(source, str | os.PathLike)
    if not is_path and not hasattr(source, "read"):
        remedy = "bytes are read with TokenBundle.from_bytes" if isinstance(source, bytes) else "open the file first, or give its path"
        raise TokenFileError(f"expected a path or a file object open for reading bytes, got {type(source).__name__}; {remedy}")
    name = os.fspath(source) if is_path else "the token data"
    try:
        return _Reader(Path(source).read_bytes() if is_path else source.read()).file()
    except TokenFileError as error:
        raise TokenFileError(f"{name}: {error}") from error
    except FileNotFoundError as error:
        raise TokenFileError(f"no such token file: {name}; check the path") from error
    except OSError as error:
        raise TokenFileError(f"cannot read {name}: {error.strerror or error}; give the path of a token file") from error


class _Reader:
    """Walks over the bytes of one file from the front."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def file(self) -> tuple[TokenizerInfo | None, list[Record]]:
        info = self.header()
        records: list[Record] = []
        while (tag := self.data[self.position : self.position + 1]) != _END_TAG:
            if info is None or tag not in (_RECORD_TAG, b""):
                raise TokenFileError(f"byte {self.position} should begin a record or the end of the file, got {tag!r}; {_COPY}")
            try:
                records.append(self.record(info))
            except (TokenError, TokenFileError, UnicodeError) as error:
                raise TokenFileError(f"record {len(records)}: {error}") from error
        if info is not None and not records:
            raise TokenFileError(f"a file without bundles names no tokenizer, this one does; {_WRITER}")
        self.end()
        return info, records

    def header(self) -> TokenizerInfo | None:
        if (magic := self.data[:4]) != MAGIC:
            raise TokenFileError(f"this is no token file: it starts with {magic!r}, expected {MAGIC!r}; check the path, or open it as binary")
        version = int.from_bytes(self.data[4:6], "little")
        if len(self.data) >= 6 and version != VERSION:
            raise TokenFileError(f"format version {version} is unknown, this release reads version {VERSION}; {_UPGRADE}")
        length = _PREFIX.unpack(self.take(_PREFIX.size, "header"))[2]
        text = self.take(length, "header")
        self.check_crc(0, "header")
        try:
            values: Any = json.loads(text)
            info = None if values is None else TokenizerInfo(**values | {name: StreamInfo(**values[name]) for name in ("s", "p")})
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise TokenFileError(f"the header describes no tokenizer ({error}); {_WRITER}") from error
        if text != _header(info):
            raise TokenFileError(f"the header is not in the one form that the format allows; {_WRITER}")
        return info

    def record(self, info: TokenizerInfo) -> Record:
        start = self.position
        _, flags, num_samples, text_length = _RECORD.unpack(self.take(_RECORD.size, "record"))
        text = self.take(text_length, "numerics")
        shapes = {name: shape for name, shape in info.shapes(num_samples).items() if name not in _FLAGS or flags & _FLAGS[name]}
        payloads = {name: self.take(-(-math.prod(shape) * bits_for(info.sizes[name]) // 8), name) for name, shape in shapes.items()}
        self.check_crc(start, "record")
        if flags & ~sum(_FLAGS.values()):
            raise TokenFileError(f"flags are {flags:#04x}, version {VERSION} knows 0x01 and 0x02; {_WRITER}")
        check_count(num_samples, "num_samples", least=0)
        check_text(numerics := text.decode(), "numerics")
        tokens = {name: unpack_tokens(payloads[name], math.prod(shape), info.sizes[name]).reshape(shape) for name, shape in shapes.items()}
        return Record(num_samples, numerics, tokens)

    def end(self) -> None:
        self.take(1, "end")
        digest = hashlib.sha256(self.data[: self.position]).digest()
        if self.take(len(digest), "SHA-256 at the end") != digest:
            raise TokenFileError(f"the SHA-256 at the end does not fit what comes before; {_COPY}")
        if extra := len(self.data) - self.position:
            raise TokenFileError(f"{extra} bytes follow the end of the file at byte {self.position}; {_COPY}")

    def take(self, count: int, what: str) -> bytes:
        """Return the next `count` bytes."""
        if count > (left := len(self.data) - self.position):
            raise TokenFileError(f"{what} at byte {self.position} needs {count} bytes, {left} are left; the file is cut short, or {_COPY}")
        self.position += count
        return self.data[self.position - count : self.position]

    def check_crc(self, start: int, what: str) -> None:
        """Compare the bytes from `start` to here with the CRC-32 that follows."""
        computed = _crc(self.data[start : self.position])
        if self.take(_CRC_SIZE, "CRC-32") != computed:
            raise TokenFileError(f"the CRC-32 of the {what} from byte {start} on is wrong; {_COPY}")
