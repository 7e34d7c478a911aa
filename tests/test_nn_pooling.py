import itertools
import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from unitoken.nn.pooling import AttentivePooling, Statistics

CHANNELS, FRAMES = 5, 40


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pooling(scale=1.0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = AttentivePooling(CHANNELS, 7).requires_grad_(False)
    module.logits.weight.mul_(scale)
    return module


def empty(batch=1):
    return Statistics(*(torch.zeros(batch, CHANNELS, dtype=torch.float64) for _ in range(3)))


def merged(parts):
    total = parts[0]
    for part in parts[1:]:
        total = total.merge(part)
    return total


def assert_same(one, other, tolerance=1e-12):
    for name in ("weight", "mean", "moment"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=tolerance, atol=tolerance)


def naive(module, x, mask):
    """Weighted mean and deviation of one row, channel by channel and frame by frame."""
    out = []
    for channel in range(CHANNELS):
        pairs = []
        for t in range(len(x)):
            if mask[t]:
                logit = module.logits(torch.tanh(module.hidden(x[t])))[channel]
                pairs.append((math.exp(4 * math.tanh(float(logit))), float(x[t, channel])))
        total = sum(weight for weight, _ in pairs)
        mean = sum(weight * value for weight, value in pairs) / total
        out.append((mean, math.sqrt(sum(weight * (value - mean) ** 2 for weight, value in pairs) / total + 1e-6)))
    return torch.tensor([mean for mean, _ in out] + [deviation for _, deviation in out])


def test_pooled_statistics_are_the_weighted_mean_and_deviation():
    module, x = pooling(), noise(2, FRAMES, CHANNELS)
    mask = (noise(2, FRAMES, 1, seed=1) > -0.5).float()
    pooled = module.pooled(module.statistics(x, mask))
    assert pooled.dtype == torch.float32
    for row in (0, 1):
        torch.testing.assert_close(pooled[row], naive(module, x[row], mask[row, :, 0]), rtol=0, atol=1e-5)


@given(st.sets(st.integers(1, FRAMES - 1)), st.sets(st.integers(0, FRAMES - 1)))
def test_merged_blocks_are_the_statistics_of_the_whole(cuts, masked):
    module, x = pooling(), noise(1, FRAMES, CHANNELS)
    mask = torch.ones(1, FRAMES, 1)
    mask[:, sorted(masked)] = 0
    edges = [0, *sorted(cuts), FRAMES]
    parts = [module.statistics(x[:, a:b], mask[:, a:b]) for a, b in itertools.pairwise(edges)]
    # the logits are float32 products, which round differently in blocks of another shape
    assert_same(merged(parts), module.statistics(x, mask), 1e-5)


moments = st.tuples(st.floats(0, 1e3), st.floats(-10, 10), st.floats(0, 1e3)).map(
    lambda values: Statistics(*(torch.full((1, CHANNELS), value, dtype=torch.float64) for value in values))
)


@given(moments, moments, moments)
def test_merging_is_associative_to_rounding_so_only_the_order_of_frames_matters(a, b, c):
    assert_same(a.merge(b).merge(c), a.merge(b.merge(c)), 1e-6)


def test_merging_follows_the_formula():
    def at(*values):
        return Statistics(*(torch.tensor([[value]], dtype=torch.float64) for value in values))

    total = at(2, 1, 3).merge(at(6, 5, 7))
    assert (total.weight.item(), total.mean.item(), total.moment.item()) == (8, 4, 3 + 7 + 2 * 9 + 6 * 1)


def test_empty_statistics_change_nothing():
    module = pooling()
    part = module.statistics(noise(1, 9, CHANNELS), torch.ones(1, 9, 1))
    for total in (empty().merge(part), part.merge(empty())):
        assert all(torch.equal(getattr(total, name), getattr(part, name)) for name in ("weight", "mean", "moment"))


def test_without_a_valid_frame_mean_is_zero_and_all_is_finite():
    module = pooling()
    for statistics in (empty(), empty().merge(empty()), module.statistics(noise(1, 9, CHANNELS), torch.zeros(1, 9, 1))):
        assert not statistics.weight.any()
        torch.testing.assert_close(module.pooled(statistics), torch.tensor([[0.0] * CHANNELS + [1e-3] * CHANNELS]))


def test_masked_frames_have_no_influence():
    module, x = pooling(), noise(1, 12, CHANNELS)
    mask = torch.ones(1, 12, 1)
    mask[:, 8:] = 0
    changed = x.clone()
    changed[:, 8:] = 1e6
    one, other = module.statistics(x, mask), module.statistics(changed, mask)
    assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("weight", "mean", "moment"))


def test_the_weight_of_a_frame_is_bounded_whatever_the_logits():
    weight = pooling(scale=1e6).statistics(noise(1, 1, CHANNELS), torch.ones(1, 1, 1)).weight
    sides = torch.stack([(weight / math.exp(level) - 1).abs() for level in (-AttentivePooling.BOUND, AttentivePooling.BOUND)])
    assert sides.amin(0).max() < 1e-6


def test_one_path_in_float64():
    statistics = pooling().statistics(noise(1, 9, CHANNELS), torch.ones(1, 9, 1))
    assert {statistics.weight.dtype, statistics.mean.dtype, statistics.moment.dtype} == {torch.float64}
