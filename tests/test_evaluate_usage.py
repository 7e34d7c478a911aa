import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unitoken.errors import TokenError
from unitoken.evaluate.usage import CodebookCounter


def usage(tokens, size, books=1):
    counter = CodebookCounter(books, size)
    counter.add(torch.tensor(tokens, dtype=torch.int64))
    return counter.usage()


@given(st.integers(1, 64), st.integers(1, 4))
def test_perplexity_of_uniform_tokens_is_their_number(size, repeats):
    found = usage(list(range(size)) * repeats, 64)
    assert found.perplexity == pytest.approx(size)
    assert found.used == size
    assert found.fraction == pytest.approx(size / 64)
    assert found.tokens == size * repeats


def test_known_answers():
    assert usage([7] * 10, 64).perplexity == 1
    halves = usage([0, 0, 1, 2], 4)  # entropy of 1/2, 1/4, 1/4
    assert halves.perplexity == pytest.approx(2**1.5)
    assert halves.used == 3


def test_several_codebooks_are_averaged():
    found = usage([[0, 0], [1, 0], [2, 0], [3, 0]], 4, books=2)
    assert found.perplexity == pytest.approx((4 + 1) / 2)
    assert found.used == (4 + 1) / 2
    assert found.tokens == 8


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 30))
def test_counting_in_pieces_is_counting_at_once(tokens, cut):
    counter = CodebookCounter(1, 10)
    counter.add(torch.tensor(tokens[:cut], dtype=torch.int64))
    counter.add(torch.tensor(tokens[cut:], dtype=torch.int64))
    assert counter.usage() == usage(tokens, 10)
    shares = [tokens.count(value) / len(tokens) for value in set(tokens)]
    assert counter.usage().perplexity == pytest.approx(math.exp(-sum(share * math.log(share) for share in shares)))


def test_nothing_counted():
    assert CodebookCounter(1, 4).usage() is None
    assert usage([], 4) is None


def test_refuses_what_does_not_fit():
    with pytest.raises(TokenError, match=r"tokens must be 0 to 3, got 0 to 4"):
        usage([0, 4], 4)
    with pytest.raises(TokenError, match=r"tokens must be 0 to 3, got -1 to 2"):
        usage([2, -1], 4)
    with pytest.raises(TokenError, match=r"tokens of 2 codebooks, got shape \(3,\)"):
        usage([0, 1, 2], 4, books=2)
