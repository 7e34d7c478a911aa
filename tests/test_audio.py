"""Files, arrays and sample rates: exact where nothing is lost, measured against analytic truth where something is."""

import ast
import functools
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unitoken.audio
import unitoken.resample
from unitoken.audio import AudioInfo, AudioSpan, Resampler, audio_blocks, audio_info, load_audio, resample, save_audio
from unitoken.errors import AudioError, AudioFileError
from unitoken.waveform import as_waveform, to_mono

RATES = [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000]
LONG = 140_000  # samples: more than two of the blocks that files are decoded and filtered in


def noise(samples, seed=0, channels=None):
    shape = (samples,) if channels is None else (channels, samples)
    return torch.from_numpy(np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32))


def sine(hz, rate, samples):
    return torch.from_numpy(np.sin(2 * np.pi * hz / rate * np.arange(samples))).float()


def contents(waveform, rate=16000, format="wav", **kwargs):
    file = io.BytesIO()
    save_audio(file, waveform, rate, format=format, **kwargs)
    return file.getvalue()


# Resampling


def naive(x, source, target):
    """Weigh the samples around each output time by the windowed sinc; weights of an output sum to one."""
    low, half = min(source, target), 36
    out = []
    for m in range(-(-len(x) * target // source)):
        k = np.arange(-(-(m * low - half * target) * source // (target * low)), (m * low + half * target) * source // (target * low) + 1)
        t = (m / target - k / source) * low  # in samples at the lower rate
        w = np.sinc(0.92 * t) * np.i0(8.96 * np.sqrt(np.maximum(0, 1 - (t / half) ** 2)))
        inside = (k >= 0) & (k < len(x))
        out.append(w[inside] @ x[k[inside]] / w.sum())
    return np.array(out)


@pytest.mark.parametrize(("source", "target"), [(48000, 16000), (44100, 16000), (16000, 22050), (8000, 16000), (96000, 11025), (16001, 16000)])
def test_resample_is_the_windowed_sinc_sum(source, target):
    x = noise(700)
    assert np.abs(resample(x, source, target).numpy() - naive(x.double().numpy(), source, target)).max() < 2e-7


@pytest.mark.parametrize("source", RATES)
@pytest.mark.parametrize("target", [16000, 44100])
def test_sine_stays_in_phase_and_dc_stays_dc(source, target):
    wave = resample(sine(1000, source, source // 4), source, target)
    assert (wave - sine(1000, target, len(wave)))[500:-500].abs().max() < 1e-4
    assert (resample(torch.full((source // 4,), 0.25), source, target)[500:-500] - 0.25).abs().max() < 1e-7


@pytest.mark.parametrize(("hz", "source", "target"), [(10000, 48000, 16000), (8100, 44100, 16000), (4500, 16000, 8000)])
def test_tone_above_the_new_half_rate_is_removed(hz, source, target):
    assert resample(sine(hz, source, source // 2), source, target)[200:-200].abs().max() < 10 ** (-80 / 20)


def test_upsampling_adds_no_image():
    wave = resample(sine(3000, 8000, 8000), 8000, 16000)[1000:-1000].double()  # the image would be at 5000 Hz
    spectrum = torch.fft.rfft(wave * torch.hann_window(len(wave), dtype=torch.float64)).abs()
    assert spectrum[len(spectrum) // 2 :].max() < 1e-4 * spectrum.max()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(RATES), st.sampled_from(RATES), st.lists(st.integers(0, 300), max_size=12), st.integers(0, 99))
def test_chunks_equal_whole_bit_for_bit(source, target, chunks, seed):
    x = noise(sum(chunks), seed)
    resampler = Resampler(source, target)
    got = torch.cat([*[resampler.push(part) for part in x.split(chunks)], resampler.finish()])
    whole = resample(x, source, target)
    assert got.dtype == torch.float32
    assert len(got) == -(-len(x) * target // source)
    assert torch.equal(got, whole)


@pytest.mark.parametrize(("source", "target"), [(44100, 16000), (8000, 16000), (16000, 16000), (48000, 16000)])
@pytest.mark.parametrize("samples", [0, 1, 2, 700])
def test_single_samples_equal_whole_bit_for_bit(source, target, samples):
    x, resampler = noise(samples), Resampler(source, target)
    got = torch.cat([*[resampler.push(x[i : i + 1]) for i in range(samples)], resampler.finish()])
    assert torch.equal(got, resample(x, source, target))


def test_long_waveform_equals_its_chunks_and_a_push_lags_36_samples():
    x, resampler = noise(LONG), Resampler(44100, 16000)
    parts = [resampler.push(part) for part in x.split(4410)]
    assert [sum(map(len, parts[: n + 1])) for n in range(20)] == [1600 * (n + 1) - 36 for n in range(20)]
    assert torch.equal(torch.cat([*parts, resampler.finish()]), resample(x, 44100, 16000))


def test_a_change_reaches_no_further_than_the_filter():
    x = noise(9000)
    y = x.clone()
    y[6000:] = noise(3000, seed=1)
    assert torch.equal(resample(x, 48000, 16000)[: 2000 - 36], resample(y, 48000, 16000)[: 2000 - 36])
    assert not torch.equal(resample(x, 48000, 16000)[:2000], resample(y, 48000, 16000)[:2000])


def test_equal_rates_change_nothing():
    x = noise(1000)
    assert torch.equal(resample(x, 16000, 16000), x)


def test_resample_takes_any_float_type_and_memory_layout():
    x = noise(2000)
    strided = torch.stack([x, -x], dim=1)[:, 0]
    assert torch.equal(resample(strided.requires_grad_(), 48000, 16000), resample(x, 48000, 16000))
    assert torch.equal(resample(x.double(), 48000, 16000), resample(x, 48000, 16000))
    assert torch.equal(resample(x.bfloat16(), 48000, 16000), resample(x.bfloat16().float(), 48000, 16000))


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (3999, "target_rate must be from 4000 to 384000 Hz, got 3999; is it in Hz"),
        (384001, "target_rate must be from 4000 to 384000 Hz, got 384001; is it in Hz"),
        (16000.0, r"target_rate must be an integer in Hz, got 16000.0 \(float\); round it"),
        (True, r"target_rate must be an integer in Hz, got True \(bool\)"),
        ("16000", r"target_rate must be an integer in Hz, got '16000' \(str\)"),
    ],
)
def test_bad_rates_are_refused(rate, text):
    with pytest.raises(AudioError, match=text):
        resample(noise(3), 16000, rate)
    with pytest.raises(AudioError, match=text.replace("target", "source")):
        Resampler(rate, 16000)


def test_limits_of_the_rates_and_numpy_integers_are_accepted():
    assert len(resample(noise(4000), 4000, 384000)) == 384000
    assert len(resample(noise(384), np.int64(384000), np.int32(4000))) == 4


def test_bad_pushes_are_refused():
    resampler = Resampler(48000, 16000)
    with pytest.raises(AudioError, match=r"expected a floating waveform \(samples,\), got torch.float32 \(2, 3\); convert it with as_waveform"):
        resampler.push(noise(3, channels=2))
    with pytest.raises(AudioError, match=r"got torch.int16 \(3,\)"):
        resampler.push(torch.zeros(3, dtype=torch.int16))
    resampler.finish()
    for call in (lambda: resampler.push(noise(3)), resampler.finish):
        with pytest.raises(AudioError, match="this Resampler is finished; make a new one"):
            call()


@pytest.mark.parametrize("module", [unitoken.audio, unitoken.resample])
def test_scipy_is_imported_on_first_use_only(module):
    imports = [node for node in ast.parse(Path(module.__file__).read_text("utf-8")).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert "scipy" not in " ".join(map(ast.unparse, imports))


# Arrays


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("int16", [-32768, -1, 0, 1, 32767], [-1, -1 / 32768, 0, 1 / 32768, 32767 / 32768]),
        ("int32", [-(2**31), 0, 2**30], [-1, 0, 0.5]),
        ("uint8", [0, 128, 192, 255], [-1, 0, 0.5, 127 / 128]),
        ("float16", [-1, 0.5], [-1, 0.5]),
        ("float32", [-1, 0.5, 1.5], [-1, 0.5, 1.5]),
        ("float64", [-1, 0.1], [-1, np.float32(0.1)]),
    ],
)
def test_sample_types_of_numpy_and_torch(dtype, values, expected):
    array = np.array(values, dtype=dtype)
    for audio in (array, array.astype(array.dtype.newbyteorder()), torch.from_numpy(array)):
        wave = as_waveform(audio)
        assert wave.dtype == torch.float32
        assert wave.tolist() == expected


def test_bfloat16_and_gradients_are_accepted():
    wave = as_waveform(torch.tensor([0.5, -0.25], dtype=torch.bfloat16, requires_grad=True))
    assert wave.tolist() == [0.5, -0.25]
    assert not wave.requires_grad


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_channels_are_averaged(channels):
    audio = noise(50, channels=channels)
    assert np.array_equal(as_waveform(audio), functools.reduce(np.add, audio.numpy()) / np.float32(channels))  # from first to last
    assert np.allclose(as_waveform(audio), audio.double().mean(0), atol=1e-7)
    assert torch.equal(as_waveform(np.asfortranarray(audio.numpy())), as_waveform(audio))


def test_mono_keeps_its_samples_and_empty_stays_empty():
    x = noise(20)
    assert torch.equal(to_mono(x), x)
    assert torch.equal(to_mono(x[None]), x)
    for shape in [(0,), (1, 0), (2, 0)]:
        assert as_waveform(torch.zeros(shape)).shape == (0,)


def test_read_only_and_reversed_arrays_are_accepted():
    array = noise(20).numpy()
    array.flags.writeable = False
    wave = as_waveform(array)
    assert wave.tolist() == array.tolist()
    assert not np.shares_memory(wave.numpy(), array)
    assert as_waveform(array[::-1]).tolist() == array[::-1].tolist()


TYPES = "expected samples of type float16, bfloat16, float32, float64, int16, int32 or uint8, got "
SHAPE = r"expected audio \(samples,\) or \(channels, samples\) with 1 to 8 channels, got "


@pytest.mark.parametrize(
    ("audio", "text"),
    [
        ([0.0, 0.5], "expected a NumPy array or a torch tensor, got list; convert it, e.g. numpy.asarray"),
        (None, "expected a NumPy array or a torch tensor, got NoneType"),
        (np.zeros(3, np.int64), TYPES + "torch.int64; convert them, floats to"),
        (np.zeros(3, bool), TYPES + "torch.bool"),
        (torch.zeros(3, dtype=torch.complex64), TYPES + "torch.complex64"),
        (np.array(["a"]), TYPES + "<U1"),
        (np.zeros(3, object), TYPES + "object"),
        (np.array(0.5, np.float32), SHAPE + r"\(\); pass several waveforms as a list"),
        (torch.zeros(1, 2, 9), SHAPE + r"\(1, 2, 9\); pass several waveforms as a list of 1-D ones"),
        (torch.zeros(9, 20), SHAPE + r"\(9, 20\); pass several waveforms"),
        (torch.zeros(20, 2), SHAPE + r"\(20, 2\); this looks like \(samples, channels\): transpose it, audio.T"),
        (torch.zeros(0, 20), SHAPE + r"\(0, 20\); pass several"),
        (
            torch.tensor([0, 1, float("nan"), float("inf")]),
            r"the waveform holds 2 values that are NaN or infinite \(of 4 checked\), the first at sample 2",
        ),
        (np.array([[0, 0, 0], [0, np.nan, 0]]), "the waveform holds 1 values that are NaN or infinite .*, the first at sample 1"),
        (np.array([1e300]), "the waveform holds 1 values"),
        (np.full((2, 2), 3e38, np.float32), "the waveform holds 2 values"),
    ],
)
def test_what_is_no_waveform_is_refused(audio, text):
    with pytest.raises(AudioError, match=text):
        as_waveform(audio)


@pytest.mark.parametrize("shape", [(), (0, 3), (1, 2, 3)])
def test_to_mono_refuses_other_ranks(shape):
    with pytest.raises(AudioError, match=r"expected \(channels, samples\) with at least one channel, got \("):
        to_mono(torch.zeros(shape))


# Files


@pytest.mark.parametrize("format", ["wav", "flac"])
@pytest.mark.parametrize("channels", [None, 1, 2, 8])
def test_pcm_round_trip_is_exact(tmp_path, format, channels):
    pcm = (noise(LONG if channels is None else 300, channels=channels) * 65535).round().clamp(-32768, 32767).to(torch.int16)
    path = tmp_path / f"a.{format}"
    save_audio(path, pcm, 16000)
    got, rate = load_audio(path, mono=False)
    assert rate == 16000
    assert torch.equal(got, pcm.reshape(-1, pcm.shape[-1]).float() / 32768)
    assert torch.equal(load_audio(str(path))[0], to_mono(got))
    assert audio_info(path) == AudioInfo(16000, channels or 1, pcm.shape[-1], format.upper())
    assert soundfile.info(path).subtype == "PCM_16"


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_pcm_is_rounded_to_the_nearest(format):
    steps = torch.tensor([0.4, 0.6, -0.4, -0.6, 1000.6, -1000.6])
    assert torch.equal(load_audio(contents(steps / 32768, format=format))[0] * 32768, steps.round())


@pytest.mark.parametrize(("suffix", "subtype"), [("ogg", "VORBIS"), ("opus", "OPUS"), ("mp3", "MPEG_LAYER_III")])
def test_lossy_round_trip_keeps_length_and_sound(tmp_path, suffix, subtype):
    path, wave = tmp_path / f"a.{suffix.upper()}", 0.5 * sine(440, 48000, 24000)
    save_audio(path, torch.stack([wave, wave]), 48000)
    assert soundfile.info(path).subtype == subtype
    assert audio_info(path) == AudioInfo(48000, 2, 24000, "MP3" if suffix == "mp3" else "OGG")
    got, rate = load_audio(path)
    assert (got.shape, got.dtype, rate) == ((24000,), torch.float32, 48000)
    assert (got - wave)[3000:-3000].abs().max() < 0.02


def test_float_wav_is_exact_and_clipped_on_writing(tmp_path):
    save_audio(tmp_path / "a.wav", torch.tensor([0.1, -3.0, 1.5]), 44100, subtype="float")
    assert load_audio(tmp_path / "a.wav")[0].tolist() == [np.float32(0.1), -1, 1]
    save_audio(tmp_path / "a.wav", torch.tensor([0.5, -3.0, 1.5, 1.0]), 44100)
    assert load_audio(tmp_path / "a.wav")[0].tolist() == [0.5, -1, 32767 / 32768, 32767 / 32768]


def test_levels_above_full_scale_are_read_as_they_are(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([2.0, -3.0]), 16000, subtype="FLOAT")
    assert load_audio(tmp_path / "a.wav")[0].tolist() == [2, -3]


def test_path_bytes_and_file_objects_read_alike(tmp_path):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    data = contents(noise(500, channels=2))
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    moved = io.BytesIO(data)
    moved.seek(100)
    expected = load_audio(path, mono=False)[0]
    with path.open("rb") as file:
        for source in (str(path), data, io.BytesIO(data), moved, Pipe(data), file, file):
            assert torch.equal(load_audio(source, mono=False)[0], expected)
        assert not file.closed
    assert audio_info(data).seconds == 500 / 16000


@pytest.mark.parametrize("samples", [0, 1])
@pytest.mark.parametrize("format", ["wav", "ogg"])
def test_hardly_any_samples(samples, format):
    data = contents(torch.zeros(2, samples), format=format)
    for rate in (None, 16000, 8000, 24000):
        length = -(-samples * (rate or 16000) // 16000)
        assert load_audio(data, sample_rate=rate)[0].shape == (length,)
        assert load_audio(data, sample_rate=rate, mono=False)[0].shape == (2, length)
        assert [len(block) for block in audio_blocks(data, block_seconds=1, sample_rate=rate)] == [length] * (length > 0)
    assert audio_info(data).seconds == samples / 16000


def test_loading_resamples_every_channel():
    data = contents(noise(3000, channels=2), 44100)
    both, rate = load_audio(data, mono=False)
    got, target = load_audio(data, sample_rate=16000, mono=False)
    assert (rate, target) == (44100, 16000)
    assert torch.equal(got, torch.stack([resample(channel, 44100, 16000) for channel in both]))
    assert torch.equal(load_audio(data, sample_rate=16000)[0], resample(to_mono(both), 44100, 16000))


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "opus", "mp3"])
@pytest.mark.parametrize("rate", [None, 16000, 11025])
def test_blocks_equal_the_whole_file_bit_for_bit(format, rate):
    data = contents(noise(LONG, channels=2), 48000, format)
    whole = load_audio(data, sample_rate=rate)[0]
    size = round(0.7 * (rate or 48000))
    blocks = list(audio_blocks(data, block_seconds=0.7, sample_rate=rate))
    assert torch.equal(torch.cat(blocks), whole)
    assert {len(block) for block in blocks[:-1]} == {size}
    assert 0 < len(blocks[-1]) <= size


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 40), st.integers(1, 50), st.sampled_from([None, 8000, 24000]))
def test_blocks_of_any_size_equal_the_whole(samples, size, rate):
    data = contents(noise(samples))
    blocks = list(audio_blocks(data, block_seconds=size / (rate or 16000), sample_rate=rate))
    whole = load_audio(data, sample_rate=rate)[0]
    assert [len(block) for block in blocks] == [min(size, len(whole) - start) for start in range(0, len(whole), size)]
    assert torch.equal(torch.cat([torch.zeros(0), *blocks]), whole)


def test_blocks_come_while_the_file_is_read():
    samples = noise(LONG).numpy()
    samples[-1] = np.nan
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format="WAV", subtype="FLOAT")
    blocks = audio_blocks(file.getvalue(), block_seconds=1)
    assert torch.equal(torch.cat([next(blocks) for _ in range(4)]), torch.from_numpy(samples[:64000]))
    with pytest.raises(AudioFileError, match=f"NaN or infinite .*, the first at sample {LONG - 1}; repair it first"):
        list(blocks)


def test_a_block_has_at_least_one_sample():
    assert [len(block) for block in audio_blocks(contents(noise(3)), block_seconds=1e-9)] == [1, 1, 1]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_bad_blocks_are_refused_at_the_call(seconds):
    with pytest.raises(AudioError, match=f"block_seconds must be a positive number of seconds, got {seconds}; try 10"):
        audio_blocks(contents(noise(3)), block_seconds=seconds)
    with pytest.raises(AudioError, match="sample_rate must be from 4000 to 384000 Hz, got 16; is it in Hz, not kHz"):
        audio_blocks(contents(noise(3)), block_seconds=1, sample_rate=16)


@pytest.mark.parametrize("read", [load_audio, audio_info, lambda source: list(audio_blocks(source, block_seconds=1))])
def test_what_cannot_be_read_is_refused(tmp_path, read):
    missing, text, raw = tmp_path / "no.wav", tmp_path / "text.wav", tmp_path / "a.raw"
    text.write_text("hello")
    raw.write_bytes(bytes(100))
    for source, message in [
        (missing, f"no such file: {missing}; check the path"),
        (str(missing), f"no such file: {missing}; check the path"),
        (tmp_path, f"{tmp_path} is a folder; give the path of one audio file"),
        (text, f"cannot decode {text}: .+; WAV, FLAC, OGG"),
        (raw, f"cannot decode {raw}: .+; WAV, FLAC, OGG"),
        (b"", "cannot decode the audio of 0 bytes: .+; WAV, FLAC, OGG"),
        (b"hello", "cannot decode the audio of 5 bytes: "),
        (io.BytesIO(b"hello"), "cannot decode the file object: "),
    ]:
        with pytest.raises(AudioFileError, match=message):
            read(source)
    with text.open("rb") as file, pytest.raises(AudioFileError, match=f"cannot decode {text}: "):
        read(file)
    for source, kind in [(3, "int"), (None, "NoneType"), (io.StringIO("x"), "StringIO"), ([str(missing)], "list")]:
        with pytest.raises(AudioError, match=f"expected a path, the bytes of an audio file or a file object opened in binary mode, got {kind}"):
            read(source)


def test_a_flac_file_cut_short_is_refused_and_a_wav_file_gives_what_is_there():
    flac, wav = contents(noise(LONG), format="flac"), contents(noise(1000))
    with pytest.raises(AudioFileError, match=f"cannot decode the audio of {len(flac) // 2} bytes: .*lost sync"):
        load_audio(flac[: len(flac) // 2])
    assert torch.equal(load_audio(wav[:-1000])[0], load_audio(wav)[0][:500])


def test_files_with_nan_or_bad_rates_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0, np.inf, np.nan]), 1000, subtype="FLOAT")
    with pytest.raises(AudioFileError, match=r"a.wav holds 2 values that are NaN or infinite \(of 3 checked\), the first at sample 1"):
        load_audio(tmp_path / "a.wav")
    soundfile.write(tmp_path / "a.wav", np.zeros(10), 1000)
    assert load_audio(tmp_path / "a.wav", mono=False)[1] == 1000
    with pytest.raises(AudioError, match="must be from 4000 to 384000 Hz, got 1000"):
        load_audio(tmp_path / "a.wav", sample_rate=16000)
    with pytest.raises(AudioError, match=r"sample_rate must be an integer in Hz, got 16000.0 \(float\)"):
        load_audio(tmp_path / "a.wav", sample_rate=16000.0)


@pytest.mark.parametrize(
    ("name", "kwargs", "text"),
    [
        ("a.aac", {}, "cannot write audio as 'aac'; end the path in .wav, .flac, .ogg, .opus, .mp3, or give one of these without the dot as format="),
        ("a", {}, "cannot write audio as ''; end the path"),
        ("a.wav", {"format": "m4a"}, "cannot write audio as 'm4a'"),
        ("a.wav", {"subtype": "PCM_17"}, "cannot write 1 channels at 16000 Hz as WAV PCM_17: .+; change the subtype or the rate, or save as .wav"),
        ("a.mp3", {"subtype": "PCM_16"}, "cannot write 1 channels at 16000 Hz as MP3 PCM_16: "),
        ("a.opus", {"sample_rate": 44100}, "cannot write 1 channels at 44100 Hz as OGG OPUS: "),
        ("a.ogg", {"sample_rate": 200001}, "OGG Vorbis holds at most 200000 Hz, got 200001; resample the waveform, or save it as .wav or .flac"),
        ("a.wav", {"sample_rate": 16}, "sample_rate must be from 4000"),
        ("a.wav", {"waveform": [0.0]}, "expected a NumPy array or a torch tensor, got list"),
        ("a.wav", {"waveform": torch.zeros(20, 2)}, "transpose it"),
        ("a.wav", {"waveform": torch.tensor([0, float("nan")])}, "the waveform holds 1 values that are NaN"),
        ("a.flac", {"waveform": torch.zeros(0)}, "a .flac file cannot hold 0 samples; save the waveform as .wav or .ogg"),
    ],
)
def test_refused_saving_leaves_the_old_file(tmp_path, name, kwargs, text):
    path = tmp_path / name
    path.write_bytes(b"old")
    with pytest.raises(AudioError, match=text):
        save_audio(path, **{"waveform": noise(10), "sample_rate": 16000} | kwargs)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("broken", ["os.replace", "soundfile.SoundFile.write"])
def test_failed_saving_leaves_the_old_file(tmp_path, monkeypatch, broken):
    def full(*_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.wav"
    save_audio(path, noise(10), 16000)
    old = path.read_bytes()
    monkeypatch.setattr(broken, full)
    with pytest.raises(AudioFileError, match=f"cannot write {path}: No space left on device; the folder must exist"):
        save_audio(path, noise(20), 16000)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a.wav"]


def test_an_iterator_of_pieces_is_written_as_the_whole_is(tmp_path):
    wave, file = noise(200_000), io.BytesIO()
    save_audio(tmp_path / "a.flac", wave, 16000)
    save_audio(tmp_path / "b.flac", iter(wave.split(30_001)), 16000)
    save_audio(file, iter([wave[:0], wave]), 16000, format="flac")
    for source in (tmp_path / "b.flac", file):
        assert torch.equal(load_audio(source)[0], load_audio(tmp_path / "a.flac")[0])
    save_audio(tmp_path / "c.wav", iter([]), 16000)
    assert audio_info(tmp_path / "c.wav").samples == 0


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([noise(5), torch.tensor([0.0, float("inf")])], "the waveform holds 1 values that are NaN or infinite (of 2 checked), the first at sample 6"),
        ([noise(5), torch.zeros(2, 5)], "all pieces of a waveform need as many channels as the first, 1; got one of 2"),
        ([], "a .flac file cannot hold 0 samples"),
    ],
)
def test_pieces_that_cannot_be_saved_leave_the_old_file(tmp_path, pieces, text):
    path = tmp_path / "a.flac"
    save_audio(path, noise(10), 16000)
    old = path.read_bytes()
    with pytest.raises(AudioError, match=re.escape(text)):
        save_audio(path, iter(pieces), 16000)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a.flac"]


def test_saving_into_no_folder_or_onto_one_is_refused(tmp_path):
    (tmp_path / "b.wav").mkdir()
    for path in (tmp_path / "no" / "a.wav", tmp_path / "b.wav"):
        with pytest.raises(AudioFileError, match=f"cannot write {path}: .+; the folder must exist and be writable, the path no folder itself"):
            save_audio(path, noise(10), 16000)
    assert os.listdir(tmp_path) == ["b.wav"]


def test_saving_replaces_and_a_file_object_needs_a_format(tmp_path):
    path = tmp_path / "a.wav"
    for samples in (10, 20):
        save_audio(path, noise(samples), 16000)
        assert audio_info(path).samples == samples
    with path.open("wb") as file:
        with pytest.raises(AudioError, match=r"cannot write audio as ''; .* as format="):
            save_audio(file, noise(30), 16000)
        save_audio(file, noise(30), 16000, format="FLAC")
    assert audio_info(path) == AudioInfo(16000, 1, 30, "FLAC")


@pytest.mark.parametrize("format", ["wav", "flac"])
@pytest.mark.parametrize(
    ("start", "end", "samples"), [(0.0, None, slice(0, 16000)), (0.25, 0.5, slice(4000, 8000)), (0.9, 1.05, slice(14400, 16000))]
)
def test_a_span_is_a_part_of_its_file(format, start, end, samples):
    wave = torch.randn(16000) / 8
    save_audio(file := io.BytesIO(), wave, 16000, format=format)
    whole, span = load_audio(file)[0], AudioSpan(file, start, end)
    assert torch.equal(load_audio(span)[0], whole[samples])
    assert audio_info(span).samples == len(whole[samples])
    expected = resample(whole[samples], 16000, 8000)
    assert torch.equal(load_audio(span, sample_rate=8000)[0], expected)
    assert torch.equal(torch.cat(list(audio_blocks(span, block_seconds=0.1, sample_rate=8000))), expected)


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        (-1.0, None, "begin at 0 s or later"),
        (0.5, 0.4, "end behind its beginning"),
        (float("nan"), 1.0, "begin at 0 s or later"),
        (0.0, 1.2, r"the audio of \d+ bytes from 0 s to 1.2 s is not there: the file has 1.00 s"),
        (1.5, None, "from 1.5 s to its end is not there"),
    ],
)
def test_a_span_outside_its_file_is_refused(start, end, text):
    save_audio(file := io.BytesIO(), torch.zeros(16000), 16000, format="wav")
    for read in (load_audio, audio_info):
        with pytest.raises(AudioError, match=text):
            read(AudioSpan(file.getvalue(), start, end))
