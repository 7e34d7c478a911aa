"""Streams: the tokens and samples of the whole, however it is cut, whoever else is in the batch; and clear errors on misuse."""

import re

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from models import HOP, RATE, TINY, VARIANTS, clip, tokenizer
from unitoken import TokenBundle
from unitoken.errors import AudioError, StreamError, TokenError
from unitoken.resample import resample

variants = st.sampled_from(sorted(VARIANTS))
lengths = st.sampled_from([0, 1, HOP - 1, HOP, HOP + 1, 2 * HOP]) | st.integers(0, 40 * HOP)
pieces = st.sampled_from([97, HOP, 1009, 5 * HOP, 10**6]) | st.integers(1, 8 * HOP)


def refused(error, text):
    return pytest.raises(error, match=re.escape(text))


def cut(waveform, sizes):
    """Return a waveform in pieces of these sizes, over and over; empty ones come between."""
    parts, at = [waveform[:0]], 0
    while at < len(waveform):
        size = sizes[len(parts) % len(sizes)]
        parts.append(waveform[at : at + size])
        at += size
    return parts


def streamed(tok, waveform, sizes, **options):
    with tok.stream_encode(**options) as stream:
        return [*map(stream.push, cut(waveform, sizes)), stream.finish()]


def spoken(stream, bundle, sizes):
    """Push a bundle's tokens in pieces of so many coarse frames; return all samples."""
    waves, at, coarse = [], 0, bundle.info.hop
    fine_s, fine_p = coarse // bundle.info.s.hop, coarse // bundle.info.p.hop
    while at * coarse < bundle.num_samples:
        size = sizes[len(waves) % len(sizes)]
        s, p = bundle.s[at * fine_s : (at + size) * fine_s], None if bundle.p is None else bundle.p[at * fine_p : (at + size) * fine_p]
        waves.append(stream.push(s, p))
        at += size
    return torch.cat([*waves, stream.finish(bundle.num_samples)])


@given(variants, lengths, st.lists(pieces, min_size=1, max_size=3))
@example("tiny", 3 * HOP + 5, [1])
@example("lookahead 0", 3 * HOP + 5, [1])
@example("transformer", 60 * HOP + 1, [HOP])
def test_a_stream_has_the_tokens_of_the_whole_however_it_is_cut(variant, samples, sizes):
    tok, audio = tokenizer(VARIANTS[variant]), clip(samples)
    whole, parts = tok.encode(audio, sample_rate=RATE), streamed(tok, audio, sizes)
    assert TokenBundle.concat(parts) == whole
    assert all(part.g is None for part in parts[:-1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stream_longer_than_a_block_has_the_tokens_of_the_whole(variant):
    tok, audio = tokenizer(VARIANTS[variant]), clip(820 * HOP + 77, 3)
    assert TokenBundle.concat(streamed(tok, audio, [9999, 50 * HOP])) == tok.encode(audio, sample_rate=RATE)


@given(variants, st.lists(st.tuples(lengths, pieces, st.integers(0, 4)), min_size=2, max_size=5), st.integers(1, 3))
def test_streams_of_a_batch_have_the_tokens_of_each_alone(variant, plans, slots):
    """They begin one after the other, wait for free slots, and end when they end."""
    tok = tokenizer(VARIANTS[variant])
    audio = [clip(samples, number) for number, (samples, _, _) in enumerate(plans)]
    waiting, running, parts = list(range(len(plans))), {}, {number: [] for number in range(len(plans))}
    with tok.stream_encode_batch(slots) as batch:
        for turn in range(10**6):
            while waiting and len(running) < slots and turn >= plans[waiting[0]][2]:
                running[batch.open()] = [waiting.pop(0), 0]
            if not waiting and not running:
                break
            pushed = {}
            for slot, place in running.items():
                size = plans[place[0]][1]
                pushed[slot] = audio[place[0]][place[1] : place[1] + size]
                place[1] += size
            for slot, part in batch.push(pushed).items():
                parts[running[slot][0]].append(part)
            ended = [slot for slot, (number, at) in running.items() if at >= len(audio[number])]
            for slot, part in batch.finish(ended).items():
                parts[running.pop(slot)[0]].append(part)
        assert batch.open_slots == []
    for one, found in zip(audio, parts.values(), strict=True):
        assert TokenBundle.concat(found) == tok.encode(one, sample_rate=RATE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_frames_of_a_stream_that_are_computed_again_hear_what_they_heard_before(variant, monkeypatch):
    """All of them here, in float64: samples and tokens must still be at hand that come long before a frame or behind it."""
    tok, audio = tokenizer(VARIANTS[variant]), clip(150 * HOP + 9, 4)
    errors, own = [], type(tok._encoder).settle

    def watched(self, stream, latents, counts, again):
        def compute(row, first, last):
            exact = again(row, first, last)
            errors.append((exact - latents[row, first:last]).norm(dim=-1).max().item())
            return exact

        return own(self, stream, latents, counts, compute)

    monkeypatch.setattr(tok._encoder, "bounds", dict.fromkeys("spg", 1e9))
    monkeypatch.setattr(type(tok._encoder), "settle", watched)
    parts = streamed(tok, audio, [3 * HOP, HOP, 10 * HOP])
    assert len(errors) > 20
    assert max(errors) < 1e-4
    assert TokenBundle.concat(parts) == tok.encode(audio, sample_rate=RATE)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_a_stream_at_another_rate_is_resampled_as_the_whole_is(rate):
    tok, audio = tokenizer(), clip(rate, 2)
    parts = streamed(tok, audio, [777, 12345], sample_rate=rate)
    assert TokenBundle.concat(parts) == tok.encode(resample(audio, rate, RATE), sample_rate=RATE)


def test_a_stream_takes_what_encode_takes():
    tok, audio = tokenizer(), (clip(20 * HOP) * 32767).round().to(torch.int16)
    stereo = np.stack([audio.numpy()] * 2)
    with tok.stream_encode() as stream:
        parts = [stream.push(stereo[:, :5000]), stream.push(stereo[:, 5000:]), stream.finish()]
    assert TokenBundle.concat(parts) == tok.encode(audio, sample_rate=RATE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_frame_is_finished_with_the_last_sample_that_its_tokens_depend_on(variant):
    config = VARIANTS[variant]
    tok, audio = tokenizer(config), clip(40 * config.hop)
    with tok.stream_encode() as stream:
        ahead = stream.lookahead_samples
        counts = [stream.push(audio[: 10 * config.hop + ahead - 1]).num_samples, stream.push(audio[10 * config.hop + ahead - 1 :][:1]).num_samples]
    assert counts == [9 * config.hop, config.hop]
    assert ahead <= tok.encode_context_frames[1] * config.hop < ahead + config.hop


def test_without_lookahead_a_frame_waits_for_the_front_end_only():
    with tokenizer(VARIANTS["lookahead 0"]).stream_encode() as stream:
        assert stream.lookahead_samples == 240  # 15 ms: half of the front end's window beyond its hop


def test_a_voice_that_is_known_stands_in_every_part():
    tok, audio = tokenizer(), clip(30 * HOP)
    g = (tok.encode(audio, sample_rate=RATE).g + 1) % 16
    parts = streamed(tok, audio, [3 * HOP], g=g)
    assert all(torch.equal(part.g, g) for part in parts)
    with refused(TokenError, "g must hold tokens from 0 to 15, got 16"):
        tok.stream_encode(g=[16, 0])


def test_the_voice_so_far_is_that_of_the_frames_so_far():
    tok, audio = tokenizer(), clip(60 * HOP, 5)
    with tok.stream_encode() as stream:
        assert torch.equal(stream.voice(), tok.encode_global([]))
        stream.push(audio)
        early = stream.voice()
        assert early.shape == (2,)
        assert torch.equal(stream.finish().g, tok.encode(audio, sample_rate=RATE).g)


def test_memory_of_a_stream_does_not_grow():
    tok = tokenizer()
    with tok.stream_encode() as stream:
        held = []
        for number in range(60):
            stream.push(clip(10 * HOP, number))
            state = stream._batch._encoder.states[0]
            held.append((len(state.wave.data), len(state.s.data), sum(map(len, state.found["s"]))))
    assert len(set(held[5:])) == 1


@given(variants, lengths, st.lists(st.integers(1, 30), min_size=1, max_size=3), st.sampled_from(["", "p", "g", "pg"]))
@example("tiny", 41 * HOP + 5, [1], "")
@example("lookahead 0", 41 * HOP + 5, [1], "p")
def test_decoded_streams_have_the_samples_of_the_whole(variant, samples, sizes, missing):
    tok = tokenizer(VARIANTS[variant])
    bundle = tok.encode(clip(samples), sample_rate=RATE).replace(**dict.fromkeys(missing))
    with tok.stream_decode(bundle.g, with_p=bundle.p is not None) as stream:
        torch.testing.assert_close(spoken(stream, bundle, sizes), tok.decode(bundle), rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_decoded_stream_longer_than_a_block_has_the_samples_of_the_whole(variant):
    tok = tokenizer(VARIANTS[variant])
    bundle = tok.encode(clip(530 * HOP + 77, 3), sample_rate=RATE)
    with tok.stream_decode(bundle.g) as stream:
        torch.testing.assert_close(spoken(stream, bundle, [1, 7, 300]), tok.decode(bundle), rtol=0, atol=1e-5)


@given(variants, st.lists(st.tuples(lengths, st.integers(1, 9), st.sampled_from(["", "p", "g"])), min_size=2, max_size=4), st.integers(1, 3))
def test_decoded_streams_of_a_batch_have_the_samples_of_each_alone(variant, plans, slots):
    tok = tokenizer(VARIANTS[variant])
    bundles = tok.encode([clip(samples, number) for number, (samples, _, _) in enumerate(plans)], sample_rate=RATE)
    bundles = [bundle.replace(**dict.fromkeys(missing)) for bundle, (_, _, missing) in zip(bundles, plans, strict=True)]
    waiting, running, waves = list(range(len(plans))), {}, {number: [] for number in range(len(plans))}
    with tok.stream_decode_batch(slots) as batch:
        while waiting or running:
            if waiting and len(running) < slots:
                number = waiting.pop(0)
                running[batch.open(bundles[number].g, with_p=bundles[number].p is not None)] = [number, 0]
            pushed = {}
            for slot, place in running.items():
                part = bundles[place[0]][place[1] : place[1] + plans[place[0]][1]]
                pushed[slot] = part.s, part.p
                place[1] += plans[place[0]][1]
            for slot, wave in batch.push(pushed).items():
                waves[running[slot][0]].append(wave)
            ended = {slot: bundles[number].num_samples for slot, (number, at) in running.items() if at >= len(bundles[number])}
            for slot, wave in batch.finish(list(ended), ended).items():
                waves[running.pop(slot)[0]].append(wave)
    for bundle, found in zip(bundles, waves.values(), strict=True):
        torch.testing.assert_close(torch.cat(found), tok.decode(bundle), rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_samples_come_as_soon_as_the_stated_lag_allows(variant):
    config = VARIANTS[variant]
    tok = tokenizer(config)
    bundle = tok.encode(clip(40 * config.hop), sample_rate=RATE)
    with tok.stream_decode(bundle.g) as stream:
        came = 0
        for number in range(40):
            part = bundle[number : number + 1]
            came += len(stream.push(part.s, part.p))
            assert came == max(0, (number + 1) * config.hop - stream.lag_samples)


def test_without_lookahead_the_first_samples_come_after_two_frames():
    tok = tokenizer(VARIANTS["lookahead 0"])
    bundle = tok.encode(clip(2 * HOP), sample_rate=RATE)  # 80 ms
    with tok.stream_decode(bundle.g) as stream:
        assert len(stream.push(bundle.s, bundle.p)) > 0


def test_one_stream_of_tokens_may_be_ahead_of_the_other():
    tok = tokenizer()
    bundle = tok.encode(clip(20 * HOP), sample_rate=RATE)
    with tok.stream_decode(bundle.g) as stream:
        waves = [stream.push(bundle.s[:7], bundle.p[:0]), stream.push(bundle.s[7:], bundle.p[:3]), stream.push(bundle.s[:0], bundle.p[3:])]
        torch.testing.assert_close(torch.cat([*waves, stream.finish()]), tok.decode(bundle), rtol=0, atol=1e-5)


def test_reset_begins_anew():
    tok, audio = tokenizer(), clip(30 * HOP)
    bundle = tok.encode(audio, sample_rate=RATE)
    with tok.stream_encode() as stream:
        stream.push(clip(12345, 8))
        stream.reset()
        assert TokenBundle.concat([stream.push(audio), stream.finish()]) == bundle
        stream.reset()
        assert TokenBundle.concat([stream.push(audio), stream.finish()]) == bundle
    with tok.stream_decode(bundle.g) as stream:
        stream.push(bundle.s.flip(0), bundle.p)
        stream.reset()
        torch.testing.assert_close(spoken(stream, bundle, [4]), tok.decode(bundle), rtol=0, atol=1e-5)


def test_what_is_finished_or_closed_takes_nothing_more():
    tok = tokenizer()
    encode, decode = tok.stream_encode(), tok.stream_decode()
    encode.finish()
    decode.finish()
    for call in (lambda: encode.push(clip(5)), encode.finish, encode.voice, lambda: decode.push([1], [1]), decode.finish):
        with refused(StreamError, "this stream is finished; reset() begins another"):
            call()
    for stream in (encode, decode):
        stream.reset()
        stream.close()
        with refused(StreamError, "this stream is closed; begin another with the tokenizer"):
            stream.finish()
        with refused(StreamError, "this stream is closed"):
            stream.reset()
        stream.close()  # again, as at the end of a `with`


def test_slots_are_free_or_taken_and_say_so():
    tok = tokenizer()
    for make in (tok.stream_encode_batch, tok.stream_decode_batch):
        for slots in (0, -1, 1.5, True, None):
            with refused(StreamError, f"a batch of streams needs a positive number of slots, got {slots!r}"):
                make(slots)
        batch = make(2)
        assert (batch.slots, [batch.open(), batch.open()], batch.open_slots) == (2, [0, 1], [0, 1])
        with refused(StreamError, "all 2 slots are taken; finish or cancel a stream, or ask for more slots"):
            batch.open()
        batch.cancel(0)
        with refused(StreamError, "there is no stream 0; open ones are [1], and open() begins another"):
            batch.finish([0])
        with refused(StreamError, "there is no stream 7"):
            batch.push({1: clip(5), 7: clip(5)})
        assert batch.open() == 0


def test_bad_audio_is_refused_and_the_stream_goes_on_as_if_it_had_not_come():
    tok, audio = tokenizer(), clip(30 * HOP)
    with tok.stream_encode_batch(2) as batch:
        a, b = batch.open(), batch.open()
        with refused(AudioError, "NaN or infinite"):
            batch.push({a: audio, b: torch.tensor([0.0, float("nan")])})
        with refused(AudioError, "expected a NumPy array or a torch tensor, got str"):
            batch.push({a: "talk.wav"})
        parts = [batch.push({a: audio})[a], batch.finish([a])[a]]
    assert TokenBundle.concat(parts) == tok.encode(audio, sample_rate=RATE)
    with refused(AudioError, "must be from 4000 to 384000 Hz, got 16"):
        tok.stream_encode(sample_rate=16)


def test_bad_tokens_are_refused_and_the_stream_goes_on_as_if_they_had_not_come():
    tok = tokenizer()
    bundle = tok.encode(clip(20 * HOP), sample_rate=RATE)
    with tok.stream_decode(bundle.g) as stream:
        for s, p, error, text in (
            ([64], [0], TokenError, "s must hold tokens from 0 to 63, got 64"),
            ([0], [-1], TokenError, "p must hold tokens from 0 to 63, got -1"),
            ([[0]], [0], TokenError, "s must have the shape (frames,), got (1, 1)"),
            ([0.5], [0], TokenError, "s must hold integers"),
            ([0], None, StreamError, "P is missing; open the stream with with_p=False"),
        ):
            with refused(error, text):
                stream.push(s, p)
        stream.push(bundle.s, bundle.p[:-1])
        with refused(StreamError, "the stream has 20 frames of S and 19 of P, 12160 samples have 19 and 19; push what is missing first"):
            stream.finish()
        stream.push([], bundle.p[-1:])
        with refused(StreamError, "the stream has 20 frames of S and 20 of P, 99 samples have 1 and 1"):
            stream.finish(99)
        assert stream.finish() is not None
    with tok.stream_decode(with_p=False) as stream, refused(StreamError, "this stream has no P, but some came; open it with with_p=True"):
        stream.push([1], [1])


def test_streams_leave_the_settings_of_torch_alone():
    tok = tokenizer()
    bundle = tok.encode(clip(20 * HOP), sample_rate=RATE)
    before = torch.is_grad_enabled(), torch.get_num_threads(), torch.random.get_rng_state().sum(), torch.get_float32_matmul_precision()
    with tok.stream_encode() as encode, tok.stream_decode(bundle.g) as decode:
        encode.push(clip(5000))
        assert not decode.push(bundle.s, bundle.p).requires_grad
    assert (torch.is_grad_enabled(), torch.get_num_threads(), torch.random.get_rng_state().sum(), torch.get_float32_matmul_precision()) == before


def test_tiny_has_what_these_tests_suppose():
    assert (TINY.hop_s, TINY.hop_p, TINY.semantic.quantizer.codebook_size) == (HOP, HOP, 64)
