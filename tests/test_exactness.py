"""The contracts of the token streams: bit for bit, whatever else is in the batch, wherever the audio ends, on any number of threads."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from models import HOP, RATE, TOGETHER, VARIANTS, at_once, clip, codec, tokenizer
from unitoken.model import windows
from unitoken.model.encoding import ClipEncoder

WINDOW = windows.CORE * HOP
QUANTUM = windows.QUANTUM * HOP

# around frames, quanta and windows; more than a window is rare, since it is slow
edges = st.sampled_from([0, 1, HOP, QUANTUM, 2 * QUANTUM]).flatmap(lambda edge: st.integers(max(0, edge - 2), edge + 2))
lengths = edges | st.integers(0, 2 * QUANTUM) | st.just(WINDOW + 1)
variants = st.sampled_from(sorted(VARIANTS))
ways = st.sampled_from(TOGETHER)


def clips_of(sizes):
    return [clip(samples, seed) for seed, samples in enumerate(sizes)]


def equal(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("s", "p", "g")) and one.num_samples == other.num_samples


@given(variants, st.lists(lengths, min_size=1, max_size=4), st.randoms(use_true_random=False), ways)
@example("tiny", [1, HOP + 1], None, 3)
@example("tiny", [5, WINDOW + 7, 0, QUANTUM], None, 3)
def test_tokens_of_a_batch_are_those_of_each_clip_alone_in_any_order(variant, sizes, random, together):
    tok, clips = tokenizer(VARIANTS[variant]), clips_of(sizes)
    alone = [tok.encode(one, sample_rate=RATE) for one in clips]
    order = list(range(len(clips)))
    if random is not None:
        random.shuffle(order)
    with at_once(together):
        batch = tok.encode([clips[index] for index in order], sample_rate=RATE)
    assert all(equal(bundle, alone[index]) for bundle, index in zip(batch, order, strict=True))


@given(variants, lengths, st.lists(lengths, min_size=1, max_size=2), ways)
def test_longer_neighbours_change_no_token_and_no_sample(variant, samples, others, together):
    tok, one = tokenizer(VARIANTS[variant]), clip(samples, 9)
    neighbours = clips_of([samples + more for more in others])
    alone = tok.encode(one, sample_rate=RATE)
    with at_once(together):
        batch = tok.encode([neighbours[0], one, *neighbours[1:]], sample_rate=RATE)
        waveform = tok.decode(batch)[1]
    assert equal(batch[1], alone)
    torch.testing.assert_close(waveform, tok.decode(alone), rtol=0, atol=0 if together == 1 else 1e-5)


@given(variants, lengths, st.sampled_from(["", "p", "g", "pg"]), lengths)
def test_decoding_twice_gives_the_same_samples_whatever_came_between(variant, samples, missing, other):
    tok = tokenizer(VARIANTS[variant])
    bundle, between = tok.encode(clips_of([samples, other]), sample_rate=RATE)
    bundle = bundle.replace(**dict.fromkeys(missing))
    first = tok.decode(bundle)
    torch.manual_seed(samples)
    tok.decode(between)
    assert torch.equal(tok.decode(bundle), first)


@given(variants, st.lists(st.tuples(lengths, st.sampled_from(["", "p", "g", "pg"])), min_size=1, max_size=4), st.randoms(use_true_random=False), ways)
def test_samples_of_a_batch_are_those_of_each_bundle_alone_in_any_order(variant, kinds, random, together):
    tok = tokenizer(VARIANTS[variant])
    bundles = tok.encode(clips_of([samples for samples, _ in kinds]), sample_rate=RATE)
    bundles = [bundle.replace(**dict.fromkeys(missing)) for bundle, (_, missing) in zip(bundles, kinds, strict=True)]
    random.shuffle(bundles)
    with at_once(together):
        waveforms = tok.decode(bundles)
    for waveform, bundle in zip(waveforms, bundles, strict=True):
        torch.testing.assert_close(waveform, tok.decode(bundle), rtol=0, atol=0 if together == 1 else 1e-5)


@given(variants, st.integers(0, 20 * HOP), st.lists(st.integers(0, 20 * HOP), max_size=5))
@example("p hears s", 10 * HOP, [1, 1, 2 * HOP, 2 * HOP, 10 * HOP])
def test_tokens_of_a_clip_in_pieces_of_any_size_are_those_of_the_whole(variant, samples, cuts):
    made, whole = codec(VARIANTS[variant]), clip(samples, 3)
    encoder = ClipEncoder(made)
    pieces = torch.tensor_split(whole, sorted(min(place, samples) for place in cuts))
    (expected,), (found,) = encoder.encode([whole]), encoder.encode([lambda: pieces])
    assert torch.equal(found.s, expected.s)
    assert torch.equal(found.p, expected.p)
    assert found.samples == samples
    (g, _), (expected_g, _) = (encoder.global_tokens([given], [one.statistics]) for given, one in ((lambda: pieces, found), (whole, expected)))
    assert torch.equal(g, expected_g)
    assert torch.equal(encoder.exact_global_tokens(encoder.statistics(lambda: pieces, encoder.twin)), expected_g)


@pytest.mark.parametrize("variant", VARIANTS)
def test_audio_beyond_the_context_changes_no_token_of_the_window_before(variant):
    config = VARIANTS[variant]
    window = windows.CORE * config.hop
    made, first = codec(config), clip(window + codec(config).encode_context_frames.future * config.hop)
    tails = [torch.zeros(0), clip(1, 1), clip(5000, 2), clip(window + 3, 3), 100 * clip(40000, 4)]
    encoded = ClipEncoder(made).encode([torch.cat([first, tail]) for tail in tails], latents=True)
    frames = window // config.hop_s, window // config.hop_p
    for other in encoded[1:]:
        assert torch.equal(other.s[: frames[0]], encoded[0].s[: frames[0]])
        assert torch.equal(other.p[: frames[1]], encoded[0].p[: frames[1]])
        torch.testing.assert_close(other.s_latent[: frames[0]], encoded[0].s_latent[: frames[0]], rtol=0, atol=1e-5)
        torch.testing.assert_close(other.p_latent[: frames[1]], encoded[0].p_latent[: frames[1]], rtol=0, atol=1e-5)


def test_audio_within_the_context_does_change_the_window_before():
    """Else the test above would hold nothing."""
    made, first = codec(), clip(WINDOW + 200)
    clips = [torch.cat([first, tail]) for tail in (clip(400, 1), clip(400, 2))]
    latents = [one.s_latent[: windows.CORE] for one in ClipEncoder(made).encode(clips, latents=True)]
    assert (latents[0] - latents[1]).abs().max() > 1e-3


@given(variants, st.integers(0, 3 * HOP + 1))
@example("slow s", 3 * HOP + 1)
def test_decoding_gives_exactly_the_encoded_length(variant, samples):
    config = VARIANTS[variant]
    tok = tokenizer(config)
    bundle = tok.encode(clip(samples), sample_rate=RATE)
    assert bundle.num_samples == samples
    assert (len(bundle.s), len(bundle.p)) == (-(-samples // config.hop_s), -(-samples // config.hop_p))
    assert tok.decode(bundle).shape == (samples,)


def test_every_length_up_to_three_frames_comes_back():
    tok = tokenizer()
    sizes = [*range(5), *range(5, 3 * HOP, 97), *(edge + step for edge in (HOP, 2 * HOP, 3 * HOP) for step in (-1, 0, 1))]
    bundles = tok.encode([clip(samples) for samples in sizes], sample_rate=RATE)
    assert [len(waveform) for waveform in tok.decode(bundles)] == sizes
    assert [len(bundle.s) for bundle in bundles] == [-(-samples // HOP) for samples in sizes]


THREADS = """
import hashlib, sys
import torch
from unitoken.presets import preset
from unitoken.hub import Stored
from unitoken.model.codec import Codec
from unitoken.tokenizer import Tokenizer

torch.manual_seed(0)
shapes = [(rows, inputs) for rows in (50, 110, 136, 160, 310, 360) for inputs in (384, 848, 1120, 1152, 1248)]
product = torch.cat([torch.randn(rows, inputs) @ torch.randn(inputs, 384) for rows, inputs in shapes])
tok = Tokenizer(Stored(preset("small"), Codec(preset("small")).state_dict(), "ab" * 16))
bundle = tok.encode(0.1 * torch.randn(12 * 16000), sample_rate=16000)
streams = [product, bundle.s, bundle.p, bundle.g]
print(torch.get_num_threads(), *(hashlib.sha256(stream.numpy().tobytes()).hexdigest()[:16] for stream in streams))
"""


@pytest.mark.slow
def test_the_number_of_threads_changes_no_token():
    """MKL shares long sums among threads: products differ, on some processors, and tokens do not."""
    outputs = []
    for threads in ("1", "2", "3"):
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "MKL_DYNAMIC": "FALSE"}
        done = subprocess.run([sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True, check=True)
        count, _, *hashes = done.stdout.split()
        assert count == threads
        outputs.append(hashes)
    assert outputs[1:] == outputs[:1] * 2
