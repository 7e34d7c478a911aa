import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unitoken.config import QuantizerConfig
from unitoken.nn.codebook import KnownBook, nearest, nearest_with_floor
from unitoken.nn.quantize import build_quantizer

LEVELS = [(2,), (3,), (4,), (5,), (6,), (7,), (8,), (2, 3, 4), (8, 5, 5, 5), (4,) * 6, (8, 7, 6), (3, 8)]
CONFIGS = {
    "vq": QuantizerConfig("vq", 6, 1, 37),
    "rvq": QuantizerConfig("rvq", 6, 3, 16),
    "gumbel": QuantizerConfig("gumbel", 6, 3, 16),
    "fsq": QuantizerConfig("fsq", 6, 2, 60, (5, 3, 4)),
}
KINDS = pytest.mark.parametrize("kind", CONFIGS)


def fsq(levels, num_codebooks=1):
    size = int(torch.tensor(levels).prod())
    return build_quantizer(QuantizerConfig("fsq", num_codebooks * len(levels), num_codebooks, size, levels))


def built(kind, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_quantizer(CONFIGS[kind]).requires_grad_(False)


def noise(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def every_token(quantizer):
    """Return every token in every codebook, int64 `(size, codebooks)`, each codebook in another order."""
    size, books = quantizer.config.codebook_size, quantizer.config.num_codebooks
    return torch.stack([torch.arange(size).roll(book) for book in range(books)], 1)


def assert_nearest(chosen, latent, codebook):
    """Compare with every distance in float64; float32 may take another codeword only where the two are equally near to 1e-5."""
    distances = ((latent.double()[:, None] - codebook.double()) ** 2).sum(-1)
    assert (distances.gather(1, chosen[:, None])[:, 0] - distances.amin(1)).max() < 1e-5


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_every_fsq_token_survives_the_round_trip(levels):
    quantizer = fsq(levels)
    tokens = torch.arange(quantizer.config.codebook_size).unsqueeze(-1)
    assert torch.equal(quantizer.quantize(quantizer.dequantize(tokens))[0], tokens)


@pytest.mark.parametrize("levels", [*LEVELS, (9,), (9, 2), (16,)], ids=str)
def test_every_fsq_token_comes_from_the_latents_around_its_centre(levels):
    """The latent in the middle of a cell, through the inverse of the bound, for every token and any number of levels."""
    quantizer = fsq(levels)
    numbers = torch.tensor(list(itertools.product(*[range(level) for level in reversed(levels)]))).flip(1)  # the first dimension runs fastest
    latent = torch.atanh((2 * numbers - torch.tensor(levels) + 1).double() / torch.tensor(levels)).float()
    tokens, codewords = quantizer.quantize(latent)
    assert tokens[:, 0].tolist() == list(range(quantizer.config.codebook_size))
    expected = 2 * numbers / (torch.tensor(levels) - 1) - 1
    torch.testing.assert_close(codewords, expected.float(), rtol=0, atol=1e-6)
    assert torch.equal(quantizer.dequantize(tokens), codewords)


@pytest.mark.parametrize("extreme", [-1e30, -50.0, 0.0, 50.0, 1e30])
def test_fsq_stays_in_range_for_any_latent(extreme):
    quantizer = fsq((8, 5, 5, 5), 2)
    tokens, codewords = quantizer.quantize(torch.full((1, 8), extreme))
    assert tokens.tolist() == [[{-1: 0, 0: 4 + 8 * (2 + 5 * (2 + 5 * 2)), 1: 999}[int(torch.tensor(extreme).sign())]] * 2]
    assert codewords.abs().max() <= 1


@KINDS
def test_every_token_in_every_codebook_survives_the_round_trip(kind):
    quantizer = built(kind)
    if kind == "rvq":  # a sum of codewords is found again only where later levels are small beside the distances in the first
        quantizer.codebook.copy_(noise(16, 6) * torch.tensor([100.0, 1.0, 0.01])[:, None, None])
    tokens = every_token(quantizer)
    assert torch.equal(quantizer.quantize(quantizer.dequantize(tokens))[0], tokens)


@KINDS
def test_shapes_and_types(kind):
    quantizer = built(kind)
    config = CONFIGS[kind]
    for lead in ((), (3,), (2, 5), (0,), (2, 0)):
        tokens, codewords = quantizer.quantize(noise(*lead, config.dim))
        assert (tokens.shape, tokens.dtype) == ((*lead, config.num_codebooks), torch.int64)
        assert (codewords.shape, codewords.dtype) == ((*lead, config.dim), torch.float32)
        assert torch.equal(quantizer.dequantize(tokens), codewords)


@KINDS
def test_codewords_are_what_dequantize_gives(kind):
    quantizer, config = built(kind), CONFIGS[kind]
    books = quantizer.codewords()
    tokens = every_token(quantizer)
    parts = [books[book][tokens[:, book]] for book in range(config.num_codebooks)]
    assert books.shape == (config.num_codebooks, config.codebook_size, parts[0].shape[1])
    assert books.dtype == torch.float32
    joined = sum(parts) if kind == "rvq" else torch.cat(parts, 1)
    assert torch.equal(quantizer.dequantize(tokens), joined)


@given(st.integers(0, 10**6))
def test_vq_takes_the_nearest_codeword(seed):
    quantizer, latent = built("vq"), noise(50, 6, seed=seed)
    tokens, codewords = quantizer.quantize(latent)
    assert_nearest(tokens[:, 0], latent, quantizer.codebook)
    assert torch.equal(codewords, quantizer.codebook[tokens[:, 0]])


@given(st.integers(0, 10**6))
def test_rvq_takes_the_nearest_codeword_of_what_is_left_at_each_level(seed):
    quantizer, latent = built("rvq"), noise(50, 6, seed=seed)
    tokens, codewords = quantizer.quantize(latent)
    rest = latent.double()
    for level, codebook in enumerate(quantizer.codebook):
        assert_nearest(tokens[:, level], rest, codebook)
        rest = rest - codebook[tokens[:, level]].double()
    torch.testing.assert_close(codewords.double(), latent.double() - rest, rtol=0, atol=1e-5)


@given(st.integers(0, 10**6))
def test_gumbel_takes_the_nearest_codeword_in_each_group(seed):
    quantizer, latent = built("gumbel"), noise(50, 6, seed=seed)
    tokens, _ = quantizer.quantize(latent)
    for group, codebook in enumerate(quantizer.codebook):
        assert_nearest(tokens[:, group], latent[:, 2 * group : 2 * group + 2], codebook)


def test_of_equally_near_codewords_the_first_is_taken():
    codebook = torch.tensor([[4.0, 0], [0, 2], [2, 0], [0, 2], [-2, 0]])
    latent = torch.tensor([[0.0, 2], [1, 1], [0, 0], [3, 0], [0, -1]])
    assert nearest(latent, codebook).tolist() == [1, 1, 1, 0, 2]


@KINDS
def test_half_precision_latents_are_quantized_in_float32(kind):
    quantizer, latent = built(kind), noise(500, 6).bfloat16()
    tokens, codewords = quantizer.quantize(latent)
    exact_tokens, exact_codewords = quantizer.quantize(latent.float())
    assert torch.equal(tokens, exact_tokens)
    assert torch.equal(codewords, exact_codewords)
    assert codewords.dtype == torch.float32


@pytest.mark.parametrize("kind", ["fsq", "vq", "rvq", "gumbel"])
def test_a_surrounding_autocast_changes_no_token(kind):
    quantizer, latent = built(kind), noise(2000, 6).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        tokens, codewords = quantizer.quantize(latent)
    assert torch.equal(tokens, quantizer.quantize(latent)[0])
    assert codewords.dtype == torch.float32


@KINDS
def test_tokens_do_not_depend_on_the_shape_around_them(kind):
    quantizer, latent = built(kind), noise(4, 6, 6)
    assert torch.equal(quantizer.quantize(latent)[0].flatten(0, 1), quantizer.quantize(latent.flatten(0, 1))[0])


def test_weights_are_the_codebooks_and_fsq_has_none():
    assert {kind: list(built(kind).state_dict()) for kind in CONFIGS} == {"vq": ["codebook"], "rvq": ["codebook"], "gumbel": ["codebook"], "fsq": []}


@KINDS
def test_unquantized_latents_are_what_codewords_come_near_to(kind):
    """FSQ keeps within its outermost levels and would round to the nearest one; the others keep the latent."""
    quantizer, latent = built(kind), noise(200, 6)
    free = quantizer.unquantized(latent)
    if kind == "fsq":
        steps = 2 / (quantizer.levels.repeat(2) - 1)
        assert free.abs().max() == 1
        assert ((free - quantizer.quantize(latent)[1]).abs() <= steps / 2 + 1e-6).all()
        assert len(free.unique(dim=0)) == 200
    else:
        assert torch.equal(free, latent)


# Margins


@KINDS
def test_a_latent_may_move_by_its_margin_in_any_direction_and_no_token_changes(kind):
    quantizer, latent = built(kind), noise(300, 6)
    tokens = quantizer.quantize(latent)[0]
    margins = quantizer.margins(latent, tokens)
    assert margins.shape == tokens.shape
    first = margins.amin(-1) if kind != "rvq" else margins[:, 0]
    for seed in range(20):
        way = noise(300, 6, seed=seed + 2)
        moved = quantizer.quantize(latent + way / way.norm(dim=1, keepdim=True) * 0.999 * first[:, None])[0]
        assert torch.equal(moved if kind != "rvq" else moved[:, 0], tokens if kind != "rvq" else tokens[:, 0])


@KINDS
def test_a_little_more_than_the_margin_towards_the_nearest_border_changes_the_token(kind):
    """Of the first codebook: over the border to each other codeword (or level), the nearest of which is the margin away."""
    quantizer, latent = built(kind), noise(40, 6)
    tokens = quantizer.quantize(latent)[0]
    margins = quantizer.margins(latent, tokens)[:, 0]
    if kind == "fsq":
        ways = torch.cat([torch.eye(6)[:3], -torch.eye(6)[:3]]).expand(40, -1, -1)
    else:
        book = quantizer.codebook if kind == "vq" else quantizer.codebook[0]
        ways = torch.nn.functional.pad(book - book[tokens[:, 0]].unsqueeze(1), (0, 6 - book.shape[1]))
        ways = ways / ways.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    for more, changes in ((1.001, True), (0.999, False)):
        moved = quantizer.quantize(latent.unsqueeze(1) + ways * (more * margins)[:, None, None])[0][..., 0]
        assert ((moved != tokens[:, :1]).any(1) == changes).all()


def test_a_codeword_that_stands_twice_has_no_margin():
    quantizer = built("vq")
    quantizer.codebook[5] = quantizer.codebook[9]
    latent = quantizer.codebook[9:10] + 0.01
    tokens, _ = quantizer.quantize(latent)
    assert tokens.item() == 5
    assert quantizer.margins(latent, tokens).item() == 0
    assert quantizer.assess(latent, quantizer.known_books())[1].item() == 0


def test_later_levels_have_the_margins_of_what_earlier_ones_leave():
    quantizer, latent = built("rvq"), noise(50, 6)
    tokens = quantizer.quantize(latent)[0]
    margins = quantizer.margins(latent, tokens)
    single = build_quantizer(QuantizerConfig("vq", 6, 1, 16))
    for level in range(3):
        single.codebook = quantizer.codebook[level]
        rest = latent - sum(quantizer.codebook[before][tokens[:, before]] for before in range(level))
        torch.testing.assert_close(single.margins(rest, tokens[:, level : level + 1])[:, 0], margins[:, level], rtol=0, atol=1e-5)


@KINDS
def test_what_a_margin_is_not_below_is_cheap_and_true(kind):
    quantizer, latent = built(kind), noise(500, 6) * 2
    tokens, floors = quantizer.assess(latent, quantizer.known_books())
    margins = quantizer.margins(latent, tokens)
    assert torch.equal(tokens, quantizer.quantize(latent)[0])
    assert (floors <= margins + 1e-6).all()
    assert (floors > 0.05 * margins.clamp_max(1)).float().mean() > 0.9  # and of some use
    assert (floors >= 0).all()


@KINDS
def test_a_float64_latent_stays_one(kind):
    quantizer, latent = built(kind).double(), noise(50, 6).double()
    tokens, _ = quantizer.quantize(latent)
    assert {
        quantizer.margins(latent, tokens).dtype,
        quantizer.assess(latent, quantizer.known_books())[1].dtype,
        quantizer.unquantized(latent).dtype,
    } == {torch.float64}
    assert torch.equal(quantizer.assess(latent, quantizer.known_books())[0], tokens)
    assert torch.equal(built(kind).quantize(latent.float())[0], tokens)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 100, 4096])
def test_the_two_nearest_codewords_of_a_book_of_any_size(size):
    torch.manual_seed(size)
    book, latent = torch.randn(size, 3), torch.randn(50, 3)
    index, floor = nearest_with_floor(latent, KnownBook.of(book))
    distances, order = torch.cdist(latent.double(), book.double()).sort(1)
    assert torch.equal(index, order[:, 0])
    reach = book.norm(dim=1)[index] + book.norm(dim=1).max()
    gap = distances[:, 1] ** 2 - distances[:, 0] ** 2 if size > 1 else torch.full((50,), torch.inf)
    torch.testing.assert_close(floor, (gap / (2 * reach)).float(), rtol=1e-3, atol=1e-5)
