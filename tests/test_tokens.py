import dataclasses
import itertools
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unitoken.errors import TokenError
from unitoken.tokens import StreamInfo, TokenBundle, TokenizerInfo
from unitoken.units import bits_for

INFO = TokenizerInfo("tiny", "00ff", 8000, StreamInfo(4, 1, 5), StreamInfo(8, 2, 2), 3, 1000, "Apache-2.0", "MIT")


def example(**changes):
    fields = {"s": [4, 0, 3], "p": [[1, 0], [0, 1]], "g": [1, 2, 999], "num_samples": 10, "info": INFO}
    return TokenBundle(**fields | changes)


@st.composite
def infos(draw):
    hop, ratio = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    hops = (hop, hop * ratio) if draw(st.booleans()) else (hop * ratio, hop)
    sizes = st.sampled_from([2, 3, 5, 64, 256, 257, 4096, 70000, 2**33])
    s, p = (StreamInfo(hop, draw(st.integers(1, 3)), draw(sizes)) for hop in hops)
    name = draw(st.sampled_from(["tiny", "größe", 'a "quoted\\ name']))
    return TokenizerInfo(name, "00ff", 16000, s, p, draw(st.integers(1, 4)), draw(sizes), "Apache-2.0", "MIT")


@st.composite
def bundles(draw, info=None):
    info, num_samples = info or draw(infos()), draw(st.integers(0, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def tokens(shape, size):
        return torch.from_numpy(rng.integers(0, size, shape))

    p = tokens(info.p.shape(num_samples), info.p.codebook_size) if draw(st.booleans()) else None
    g = tokens((info.num_g,), info.g_size) if draw(st.booleans()) else None
    s = tokens(info.s.shape(num_samples), info.s.codebook_size)
    return TokenBundle(s, p, g, num_samples, info, draw(st.sampled_from(["cpu/float32/torch", "cuda/bfloat16/torch", ""])))


# What the bundle keeps


@pytest.mark.parametrize(
    "convert",
    [
        list,
        np.array,
        torch.tensor,
        lambda tokens: np.array(tokens, np.uint16),
        lambda tokens: np.array(tokens, ">i2"),
        lambda tokens: torch.tensor(tokens, dtype=torch.uint8),
        lambda tokens: torch.tensor(tokens, dtype=torch.int32),
    ],
)
def test_integers_of_any_kind_become_int64_tensors(convert):
    bundle = example(s=convert([4, 0, 3]), p=convert([[1, 0], [0, 1]]), g=convert([1, 2, 99]), num_samples=np.int32(10))
    assert [tokens.dtype for tokens in (bundle.s, bundle.p, bundle.g)] == [torch.int64] * 3
    assert (bundle.s.tolist(), bundle.p.tolist(), bundle.g.tolist()) == ([4, 0, 3], [[1, 0], [0, 1]], [1, 2, 99])
    assert type(bundle.num_samples) is int


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_the_bundle_has_its_own_copy(make):
    tokens = make([4, 0, 3])
    bundle = example(s=tokens)
    tokens[0] = 2
    assert bundle.s.tolist() == [4, 0, 3]


def test_no_samples_may_be_empty_lists():
    bundle = example(s=[], p=[], num_samples=0)
    assert (bundle.s.shape, bundle.p.shape, len(bundle), bundle.seconds) == ((0,), (0, 2), 0, 0)


def test_a_bundle_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        example().num_samples = 4


# What it refuses


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"s": [4, 0, 5]}, "s must hold tokens from 0 to 4, got 5; encode with this tokenizer"),
        ({"s": [4, -1, 3]}, "s must hold tokens from 0 to 4, got -1;"),
        ({"p": [[1, 0], [0, 2]]}, "p must hold tokens from 0 to 1, got 2;"),
        ({"g": [1, 2, 1000]}, "g must hold tokens from 0 to 999, got 1000;"),
        ({"s": [4, 0]}, "s must have the shape (3,), got (2,): the bundle has 10 samples, hops of 4 (s) and 8 (p); change the tokens or num_samples"),
        ({"s": [[4], [0], [3]]}, "s must have the shape (3,), got (3, 1):"),
        ({"s": []}, "s must have the shape (3,), got (0,):"),
        ({"p": [1, 0]}, "p must have the shape (2, 2), got (2,):"),
        ({"p": [[1, 0]]}, "p must have the shape (2, 2), got (1, 2):"),
        ({"g": [1, 2]}, "g must have the shape (3,), got (2,):"),
        ({"g": []}, "g must have the shape (3,), got (0,):"),
        ({"num_samples": 13}, "s must have the shape (4,), got (3,): the bundle has 13 samples"),
        ({"num_samples": -1}, "num_samples must be an integer from 0 to 9223372036854775807, got -1"),
        ({"num_samples": 10.0}, "num_samples must be an integer from 0 to 9223372036854775807, got 10.0"),
        ({"s": [4.0, 0.0, 3.0]}, "s must hold integers, got float64; convert it with .astype('int64')"),
        ({"s": torch.zeros(3)}, "s must hold integers, got torch.float32; convert it with .long()"),
        ({"s": torch.zeros(3, dtype=torch.bool)}, "s must hold integers, got torch.bool"),
        ({"s": np.zeros(3, bool)}, "s must hold integers, got bool"),
        ({"s": None}, "s must hold integers, got object"),
        ({"p": [[1, 0], [0]]}, "p must be a tensor, array or list of integers with equally long rows"),
        ({"numerics": "cpu\n"}, "numerics must be printable text of at most 4096 characters, got 'cpu\\n'"),
        ({"numerics": "x" * 4097}, "numerics must be printable text of at most 4096 characters"),
        ({"numerics": "\ud800"}, "numerics must be printable text"),
    ],
)
def test_unusable_tokens_are_refused(changes, text):
    with pytest.raises(TokenError, match=re.escape(text)):
        example(**changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sample_rate": 0}, "sample_rate must be an integer from 1 to 9223372036854775807, got 0"),
        ({"num_g": True}, "num_g must be an integer from 1 to 9223372036854775807, got True"),
        ({"g_size": 2**63}, "g_size must be an integer from 2 to 9223372036854775807, got 9223372036854775808"),
        ({"name": 3}, "name must be printable text of at most 4096 characters, got 3"),
        ({"weights_licence": "a\0"}, "weights_licence must be printable text"),
        ({"fingerprint": "00FF"}, "fingerprint must be lower-case hex digits, got '00FF'; take the tokenizer's own"),
        ({"fingerprint": ""}, "fingerprint must be lower-case hex digits, got ''"),
        ({"p": StreamInfo(6, 1, 2)}, "the hops of S and P must divide each other, got 4 and 6; change one of them"),
    ],
)
def test_impossible_tokenizers_are_refused(changes, text):
    with pytest.raises(TokenError, match=re.escape(text)):
        dataclasses.replace(INFO, **changes)


@pytest.mark.parametrize(("numbers", "name"), [((0, 1, 2), "hop"), ((1, 0, 2), "num_codebooks"), ((1, 1, 1), "codebook_size"), ((1.5, 1, 2), "hop")])
def test_impossible_streams_are_refused(numbers, name):
    with pytest.raises(TokenError, match=f"^{name} must be an integer from [12] to"):
        StreamInfo(*numbers)


# What it tells


def test_rates_and_sizes():
    bundle = example()
    assert bundle.frame_rates == {"s": Fraction(2000), "p": Fraction(1000)}
    assert bundle.seconds == 10 / 8000
    assert bundle.num_bits == 3 * 3 + 2 * 2 * 1 + 3 * 10
    assert bundle.replace(p=None, g=None).num_bits == 9
    assert (len(bundle), INFO.hop, bits_for(INFO.g_size)) == (2, 8, 10)


def test_repr_is_one_line_without_tokens():
    assert repr(example()) == "TokenBundle(0.001 s by tiny: s 3 frames, p 2 frames, g 3 tokens)"
    assert repr(example(p=None, g=None)) == "TokenBundle(0.001 s by tiny: s 3 frames, no p, no g)"


def test_equal_by_value():
    bundle = example()
    assert bundle == example()
    assert bundle == example(numerics="cuda/float16/torch", latents={"s": torch.zeros(3, 2)})
    assert bundle != "a bundle"
    with pytest.raises(TypeError):
        hash(bundle)


@pytest.mark.parametrize(
    "changes",
    [
        {"s": [4, 0, 2]},
        {"p": [[1, 0], [0, 0]]},
        {"g": [1, 2, 3]},
        {"p": None},
        {"g": None},
        {"num_samples": 11},
        {"info": dataclasses.replace(INFO, fingerprint="00fe")},
    ],
)
def test_unequal_by_value(changes):
    assert example(**changes) != example()
    assert example() != example(**changes)


def test_replace_changes_one_field_and_drops_its_latents():
    bundle = example(latents={"s": torch.zeros(3, 2), "g": torch.zeros(3)}, numerics="x")
    other = bundle.replace(g=[7, 8, 9])
    assert (other.s.tolist(), other.g.tolist(), other.numerics) == ([4, 0, 3], [7, 8, 9], "x")
    assert (set(other.latents), set(bundle.latents)) == ({"s"}, {"s", "g"})
    assert bundle.replace(latents=None).latents is None
    with pytest.raises(TokenError, match=r"^s must have the shape \(2,\)"):
        bundle.replace(num_samples=8)
    with pytest.raises(TypeError):
        bundle.replace(frames=3)


# Slices and concat


def test_a_slice_by_hand():
    first, second = example()[:1], example()[1:]
    assert (first.s.tolist(), first.p.tolist(), first.num_samples) == ([4, 0], [[1, 0]], 8)
    assert (second.s.tolist(), second.p.tolist(), second.num_samples) == ([3], [[0, 1]], 2)
    assert first.g.tolist() == second.g.tolist() == [1, 2, 999]
    assert (example()[-1:], example()[:-1]) == (second, first)
    assert example(latents={"s": torch.zeros(3, 2)})[:].latents is None


@given(bundles(), st.slices(12))
def test_a_slice_holds_the_frames_of_its_samples(bundle, frames):
    frames = slice(frames.start, frames.stop)
    samples = torch.arange(bundle.num_samples)
    hop = bundle.info.hop
    start, stop, _ = frames.indices(len(bundle))
    kept = samples[start * hop : max(start, stop) * hop]
    part = bundle[frames]
    assert part.num_samples == len(kept)
    assert part.info == bundle.info
    assert part.numerics == bundle.numerics
    for name in ("s", "p"):
        of_samples = (kept // getattr(bundle.info, name).hop).unique()
        whole = getattr(bundle, name)
        assert (whole is None and getattr(part, name) is None) or torch.equal(getattr(part, name), whole[of_samples])


@given(bundles(), st.lists(st.integers(0, 20), max_size=4))
def test_concat_of_slices_is_the_original(bundle, cuts):
    edges = [0, *sorted(cuts), len(bundle)]
    parts = [bundle[a:b] for a, b in itertools.pairwise(edges)]
    joined = TokenBundle.concat(iter(parts))
    assert joined == bundle
    assert joined.numerics == bundle.numerics


@given(bundles())
def test_g_of_the_last_part_of_a_stream_is_kept(bundle):
    parts = [bundle[:1].replace(g=None), bundle[1:2].replace(g=None), bundle[2:]]
    assert TokenBundle.concat(parts) == bundle


def test_concat_lists_numerics_once_and_leaves_latents_out():
    whole = example(numerics="cpu", latents={})[:1]
    joined = TokenBundle.concat([TokenBundle.concat([whole, whole.replace(numerics="cuda")]), whole])
    assert (joined.numerics, joined.latents, joined.num_samples) == ("cpu; cuda", None, 24)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([], "concat needs at least one bundle, got none"),
        ([example(), example()], "those before part 1 have 10 samples, no multiple of 8; cut them to whole frames with a slice"),
        ([example(), example()[:0], example()[1:]], "those before part 2 have 10 samples"),
        ([example()[:1], example(g=[0, 0, 0])], "concat needs one g, part 1 has another than an earlier part"),
        ([example()[:1].replace(g=None), example()[:1], example(g=[0, 0, 0])], "concat needs one g, part 2 has another"),
        ([example()[:1], example(p=None)], "concat needs p in all parts or in none; part 1 differs from part 0; drop it with replace(p=None)"),
        (
            [example()[:1], example(info=dataclasses.replace(INFO, name="b", fingerprint="ab"))],
            "concat joins bundles of one tokenizer; bundle 1 is of b (ab), bundle 0 of tiny (00ff); encode them with one",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, text):
    with pytest.raises(TokenError, match=re.escape(text)):
        TokenBundle.concat(parts)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (3, "a bundle is cut with slices of frames, got [3]; for one frame write bundle[3:4]"),
        (slice(None, None, 2), "a slice of a bundle takes every frame, got step 2"),
        (slice(None, None, -1), "a slice of a bundle takes every frame, got step -1; leave the step out"),
    ],
)
def test_other_subscripts_are_refused(key, text):
    with pytest.raises(TokenError, match=re.escape(text)):
        example()[key]
