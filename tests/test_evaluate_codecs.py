import stat
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechlike import FakeTokenizer, speech
from unitoken.errors import ConfigError, MissingDependencyError
from unitoken.evaluate.codecs import Codec2, Original, TokenizerCodec, align


def test_original_is_the_identity():
    clip = speech(0.1)
    trip = Original().roundtrip(clip)
    assert torch.equal(trip.waveform, clip)
    assert (trip.bits, trip.global_bits, trip.bundle) == (16 * 1600, 0, None)


@pytest.mark.parametrize(
    ("settings", "name", "bits", "global_bits", "gain"),
    [
        ({}, "unitoken S+G+P", 10 * (6 + 4), 6, 1),
        ({"drop_p": True}, "unitoken S+G", 10 * 6, 6, 0.5),
        ({"drop_g": True}, "unitoken S+P", 10 * (6 + 4), 0, 0.25),
        ({"drop_p": True, "drop_g": True, "name": "words only"}, "words only", 10 * 6, 0, 0.125),
        ({"shuffle_s_seed": 3}, "unitoken shuffled S+G+P", 10 * (6 + 4), 6, 1),
    ],
)
def test_a_tokenizer_with_streams_taken_away(settings, name, bits, global_bits, gain):
    codec = TokenizerCodec(FakeTokenizer(), **settings)
    clip = speech(0.4)
    trip = codec.roundtrip(clip)
    assert codec.name == name
    assert (trip.bits, trip.global_bits) == (bits, global_bits)
    assert torch.equal(trip.waveform, clip * gain)
    assert trip.bundle == codec.tokenizer.decoded[-1]
    assert trip.encode_seconds > 0
    assert trip.decode_seconds > 0


def test_shuffling_keeps_the_tokens_and_repeats():
    clip = speech(1.0)
    first, again, other = (TokenizerCodec(FakeTokenizer(), shuffle_s_seed=seed).roundtrip(clip).bundle.s for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, torch.arange(25))
    assert torch.equal(first.sort().values, torch.arange(25))


@given(st.integers(0, 800), st.sampled_from([16800, 20000]))
def test_align_finds_the_delay(delay, length):
    clip = speech(1.0)
    delayed = torch.cat([torch.zeros(delay), -0.5 * clip, torch.zeros(8000)])[:length]  # the sign is no matter
    out, found = align(clip, delayed)
    assert found == delay
    assert torch.equal(out, -0.5 * clip)


def test_align_fills_up_an_output_that_ends_early():
    clip = speech(1.0)
    out, found = align(clip, torch.cat([torch.zeros(100), clip])[:15000])
    assert torch.equal(out[: 15000 - found], torch.cat([torch.zeros(100), clip])[found:15000])
    assert out.shape == clip.shape
    assert not out[15000 - found :].any()


@pytest.mark.parametrize(("given", "got"), [(0, 0), (0, 10), (10, 0), (5, 3), (1, 1)])
def test_align_of_next_to_nothing(given, got):
    assert align(torch.zeros(given), torch.ones(got))[0].shape == (given,)


FAKE = """#!{python} -S
import sys
mode, data = sys.argv[1], sys.stdin.buffer.read()
samples, size = {{"700C": (320, 4), "1300": (320, 7), "2400": (160, 6)}}[mode]
frames = len(data) // (2 * samples) if {encodes} else len(data) // size
open({log!r}, "a").write(f"{encodes} {{mode}} {{frames}}\\n")
if {encodes}:
    open({store!r}, "wb").write(data[: frames * samples * 2])
    sys.stdout.buffer.write(bytes(frames * size))
else:
    delay = bytes(2 * 200)
    sys.stdout.buffer.write((delay + open({store!r}, "rb").read())[: frames * samples * 2])
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """`c2enc` and `c2dec` that keep the samples and delay them by 200 at 8 kHz."""
    for name, encodes in (("c2enc", True), ("c2dec", False)):
        path = tmp_path / name
        path.write_text(FAKE.format(python=sys.executable, encodes=encodes, log=str(tmp_path / "log"), store=str(tmp_path / "store")))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("mode", "frame_bits", "frame"), [("700C", 28, 640), ("1300", 52, 640), ("2400", 48, 320)])
def test_codec2_counts_bits_and_takes_the_delay_out(programs, mode, frame_bits, frame):
    clip = speech(1.01)
    trip = Codec2(mode).roundtrip(clip)
    assert trip.bits == -(-len(clip) // frame) * frame_bits
    assert trip.global_bits == 0
    assert trip.bundle is None
    assert trip.waveform.shape == clip.shape
    error = trip.waveform - clip
    assert float(error.square().sum() / clip.square().sum()) < 0.01  # down to 8 kHz and up, to 16 bits, in time
    sent, received = (line.split() for line in (programs / "log").read_text().splitlines())
    assert sent[1:] == received[1:] == [mode, str(-(-(len(clip) + 800) // frame))]


@pytest.mark.parametrize("samples", [0, 1])
def test_codec2_of_next_to_nothing(programs, samples):
    trip = Codec2("1300").roundtrip(torch.zeros(samples))
    assert trip.waveform.shape == (samples,)
    assert trip.bits == 52 * samples


def test_codec2_errors(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="unknown Codec2 mode '3200'; there are: 700C, 1300, 2400"):
        Codec2("3200")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"c2enc is not installed; .* apt install codec2"):
        Codec2("1300").roundtrip(speech(0.1))
