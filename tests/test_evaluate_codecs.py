import pickle
import stat
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechlike import FakeTokenizer, speech
from unitoken.audio import save_audio
from unitoken.errors import AudioError, ConfigError, MissingDependencyError, ModelError
from unitoken.evaluate import lyra
from unitoken.evaluate.baselines import Codec2, Opus, align, from_pcm, ogg_payload, to_pcm
from unitoken.evaluate.codecs import Decoded, Original, TokenizerCodec


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


def page(*packets):
    """Return an Ogg page."""
    return b"OggS" + bytes(22) + bytes([len(packets)]) + bytes(len(packet) for packet in packets) + b"".join(packets)


def test_opus_packets_are_counted_without_their_container():
    head = page(bytes(19)) + page(bytes(200))
    assert ogg_payload(head) == 0
    assert ogg_payload(head + page(bytes(45), bytes(45)) + page(bytes(255), bytes(3))) == 348


FAKE_OPUS = """#!{python} -S
import sys
open({log!r}, "a").write(" ".join(sys.argv[1:]) + "\\n")
data = sys.stdin.buffer.read()
sys.stdout.buffer.write({answer})
"""


def test_opus_by_its_programs(tmp_path, monkeypatch):
    answers = {"opusenc": repr(page(b"1") + page(b"2") + page(bytes(100))), "opusdec": f"open({str(tmp_path / 'pcm')!r}, 'rb').read()"}
    for name, answer in answers.items():
        path = tmp_path / name
        path.write_text(FAKE_OPUS.format(python=sys.executable, log=str(tmp_path / "log"), answer=answer))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    clip = speech(0.5)
    for samples in (7990, 8000, 8100):  # the decoder may give more or fewer
        (tmp_path / "pcm").write_bytes(to_pcm(torch.nn.functional.pad(clip, (0, 200)))[: 2 * samples])
        trip = Opus(6).roundtrip(clip)
        assert trip.bits == 800
        assert trip.waveform.shape == clip.shape
        assert (trip.waveform - clip)[:7990].abs().max() < 1e-4
    Opus(12).roundtrip(clip)
    calls = (tmp_path / "log").read_text().splitlines()
    assert "--raw-rate 16000 " in calls[0]
    assert "--hard-cbr --bitrate 6 --framesize 60 - -" in calls[0]
    assert calls[1] == "--quiet --rate 16000 - -"
    assert "--bitrate 12 --framesize 20 - -" in calls[-2]
    assert Opus(6).roundtrip(clip[:0]).bits == 0


def test_opus_errors(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="Opus takes 6 to 64 kilobits a second here, got 3"):
        Opus(3)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"opusenc is not installed; .* apt install opus-tools"):
        Opus(6).roundtrip(speech(0.1))


@given(st.lists(st.integers(-32767, 32767)))
def test_pcm_is_exact(samples):
    wave = torch.tensor(samples, dtype=torch.float32) / 32767
    assert torch.equal((from_pcm(to_pcm(wave)) * 32768).round(), torch.tensor(samples, dtype=torch.float32))


class FakeInterpreter:
    """Networks whose features are a frame's mean; the decoder plays the first stage's index."""

    def __init__(self, path, num_threads):
        assert num_threads == 2
        self.name, self.frames = path.rpartition("/")[2], 0

    def allocate_tensors(self):
        pass

    def get_signature_runner(self, name):
        if name == "encode":
            return lambda input_frames, num_quantizers: {"output_0": torch.arange(46).numpy().reshape(46, 1, 1) + round(float(input_frames.mean()))}
        return lambda encoding_indices: {"output_0": encoding_indices[:3].astype("float64").reshape(1, 1, 3)}

    def get_input_details(self):
        return [{"index": 7}]

    def get_output_details(self):
        return [{"index": 8}]

    def reset_all_variables(self):
        self.frames = 0

    def set_tensor(self, index, values):
        assert index == 7
        self.values, self.frames = values, self.frames + 1

    def invoke(self):
        pass

    def get_tensor(self, index):
        assert index == 8
        if "encoder" in self.name:
            return self.values.mean(1)
        return torch.full((1, 320), float(self.values.ravel()[0]) / 100 + self.frames / 1000).numpy()


@pytest.mark.parametrize(("rate", "bits"), lyra.RATES.items())
def test_lyra_frame_by_frame(tmp_path, monkeypatch, rate, bits):
    for name in lyra.FILES:
        (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", SimpleNamespace(Interpreter=FakeInterpreter))
    codec = lyra.Lyra(tmp_path, rate, threads=2)
    clip = torch.cat([torch.full((320,), 5.0), torch.full((320,), 9.0), torch.full((100,), 6.4)])
    for _ in range(2):  # each clip starts afresh
        trip = codec.roundtrip(clip)
        assert trip.bits == 3 * bits
        expected = torch.cat([torch.full((320,), 0.051), torch.full((320,), 0.092), torch.full((100,), 0.023)])
        assert torch.allclose(trip.waveform, expected)
    assert codec.roundtrip(clip[:0]).waveform.shape == (0,)
    assert codec.name == f"Lyra {rate / 1000:g}k"
    again = pickle.loads(pickle.dumps(codec))
    assert (again.name, again.frame_bits) == (codec.name, bits)
    assert torch.equal(again.roundtrip(clip).waveform, codec.roundtrip(clip).waveform)


def test_lyra_errors(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="unknown bitrate of Lyra 1000; there are: 3200, 6000, 9200"):
        lyra.Lyra(tmp_path, 1000)
    (tmp_path / "quantizer.tflite").touch()
    with pytest.raises(ModelError, match=r"lacks soundstream_encoder\.tflite, lyragan\.tflite; give the folder"):
        lyra.Lyra(tmp_path)
    for name in lyra.FILES:
        (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingDependencyError, match="run: pip install ai-edge-litert"):
        lyra.Lyra(tmp_path)


def test_files_of_another_codec(tmp_path):
    clip = speech(0.5)
    folder = tmp_path / "theirs"
    (folder / "a").mkdir(parents=True)
    save_audio(folder / "a" / "1.flac", clip * 0.5, 16000)
    save_audio(folder / "a" / "2.wav", clip[:7000], 16000)
    codec = Decoded(folder, bitrate=3000)
    trip = codec.roundtrip(clip, "a/1.wav")
    assert codec.name == "theirs"
    assert (trip.waveform - clip * 0.5).abs().max() < 1e-4
    assert (trip.bits, Decoded(folder, name="x").roundtrip(clip, "a/1.wav").bits) == (1500, None)
    assert not codec.roundtrip(clip, "a/2.opus").waveform[7000:].any()
    with pytest.raises(AudioError, match=r"has no decoded version of b/1\.wav"):
        codec.roundtrip(clip, "b/1.wav")
    with pytest.raises(AudioError, match=r"has 7000 samples at 16 kHz, a/2\.wav has 12000; is it another clip"):
        codec.roundtrip(torch.zeros(12000), "a/2.wav")
    with pytest.raises(ConfigError, match="no folder of decoded clips"):
        Decoded(tmp_path / "nowhere")
