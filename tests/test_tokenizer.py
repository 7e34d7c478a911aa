import dataclasses
import io
import json
import pickle
import re
import time
from fractions import Fraction

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from models import HOP, RATE, TINY, VARIANTS, clip, codec, tokenizer
from unitoken import TokenBundle, Tokenizer
from unitoken.audio import load_audio
from unitoken.errors import AudioError, AudioFileError, ConfigError, ModelError, TokenError
from unitoken.hub import Stored
from unitoken.model import compiled
from unitoken.model.encoding import ClipEncoder
from unitoken.nn.blocks import AdaptiveNorm
from unitoken.resample import resample

CONFIGS = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
SECOND = clip(RATE)


@pytest.fixture(scope="module")
def tok():
    return tokenizer()


@pytest.fixture(scope="module")
def bundle(tok):
    return tok.encode(clip(30001, 4), sample_rate=RATE)


def refused(error, text):
    return pytest.raises(error, match=re.escape(text))


def wav(samples, rate=RATE):
    """Return the bytes of a float WAV file, so that a file holds exactly an array's samples."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def same_tokens(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("s", "p", "g")) and one.num_samples == other.num_samples


# What encode takes


@pytest.mark.parametrize("kind", ["path", "text path", "bytes", "file object"])
def test_a_file_gives_the_tokens_of_its_samples(tok, tmp_path, kind):
    data = wav(SECOND.numpy())
    path = tmp_path / "talk.wav"
    path.write_bytes(data)
    source = {"path": path, "text path": str(path), "bytes": data, "file object": io.BytesIO(data)}[kind]
    assert tok.encode(source) == tok.encode(SECOND, sample_rate=RATE)


def test_a_file_at_another_rate_gives_the_tokens_of_the_resampled_samples(tok):
    data = wav(np.stack([SECOND.numpy(), -0.5 * SECOND.numpy()], 1), 44100)
    assert tok.encode(data) == tok.encode(load_audio(data, sample_rate=RATE)[0], sample_rate=RATE)
    assert tok.encode(data).num_samples == -(-RATE * RATE // 44100)


PCM = (SECOND.clamp(-1, 1) * 32767).round().to(torch.int16)
EXACT = PCM.float() / 32768


@pytest.mark.parametrize(
    "audio",
    [
        PCM.numpy(),
        PCM.numpy().astype(np.int32) << 16,
        EXACT.numpy(),
        EXACT.double().numpy(),
        EXACT.numpy().astype(">f4"),
        PCM,
        PCM.to(torch.int32) << 16,
        EXACT,
        EXACT.double(),
        EXACT.clone().requires_grad_(),
        EXACT[None],
        EXACT.repeat_interleave(2)[::2],
        torch.stack([EXACT + 0.25, EXACT - 0.25]),
        EXACT.expand(8, -1),
    ],
    ids=["int16", "int32", "f32", "f64", "f32 swapped", "t16", "t32", "tf32", "tf64", "gradient", "mono row", "strided", "stereo", "eight"],
)
def test_the_same_samples_give_the_same_tokens_in_any_type_and_layout(tok, audio):
    expected = tok.encode(EXACT, sample_rate=RATE)
    given = tok.encode(audio, sample_rate=RATE)
    exact = not (isinstance(audio, Tensor) and audio.ndim == 2 and audio.dtype == torch.float32 and len(audio) == 2)
    assert same_tokens(given, expected) if exact else (given.s == expected.s).float().mean() > 0.9


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_audio_is_taken_at_its_own_values(tok, dtype):
    assert same_tokens(tok.encode(SECOND.to(dtype), sample_rate=RATE), tok.encode(SECOND.to(dtype).float(), sample_rate=RATE))


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000, 96000])
@pytest.mark.parametrize("samples", [0, 1, 17, 9999])
def test_any_rate_gives_the_stated_number_of_samples_and_frames(tok, rate, samples):
    audio = clip(samples)
    bundle = tok.encode(audio, sample_rate=rate)
    assert bundle.num_samples == -(-samples * RATE // rate)
    assert bundle.s.shape == bundle.p.shape == (-(-bundle.num_samples // HOP),)
    assert bundle == tok.encode(resample(audio, rate, RATE), sample_rate=RATE)
    assert tok.decode(bundle).shape == (bundle.num_samples,)


def test_a_clip_without_samples_has_no_frames_but_a_voice(tok):
    bundle = tok.encode(np.zeros(0, dtype=np.float32), sample_rate=48000)
    assert (len(bundle.s), len(bundle.p), bundle.num_samples) == (0, 0, 0)
    assert torch.equal(bundle.g, tok.encode_global([]))
    assert tok.decode(bundle).shape == (0,)
    assert tok.decode(bundle).dtype == torch.float32


def test_a_bundle_says_what_made_it(tok, bundle):
    assert (bundle.info, bundle.numerics) == (tok.info, "cpu/float32/torch")
    assert (bundle.info.fingerprint, bundle.info.name, bundle.info.sample_rate) == ("ab" * 16, "tiny", 16000)
    assert (bundle.info.code_licence, bundle.info.weights_licence) == ("Apache-2.0", "Apache-2.0")
    assert {getattr(bundle, name).dtype for name in "spg"} == {torch.int64}
    assert bundle.latents is None


def test_lists_and_tuples_give_lists_in_order(tok):
    clips = [clip(samples, samples) for samples in (700, 0, 20000, 1, 9000)]
    expected = [tok.encode(audio, sample_rate=RATE) for audio in clips]
    assert tok.encode(clips, sample_rate=RATE) == expected
    assert tok.encode(tuple(clips), sample_rate=RATE) == expected
    assert tok.encode(clips[:1], sample_rate=RATE) == expected[:1]
    assert tok.encode([]) == []
    assert tok.encode((), sample_rate=8000) == []
    assert tok.decode([]) == []
    for one, alone in zip(tok.decode(expected), map(tok.decode, expected), strict=True):
        assert torch.equal(one, alone)


def test_a_list_may_hold_files_of_different_rates(tok):
    files = [wav(SECOND.numpy(), 8000), wav(SECOND.numpy(), 48000)]
    assert [bundle.num_samples for bundle in tok.encode(files)] == [2 * RATE, -(-RATE // 3)]


@pytest.mark.parametrize(
    ("audio", "rate", "error", "text"),
    [
        (SECOND, None, AudioError, "an array of 16000 samples has no sample rate; give it: encode(audio, sample_rate=16000)"),
        (b"RIFF", 16000, AudioError, "sample_rate=16000 was given with an audio file, which knows its own rate; leave it out"),
        ("absent.wav", None, AudioFileError, "no such file: absent.wav; check the path"),
        (b"no audio", None, AudioFileError, "cannot decode the audio of 8 bytes"),
        (
            torch.tensor([0.0, float("nan"), 1.0]),
            RATE,
            AudioError,
            "the waveform holds 1 values that are NaN or infinite (of 3 checked), the first at",
        ),
        (
            np.array([0.0, 1.0, np.inf]),
            RATE,
            AudioError,
            "the waveform holds 1 values that are NaN or infinite (of 3 checked), the first at sample 2",
        ),
        (torch.zeros(2, 3, 4), RATE, AudioError, "expected audio (samples,) or (channels, samples) with 1 to 8 channels, got (2, 3, 4)"),
        (torch.zeros(100, 2), RATE, AudioError, "got (100, 2); this looks like (samples, channels): transpose it, audio.T"),
        (torch.tensor(1.0), RATE, AudioError, "expected audio (samples,) or (channels, samples)"),
        (torch.zeros(9, 100), RATE, AudioError, "with 1 to 8 channels, got (9, 100); pass several waveforms as a list of 1-D ones"),
        (torch.zeros(5, dtype=torch.complex64), RATE, AudioError, "expected samples of type float16, bfloat16, float32"),
        (torch.zeros(5, dtype=torch.bool), RATE, AudioError, "got torch.bool; convert them, floats to [-1, 1]"),
        ([0.0, 0.5], RATE, AudioError, "expected a NumPy array or a torch tensor, got float"),
        (7, RATE, AudioError, "expected a NumPy array or a torch tensor, got int"),
        (SECOND, 16000.0, AudioError, "16000.0 (float); round it or convert it with int()"),
        (SECOND, 16, AudioError, "must be from 4000 to 384000 Hz, got 16; is it in Hz, not kHz?"),
    ],
)
def test_audio_that_cannot_be_encoded_is_refused(tok, audio, rate, error, text):
    with refused(error, text):
        tok.encode(audio, sample_rate=rate)
    with refused(error, text):
        tok.encode_global(audio, sample_rate=rate)


# Latents


@CONFIGS
def test_quantizing_the_latents_gives_the_tokens(config):
    tok, made = tokenizer(config), codec(config)
    bundle = tok.encode(clip(50000, 2), sample_rate=RATE, latents=True)
    assert {name: latent.dtype for name, latent in bundle.latents.items()} == {"s": torch.float32, "p": torch.float32, "g": torch.float32}
    assert bundle.latents["s"].shape == (len(bundle.s), config.semantic.quantizer.dim)
    assert bundle.latents["g"].shape == (config.global_.quantizer.dim,)
    for name in "spg":
        tokens = getattr(made, f"quantizer_{name}").quantize(bundle.latents[name])[0]
        assert torch.equal(tokens.reshape(getattr(bundle, name).shape), getattr(bundle, name))
    assert bundle == tok.encode(clip(50000, 2), sample_rate=RATE)


def test_latents_of_no_samples_are_empty(tok):
    latents = tok.encode(torch.zeros(0), sample_rate=RATE, latents=True).latents
    assert {name: tuple(latent.shape) for name, latent in latents.items()} == {"s": (0, 16), "p": (0, 8), "g": (4,)}


# Margins


@CONFIGS
def test_margins_are_how_far_latents_are_from_other_tokens(config):
    tok, made = tokenizer(config), codec(config)
    bundle = tok.encode(clip(50000, 2), sample_rate=RATE, margins=True, latents=True)
    for name in "spg":
        tokens, latent, margin = getattr(bundle, name), bundle.latents[name], bundle.margins[name]
        quantizer = getattr(made, f"quantizer_{name}")
        books = quantizer.config.num_codebooks
        assert (margin.shape, margin.dtype) == (tokens.shape, torch.float32)
        expected = quantizer.margins(latent, tokens if name == "g" else tokens.view(-1, books))
        torch.testing.assert_close(margin, expected.view(tokens.shape))
        least = margin.view(-1, books).amin(1, keepdim=True)
        for seed in range(3):  # a move that is a little shorter changes nothing, wherever it goes
            way = torch.randn(latent.view(-1, latent.shape[-1]).shape, generator=torch.Generator().manual_seed(seed))
            moved = latent.view(way.shape) + 0.999 * least * way / way.norm(dim=1, keepdim=True)
            assert torch.equal(quantizer.quantize(moved)[0].view(tokens.shape), tokens)
    assert tok.encode(clip(50000, 2), sample_rate=RATE, margins=True).latents is None
    assert bundle == tok.encode(clip(50000, 2), sample_rate=RATE)
    assert bundle.replace(g=None).margins.keys() == {"s", "p"}
    assert bundle[1:].margins is None


def test_margins_of_no_samples_are_empty(tok):
    margins = tok.encode(torch.zeros(0), sample_rate=RATE, margins=True).margins
    assert {name: (tuple(margin.shape), margin.dtype) for name, margin in margins.items()} == {
        "s": ((0,), torch.float32),
        "p": ((0,), torch.float32),
        "g": ((2,), torch.float32),
    }


# Voices


def test_several_references_are_heard_one_after_the_other(tok):
    clips = [clip(samples, seed) for seed, samples in enumerate((30000, 0, 140000))]
    parts = [encoded.statistics for encoded in ClipEncoder(codec()).encode(clips)]
    assert parts[1] is None
    expected = ClipEncoder(codec()).global_tokens(clips, [parts[0], parts[2]])[0]
    assert torch.equal(tok.encode_global(clips, sample_rate=RATE), expected)
    assert torch.equal(tok.encode_global([clips[0], clips[2]], sample_rate=RATE), expected)


def test_one_reference_is_the_voice_that_encode_hears(tok):
    audio = clip(40000)
    expected = tok.encode(audio, sample_rate=RATE).g
    assert torch.equal(tok.encode_global(audio, sample_rate=RATE), expected)
    assert torch.equal(tok.encode_global([audio], sample_rate=RATE), expected)


def test_a_clip_cut_in_two_at_a_window_has_nearly_the_voice_of_the_whole():
    """Only the frames around the cut lose their context."""
    made, audio = codec(), clip(200 * HOP + 90000)
    (whole,), parts = ClipEncoder(made).encode([audio]), ClipEncoder(made).encode([audio[: 200 * HOP], audio[200 * HOP :]])
    merged = parts[0].statistics.merge(parts[1].statistics)
    pooled = made.pooling.pooled(whole.statistics)
    difference = (made.pooling.pooled(merged) - pooled).abs().max()
    assert 0 < difference < 0.02 * pooled.abs().max()


def test_the_voice_depends_on_what_is_heard(tok):
    """The tokens of random weights hardly move, so this looks at what they are rounded from."""
    latents = [tok.encode(clip(30000, seed), sample_rate=RATE, latents=True).latents["g"] for seed in (0, 1)]
    assert (latents[0] - latents[1]).abs().max() > 1e-3


# Decoding


@CONFIGS
@pytest.mark.parametrize("samples", [1, 639, 640, 641, 1281, 32000, 128001])
def test_every_configuration_gives_the_length_back(config, samples):
    tok = tokenizer(config)
    bundle = tok.encode(clip(samples), sample_rate=RATE)
    assert len(bundle.s) == -(-samples // config.hop_s)
    assert len(bundle.p) == -(-samples // config.hop_p)
    books = config.semantic.quantizer.num_codebooks, config.residual.quantizer.num_codebooks
    assert (bundle.s.shape[1:], bundle.p.shape[1:]) == tuple(() if number == 1 else (number,) for number in books)
    waveform = tok.decode(bundle)
    assert (waveform.shape, waveform.dtype, waveform.device.type) == ((samples,), torch.float32, "cpu")
    assert waveform.isfinite().all()
    assert waveform.is_contiguous()


def test_every_stream_has_its_part_in_what_is_heard(tok, bundle):
    full = tok.decode(bundle)
    changed = [
        bundle.replace(p=None),
        bundle.replace(g=None),
        bundle.replace(p=None, g=None),
        bundle.replace(g=(bundle.g + 1) % 16),
        bundle.replace(p=bundle.p.flip(0)),
        bundle.replace(s=bundle.s.flip(0)),
    ]
    waveforms = [full, *tok.decode(changed)]
    assert {len(waveform) for waveform in waveforms} == {30001}
    for index, one in enumerate(waveforms):
        assert all((one - other).abs().max() > 1e-4 for other in waveforms[:index])
    for item, waveform in zip(changed, waveforms[1:], strict=True):
        assert torch.equal(tok.decode(item), waveform)


def test_a_bundle_of_another_tokenizer_is_refused_unless_forced(bundle):
    other = tokenizer(seed=1, fingerprint="cd" * 16)
    text = "this bundle was made by tiny (abababab), this tokenizer is tiny (cdcdcdcd): its tokens mean something else here; load the tokenizer"
    with refused(TokenError, text):
        other.decode(bundle)
    with refused(TokenError, "pass force=True to decode it all the same"):
        other.decode([other.encode(SECOND, sample_rate=RATE), bundle])
    relabelled = bundle.replace(info=other.info)
    assert torch.equal(other.decode(bundle, force=True), other.decode(relabelled))


@pytest.mark.parametrize("name", ["slow p", "slow s"])
def test_streams_of_other_sizes_are_refused_even_by_force(bundle, name):
    other = tokenizer(VARIANTS[name], fingerprint="cd" * 16)
    with refused(TokenError, "the streams of this bundle (tiny) have other rates or sizes than tiny's; it cannot be decoded even by force"):
        other.decode(bundle, force=True)


@CONFIGS
@pytest.mark.parametrize("samples", [0, 1, 260 * HOP + 9])
def test_blocks_of_a_decoded_bundle_are_what_decode_returns(config, samples):
    tok = tokenizer(config)
    bundle = tok.encode(clip(samples), sample_rate=RATE)
    for one in (bundle, bundle.replace(p=None, g=None)):
        waves = list(tok.decode_blocks(one))
        torch.testing.assert_close(torch.cat([torch.zeros(0), *waves]), tok.decode(one), rtol=0, atol=1e-5)
    assert len(waves) == -(-samples // (250 * tok.hop))


def test_a_bundle_that_cannot_be_decoded_is_refused_before_the_first_block(bundle):
    with refused(TokenError, "this bundle was made by tiny (abababab)"):
        tokenizer(seed=1, fingerprint="cd" * 16).decode_blocks(bundle)


# Codewords


@CONFIGS
def test_codewords_are_a_copy_of_what_tokens_stand_for(config):
    tok, made = tokenizer(config), codec(config)
    quantizers = {"g": config.global_.quantizer, "s": config.semantic.quantizer, "p": config.residual.quantizer}
    for name, quantizer in quantizers.items():
        table = tok.codewords(name)
        assert table.shape[:2] == (quantizer.num_codebooks, quantizer.codebook_size)
        assert (table.dtype, table.requires_grad) == (torch.float32, False)
        assert torch.equal(table, getattr(made, f"quantizer_{name}").codewords())
        table.zero_()
        assert tok.codewords(name).any()


def test_an_unknown_stream_has_no_codewords(tok):
    with refused(TokenError, "unknown stream 'q'; the streams are g, s and p"):
        tok.codewords("q")


# State


def test_properties_say_the_configuration_and_cannot_be_set(tok):
    known = {
        "config": TINY,
        "sample_rate": 16000,
        "hop": 640,
        "frame_rate": Fraction(25),
        "bitrate": Fraction(300),
        "fingerprint": "ab" * 16,
        "device": torch.device("cpu"),
        "encode_context_frames": (3, 3),
        "decode_context_frames": (7, 2),
    }
    for name, value in known.items():
        assert getattr(tok, name) == value
        with pytest.raises(AttributeError):
            setattr(tok, name, value)
    assert repr(tok) == "Tokenizer(tiny: 16000 Hz, 25 frames/s, 300 b/s, cpu)"
    assert tokenizer(VARIANTS["slow p"]).frame_rate == Fraction(25, 2)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_cannot_be_used_is_named(device):
    with refused(ModelError, f"cannot use the device {device!r}: "):
        Tokenizer(Stored(TINY, codec().state_dict(), "ab" * 16), device)


def test_weights_of_another_configuration_are_refused():
    with pytest.raises(ModelError, match="weights of 'tiny' have wrong shapes"):
        Tokenizer(Stored(dataclasses.replace(TINY, decoder=dataclasses.replace(TINY.decoder, dim=16)), codec().state_dict(), "ab" * 16))


def global_state():
    return (
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_autocast_enabled("cpu"),
        torch.are_deterministic_algorithms_enabled(),
    )


def test_global_state_is_left_alone(tok, bundle):
    random, numpy_random, before = torch.random.get_rng_state(), np.random.get_state()[1].copy(), global_state()  # noqa: NPY002 - it is the global one
    Tokenizer.encode_global(tok, SECOND, sample_rate=RATE)
    tok.decode([bundle, tok.encode(SECOND, sample_rate=44100)])
    assert torch.equal(torch.random.get_rng_state(), random)
    assert np.array_equal(np.random.get_state()[1], numpy_random)  # noqa: NPY002
    assert global_state() == before


def test_full_precision_is_asked_for_and_the_callers_choice_comes_back(tok, bundle, monkeypatch):
    """What a lower precision does depends on the processor: here only that it is never in force."""
    seen, layer = [], AdaptiveNorm.forward
    monkeypatch.setattr(AdaptiveNorm, "forward", lambda *a: (seen.append(torch.get_float32_matmul_precision()), layer(*a))[1])
    torch.set_float32_matmul_precision("medium")
    try:
        tok.encode_global(SECOND, sample_rate=RATE)
        for _ in tok.decode_blocks(tok.encode(SECOND, sample_rate=RATE)):
            assert torch.get_float32_matmul_precision() == "medium"
        with tok.stream_encode() as encode, tok.stream_decode() as decode:
            encode.push(SECOND)
            decode.push([1] * 9, [1] * 9)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {"highest"}


@pytest.mark.parametrize("name", ["autocast", "no_grad", "inference_mode", "seed", "float64", "bfloat16"])
def test_nothing_around_a_call_changes_its_result(tok, bundle, name):
    audio, expected = clip(30001, 4), tok.decode(bundle)
    empty = tok.encode(torch.zeros(0), sample_rate=RATE)
    contexts = {"autocast": lambda: torch.autocast("cpu", torch.bfloat16), "no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
    before = torch.get_default_dtype()
    try:
        if name in contexts:
            with contexts[name]():
                results = [tok.encode([audio, torch.zeros(0, dtype=torch.float32)], sample_rate=RATE), tok.decode([bundle, empty])]
        else:
            torch.manual_seed(12345) if name == "seed" else torch.set_default_dtype(getattr(torch, name))
            results = [tok.encode([audio, torch.zeros(0, dtype=torch.float32)], sample_rate=RATE), tok.decode([bundle, empty])]
    finally:
        torch.set_default_dtype(before)
    assert results[0] == [bundle, empty]
    assert torch.equal(results[1][0], expected)
    assert results[1][1].dtype == torch.float32


def test_results_want_no_gradient_and_the_input_is_left_alone(tok):
    audio = SECOND.clone().requires_grad_()
    bundle = tok.encode(audio, sample_rate=RATE, latents=True)
    assert torch.equal(audio, SECOND)
    assert not any(latent.requires_grad for latent in bundle.latents.values())
    assert not tok.decode(bundle).requires_grad


# Saving


@pytest.mark.parametrize("half", [False, True])
def test_a_saved_tokenizer_comes_back_the_same(tmp_path, half):
    state = {name: value.half() if half else value for name, value in codec().state_dict().items()}
    tok = Tokenizer(Stored(TINY, state, "ab" * 16))
    fingerprint = tok.save_pretrained(tmp_path / "one")
    loaded = Tokenizer.from_pretrained(tmp_path / "one")
    assert (loaded.fingerprint, loaded.config) == (fingerprint, TINY)
    assert re.fullmatch("[0-9a-f]{32}", fingerprint)
    assert loaded.save_pretrained(tmp_path / "two") == fingerprint
    assert Tokenizer.from_pretrained(str(tmp_path / "two")).fingerprint == fingerprint
    assert [path.read_bytes() for path in sorted((tmp_path / "one").iterdir())] == [
        path.read_bytes() for path in sorted((tmp_path / "two").iterdir())
    ]
    size = sum(value.numel() for value in state.values()) * (2 if half else 4)
    assert size < (tmp_path / "one" / "model.safetensors").stat().st_size < size + 20_000
    ours, theirs = (made.encode(clip(30000), sample_rate=RATE) for made in (tok, loaded))
    assert same_tokens(ours, theirs)
    assert torch.equal(tok.decode(ours), loaded.decode(theirs))


def test_a_copy_of_an_older_model_keeps_its_fingerprint(tmp_path):
    """Its configuration lacks fields that came later, and its weights are float32 that float16 could hold."""
    state = {name: value.half().float() for name, value in codec().state_dict().items()}
    Tokenizer(Stored(TINY, state, "ab" * 16)).save_pretrained(tmp_path / "one")
    held = json.loads((tmp_path / "one" / "config.json").read_text())
    del held["codec"]["p_hears_s"], held["codec"]["decoder"]["phase_memory"], held["codec"]["weights_licence"]
    held["codec"]["decoder"]["phase_memory"] = TINY.decoder.phase_memory
    (tmp_path / "one" / "config.json").write_text(json.dumps(held))
    loaded = Tokenizer.from_pretrained(tmp_path / "one")
    assert loaded.save_pretrained(tmp_path / "two") == loaded.fingerprint
    copied = Tokenizer.from_pretrained(tmp_path / "two")
    assert copied.fingerprint == loaded.fingerprint
    assert copied.config == TINY
    copied.decode(loaded.encode(SECOND, sample_rate=RATE))


def test_what_is_no_bundle_is_not_decoded(tok, bundle):
    with refused(TokenError, "expected a TokenBundle or a list of them, got str; a file is read with TokenBundle.load"):
        tok.decode("talk.utok")
    changed = bundle.replace()
    changed.s[0] = 1 << 40
    with refused(TokenError, "s must hold tokens from 0 to "):
        tok.decode([bundle, changed])


def test_local_files_only_and_revision_reach_the_hub(monkeypatch):
    seen = []

    def load(name, *, revision, local_files_only):
        seen.append((name, revision, local_files_only))
        return Stored(TINY, codec().state_dict(), "ab" * 16)

    monkeypatch.setattr("unitoken.tokenizer.load_stored", load)
    Tokenizer.from_pretrained("org/name", revision="v1", local_files_only=True)
    Tokenizer.from_pretrained("org/name")
    assert seen == [("org/name", "v1", True), ("org/name", None, False)]


def test_what_cannot_be_loaded_is_refused(tmp_path):
    with refused(ModelError, "unknown model 'no such model'"):
        Tokenizer.from_pretrained("no such model")
    with refused(ModelError, "holds no config.json"):
        Tokenizer.from_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with refused(ModelError, "cannot use the device 'nonsense'"):
        Tokenizer.from_pretrained(tmp_path, device="nonsense")
    with refused(ModelError, "revision 'main' was given"):
        Tokenizer.from_pretrained(tmp_path, revision="main")
    text = (tmp_path / "config.json").read_text().replace('"name": "tiny"', '"nome": "tiny"')
    (tmp_path / "config.json").write_text(text)
    with refused(ConfigError, "config has unknown keys ['nome']"):
        Tokenizer.from_pretrained(tmp_path)


# Long audio


@pytest.mark.slow
def test_an_hour_takes_less_than_a_minute_and_is_the_tokens_of_its_pieces(tok):
    """Noise in the first and last minute, zeros between; pieces are cut where windows are, with a window of context kept on each side."""
    window = 200 * HOP
    hour = torch.zeros(3600 * RATE)
    hour[: 60 * RATE], hour[-60 * RATE :] = clip(60 * RATE, 1), clip(60 * RATE, 2)
    start = time.thread_time()
    bundle = tok.encode(hour, sample_rate=RATE)
    waveform = tok.decode(bundle)
    seconds = time.thread_time() - start
    assert (len(bundle.s), len(waveform)) == (90000, len(hour))
    assert seconds < 60
    for first in (0, 7, 224, 442):
        begin = max(0, first - 1)
        piece = tok.encode(hour[begin * window : (first + 8) * window], sample_rate=RATE)
        kept = min(7, 450 - first) * 200
        skipped = (first - begin) * 200
        assert torch.equal(piece.s[skipped : skipped + kept], bundle.s[first * 200 : first * 200 + kept])
        assert torch.equal(piece.p[skipped : skipped + kept], bundle.p[first * 200 : first * 200 + kept])
    part = tok.decode(TokenBundle(bundle.s[:800], bundle.p[:800], bundle.g, 800 * HOP, tok.info))
    assert torch.equal(part[: 3 * window], waveform[: 3 * window])


def test_another_process_gets_the_same_tokenizer(tok, bundle):
    again = pickle.loads(pickle.dumps(tok))
    assert (again.fingerprint, again.config, again.device) == (tok.fingerprint, tok.config, tok.device)
    assert again.encode(clip(30001, 4), sample_rate=RATE) == bundle
    assert torch.equal(again.decode(bundle), tok.decode(bundle))


def test_a_voice_that_is_not_quantized(tok):
    bundle = tok.encode(clip(30001, 4), sample_rate=RATE, latents=True)
    free, quantized = tok.decode(bundle, quantized_g=False), tok.decode(bundle)
    assert free.shape == quantized.shape
    assert 0 < (free - quantized).abs().max() < 1
    levels = torch.tensor(tok.config.global_.quantizer.levels).repeat(len(bundle.g))
    codewords = tok.codewords("g")[torch.arange(len(bundle.g)), bundle.g].flatten()
    centred = bundle.replace(latents={"g": torch.atanh(codewords * (levels - 1) / (levels - 1e-3))})  # what lies in the middle of its cells
    torch.testing.assert_close(tok.decode([centred, centred], quantized_g=False)[1], quantized, rtol=0, atol=1e-4)
    dim = len(bundle.latents["g"])
    with refused(TokenError, f"quantized_g=False needs the bundle's latent of g, ({dim},), got none; encode with latents=True"):
        tok.decode(tok.encode(SECOND, sample_rate=RATE), quantized_g=False)
    with refused(TokenError, f"got one of the shape ({dim - 1},)"):
        tok.decode(bundle.replace(latents={"g": torch.zeros(dim - 1)}), quantized_g=False)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", ["tiny", "transformer"])
def test_what_is_compiled_gives_the_same_tokens_and_samples(device, name, monkeypatch):
    """What is compiled on a device, traced by a compiler that does nothing else."""
    traced, trace, parts = [], torch.compile, compiled.parts_for(torch.device(device))
    monkeypatch.setattr(torch, "compile", lambda method, **options: traced.append(method.__qualname__) or trace(method, backend="eager", **options))
    monkeypatch.setattr(compiled, "parts_for", lambda device: parts)
    plain, tok = tokenizer(VARIANTS[name]), Tokenizer(Stored(VARIANTS[name], codec(VARIANTS[name]).state_dict(), "ab" * 16), compile=True)
    assert traced == ["Decoder.mix", *(["ConvNeXtBlock.mix", "AttentionBlock.attend"] if device == "cuda" else [])]
    for samples in (0, 1, 20000, 170000):
        wave = clip(samples)
        bundle = tok.encode(wave, sample_rate=RATE)
        assert bundle == plain.encode(wave, sample_rate=RATE)
        torch.testing.assert_close(tok.decode(bundle), plain.decode(bundle), rtol=0, atol=1e-5)
