import dataclasses
import hashlib
import io
import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_tokens import INFO, bundles, example, infos
from unitoken.errors import TokenError, TokenFileError
from unitoken.tokens import TokenBundle
from unitoken.utok import pack_tokens, unpack_tokens

DOCUMENT = Path(__file__).parents[1] / "docs" / "token-format.md"
HEADER = (
    '{"code_licence":"Apache-2.0","fingerprint":"00ff","g_size":1000,"name":"tiny","num_g":3,"p":{"codebook_size":2,"hop":8,"num_codebooks":2},'
    '"s":{"codebook_size":5,"hop":4,"num_codebooks":1},"sample_rate":8000,"weights_licence":"MIT"}'
)
PREAMBLE = "55544f4b 0100 e7000000"
RECORD = "52 03 0a00000000000000 1100 6370752f666c6f617433322f746f726368 00402f9c 8180 90"
GOLDEN = (
    bytes.fromhex(PREAMBLE)
    + HEADER.encode()
    + bytes.fromhex("33990b5a")
    + bytes.fromhex(RECORD)
    + bytes.fromhex("a0acf6e9")
    + bytes.fromhex("45 701bd7ee5a43fae306cbb8117a866d7906e9546bd7556725cf144723abb92647")
)


def code_block(language):
    return re.search(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL).group(1)


def sealed(*parts):
    """A file of these parts with checksums that fit, as a program with a fault would write it."""
    data = b"".join(part + struct.pack("<I", zlib.crc32(part)) for part in parts) + b"E"
    return data + hashlib.sha256(data).digest()


def preamble(header):
    return b"UTOK\1\0" + len(header).to_bytes(4, "little") + header


def saved(some):
    stream = io.BytesIO()
    TokenBundle.save_many(stream, some)
    return stream.getvalue()


# The bytes


def test_golden_bytes():
    bundle = example()
    assert bundle.to_bytes() == GOLDEN
    assert TokenBundle.from_bytes(GOLDEN) == bundle
    assert TokenBundle.from_bytes(GOLDEN).numerics == "cpu/float32/torch"
    assert sealed(preamble(HEADER.encode()), bytes.fromhex(RECORD)) == GOLDEN
    assert bytes.fromhex(code_block("hex")) == GOLDEN
    assert HEADER in DOCUMENT.read_text(encoding="utf-8")


def test_header_text_is_escaped_only_where_json_needs_it():
    bundle = example(info=dataclasses.replace(INFO, name='größe "a\\b"'))
    assert '"name":"größe \\"a\\\\b\\""'.encode() in bundle.to_bytes()
    assert TokenBundle.from_bytes(bundle.to_bytes()) == bundle


@given(infos().flatmap(lambda info: st.lists(bundles(info), max_size=3)))
def test_the_documented_reader_reads_what_we_write(some):
    documented = {}
    exec(code_block("python"), documented)  # noqa: S102 - the document's own code
    header, read = documented["read_utok"](saved(some))
    assert header == (dataclasses.asdict(some[0].info) if some else None)
    for bundle, (samples, numerics, tokens) in zip(some, read, strict=True):
        assert (samples, numerics) == (bundle.num_samples, bundle.numerics)
        ours = {name: getattr(bundle, name) for name in "gsp"}
        assert tokens == {name: value.flatten().tolist() for name, value in ours.items() if value is not None}


@given(infos().flatmap(lambda info: st.lists(bundles(info), max_size=3)))
def test_round_trip(some):
    data = saved(some)
    again = TokenBundle.load_many(io.BytesIO(data))
    assert again == some
    assert [bundle.numerics for bundle in again] == [bundle.numerics for bundle in some]
    assert saved(again) == data


@given(bundles())
def test_round_trip_of_one(bundle):
    assert TokenBundle.from_bytes(bundle.to_bytes()) == bundle


@pytest.mark.parametrize("size", [1, 2, 3, 128, 256, 257, 4096, 2**16, 2**16 + 1, 2**32, 2**40, 2**63 - 1])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_packing_against_text(size, count):
    tokens = np.random.default_rng(count).integers(0, size, count)
    tokens[:1] = size - 1
    bits = (size - 1).bit_length()
    text = "".join(f"{token:0{bits}b}" for token in tokens) if bits else ""
    text += "0" * (-len(text) % 8)
    packed = pack_tokens(tokens, size)
    assert packed == bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    unpacked = unpack_tokens(packed, count, size)
    assert unpacked.dtype == np.int64
    assert unpacked.tolist() == tokens.tolist()


def test_a_long_file():
    tokens = np.arange(200_000) % 5
    bundle = example(s=tokens, p=np.zeros((100_000, 2), int), num_samples=800_000)
    assert TokenBundle.from_bytes(bundle.to_bytes()) == bundle


# Damage


def several():
    return saved([example(), example(s=[], p=[], num_samples=0), example(p=None, g=None)])


@pytest.mark.parametrize("data", [GOLDEN, several(), saved([])], ids=["one", "several", "none"])
def test_every_flipped_byte_is_refused(data):
    for position in range(len(data)):
        for flip in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            damaged = bytearray(data)
            damaged[position] ^= flip
            with pytest.raises(TokenFileError):
                TokenBundle.load_many(io.BytesIO(bytes(damaged)))


@pytest.mark.parametrize("data", [GOLDEN, several(), saved([])], ids=["one", "several", "none"])
def test_every_truncation_is_refused(data):
    for length in range(len(data)):
        with pytest.raises(TokenFileError, match=r"cut short|this is no token file|is damaged"):
            TokenBundle.load_many(io.BytesIO(data[:length]))


@pytest.mark.parametrize("garbage", [b"\0", b"E", GOLDEN])
def test_bytes_after_the_end_are_refused(garbage):
    text = f"the token data: {len(garbage)} bytes follow the end of the file at byte 318; it is damaged: take another copy"
    with pytest.raises(TokenFileError, match=f"^{text}$"):
        TokenBundle.from_bytes(GOLDEN + garbage)


def test_the_error_says_where(tmp_path):
    data = bytearray(several())
    second = 14 + len(HEADER) + len(bytes.fromhex(RECORD)) + 4
    data[second + 2] ^= 1  # the number of samples of an empty record: now it would need tokens
    path = tmp_path / "damaged.utok"
    path.write_bytes(bytes(data))
    with pytest.raises(TokenFileError, match=re.escape(f"{path}: record 1: the CRC-32 of the record from byte {second} on is wrong; it is damaged")):
        TokenBundle.load_many(path)


@pytest.mark.parametrize("version", [0, 2, 256, 65535])
def test_a_foreign_version_is_named(version):
    data = GOLDEN[:4] + version.to_bytes(2, "little") + GOLDEN[6:]
    text = f"format version {version} is unknown, this release reads version 1; upgrade with pip install -U unitoken-speech"
    with pytest.raises(TokenFileError, match=re.escape(text)):
        TokenBundle.from_bytes(data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "this is no token file: it starts with b'', expected b'UTOK'; check the path"),
        (b"RIFF....WAVE", "this is no token file: it starts with b'RIFF', expected b'UTOK'"),
    ],
)
def test_other_files_are_refused(data, text):
    with pytest.raises(TokenFileError, match=re.escape(text)):
        TokenBundle.from_bytes(data)


# Programs that write wrong files with checksums that fit


def header_with(**changes):
    return json.dumps({**json.loads(HEADER), **changes}, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (HEADER.replace(":3,", ": 3,").encode(), "the header is not in the one form that the format allows"),
        (json.dumps(dict(reversed(json.loads(HEADER).items())), separators=(",", ":")).encode(), "the header is not in the one form"),
        (HEADER.replace("tiny", "t\\u0069ny").encode(), "the header is not in the one form"),
        (header_with(colour="red"), "the header describes no tokenizer (.*colour.*)"),
        (header_with(num_g=None), "the header describes no tokenizer (num_g must be an integer"),
        (header_with(num_g=True), "the header describes no tokenizer (num_g must be an integer"),
        (header_with(name="a\nb"), "the header describes no tokenizer (name must be printable text"),
        (header_with(s=[4, 1, 5]), "the header describes no tokenizer"),
        (header_with(p={"hop": 6, "num_codebooks": 2, "codebook_size": 2}), "the hops of S and P must divide each other"),
        (b"{}", "the header describes no tokenizer ('s')"),
        (b"[]", "the header describes no tokenizer"),
        (b"7", "the header describes no tokenizer"),
        (b"", "the header describes no tokenizer"),
        (b"\xff\xff", "the header describes no tokenizer"),
        (b"[" * 100_000, "the header describes no tokenizer"),
    ],
)
def test_wrong_headers_are_refused(header, text):
    pattern = re.escape(text).replace(re.escape(".*"), ".*")
    with pytest.raises(TokenFileError, match=pattern + ".*the program that wrote the file has a fault"):
        TokenBundle.from_bytes(sealed(preamble(header), bytes.fromhex(RECORD)))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("52 03", "52 07", "record 0: flags are 0x07, version 1 knows 0x01 and 0x02"),
        ("8180", "8181", "record 0: the bits after the last token must be zero, some are one"),
        ("8180", "a180", "record 0: a token is 5, allowed are 0 to 4"),
        ("00402f9c", "ffc02f9c", "record 0: a token is 1023, allowed are 0 to 999"),
        ("6370752f", "ff70752f", "record 0: 'utf-8' codec can't decode byte 0xff"),
        ("6370752f", "0070752f", "record 0: numerics must be printable text"),
        ("0a00000000000000", "0000000000000080", "record 0: s at byte"),
        ("52 03", "53 03", "byte 245 should begin a record or the end of the file, got b'S'"),
    ],
)
def test_wrong_records_are_refused(old, new, text):
    with pytest.raises(TokenFileError, match=re.escape(text)):
        TokenBundle.from_bytes(sealed(preamble(HEADER.encode()), bytes.fromhex(RECORD.replace(old, new))))


def test_more_samples_than_a_bundle_can_have_are_refused():
    long = {"codebook_size": 2, "hop": 2**63 - 1, "num_codebooks": 1}
    record = struct.pack("<cBQH", b"R", 0, 2**63, 0) + b"\0"  # two frames of one bit
    with pytest.raises(TokenFileError, match="record 0: num_samples must be an integer from 0 to"):
        TokenBundle.from_bytes(sealed(preamble(header_with(s=long, p=long)), record))


def test_tokens_of_no_bits_are_refused():
    """Else a few bytes could ask for any amount of memory."""
    one = {"codebook_size": 1, "hop": 1, "num_codebooks": 1}
    record = struct.pack("<cBQH", b"R", 0, 2**62, 0)
    with pytest.raises(TokenFileError, match="codebook_size must be an integer from 2 to"):
        TokenBundle.from_bytes(sealed(preamble(header_with(s=one, p=one)), record))


def test_records_need_a_tokenizer():
    with pytest.raises(TokenFileError, match="byte 18 should begin a record or the end of the file, got b'R'"):
        TokenBundle.load_many(io.BytesIO(sealed(preamble(b"null"), bytes.fromhex(RECORD))))


def test_a_tokenizer_needs_records():
    with pytest.raises(TokenFileError, match="a file without bundles names no tokenizer"):
        TokenBundle.load_many(io.BytesIO(sealed(preamble(HEADER.encode()))))


def test_exchanged_records_are_noticed():
    head, record = preamble(HEADER.encode()), bytes.fromhex(RECORD)
    other = bytes.fromhex(RECORD.replace("8180", "8080"))
    data, exchanged = sealed(head, record, other), sealed(head, other, record)
    with pytest.raises(TokenFileError, match="the SHA-256 at the end does not fit what comes before"):
        TokenBundle.load_many(io.BytesIO(exchanged[:-32] + data[-32:]))


# Paths and file objects


@pytest.mark.parametrize("as_path", [str, Path])
def test_paths(tmp_path, as_path):
    path = as_path(tmp_path / "talk.utok")
    example().save(path)
    assert Path(path).read_bytes() == GOLDEN
    assert TokenBundle.load(path) == example()
    assert [file.name for file in tmp_path.iterdir()] == ["talk.utok"]


def test_file_objects_are_written_and_read_where_they_stand(tmp_path):
    path = tmp_path / "inside"
    with path.open("wb") as stream:
        stream.write(b"before")
        example().save(stream)
    assert path.read_bytes() == b"before" + GOLDEN
    with path.open("rb") as stream:
        stream.seek(6)
        assert TokenBundle.load(stream) == example()


def test_text_files_are_refused():
    with pytest.raises(TokenFileError, match="it starts with 'UTOK', expected b'UTOK'; check the path, or open it as binary"):
        TokenBundle.load(io.StringIO("UTOK"))


def test_a_save_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "talk.utok"
    example().save(path)

    def broken():
        yield example(g=None)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        TokenBundle.save_many(path, broken())
    assert path.read_bytes() == GOLDEN
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "talk.utok"
    example().save(path)

    def watching():
        for bundle in (example(g=None), example(p=None)):
            yield bundle
            assert path.read_bytes() == GOLDEN

    TokenBundle.save_many(path, watching())
    assert TokenBundle.load_many(path) == [example(g=None), example(p=None)]


def test_files_that_cannot_be_read_or_written_are_named(tmp_path):
    with pytest.raises(TokenFileError, match=r"no such token file: .*absent\.utok; check the path"):
        TokenBundle.load(tmp_path / "absent.utok")
    with pytest.raises(TokenFileError, match=r"cannot read .*: Is a directory; give the path of a token file"):
        TokenBundle.load(tmp_path)
    with pytest.raises(TokenFileError, match=r"cannot write .*talk\.utok: No such file or directory; its folder must exist"):
        example().save(tmp_path / "absent" / "talk.utok")
    with pytest.raises(TokenFileError, match=r"got bytes; bytes are read with TokenBundle\.from_bytes"):
        TokenBundle.load(example().to_bytes())
    assert list(tmp_path.iterdir()) == []


def test_a_file_may_have_the_longest_name_that_the_system_allows(tmp_path):
    path = tmp_path / ("n" * 250 + ".utok")
    example().save(path)
    assert TokenBundle.load(path) == example()


def test_tokens_changed_in_place_to_impossible_ones_are_not_saved(tmp_path):
    bundle = example()
    bundle.s[0] = 5
    with pytest.raises(TokenError, match="s must hold tokens from 0 to 4, got 5"):
        bundle.save(tmp_path / "x.utok")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [0, 2])
def test_load_wants_exactly_one(count):
    data = saved([example()] * count)
    text = f"expected a token file with one bundle, got one with {count}; use TokenBundle.load_many"
    with pytest.raises(TokenFileError, match=f"^{re.escape(text)}$"):
        TokenBundle.from_bytes(data)
    assert TokenBundle.load_many(io.BytesIO(data)) == [example()] * count


def test_one_file_is_of_one_tokenizer(tmp_path):
    foreign = example(info=dataclasses.replace(INFO, fingerprint="ab"))
    text = "one file holds bundles of one tokenizer; bundle 1 is of tiny (ab), bundle 0 of tiny (00ff); write another file for it"
    with pytest.raises(TokenError, match=re.escape(text)):
        TokenBundle.save_many(tmp_path / "talk.utok", [example(), foreign])
    assert list(tmp_path.iterdir()) == []
