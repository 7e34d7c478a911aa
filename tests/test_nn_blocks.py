import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from unitoken.nn.blocks import AdaptiveNorm, ConvNeXtBlock, DepthwiseConv, Halve
from unitoken.nn.flow import Flow, Rows

KERNELS = [(1, 0), (3, 1), (5, 0), (5, 4), (7, 3), (7, 1)]


def seeded(build, seed=0):
    """Build a module whose parameters are all random: zero biases would hide a mask that is forgotten."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        module = build()
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return module.requires_grad_(False)


def noise(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seen_frames(run, frames, channels, at):
    """Return which input frames change output frame `at`, found by changing one at a time."""
    x = noise(1, frames, channels)
    before = run(x)[0, at]
    seen = []
    for frame in range(frames):
        changed = x.clone()
        changed[0, frame] += noise(channels, seed=2)
        if not torch.equal(run(changed)[0, at], before):
            seen.append(frame)
    return seen


@pytest.mark.parametrize(("kernel", "future"), KERNELS)
def test_depthwise_convolution_is_the_sum_that_it_stands_for(kernel, future):
    conv = seeded(lambda: DepthwiseConv(5, kernel, future))
    x = noise(2, 11, 5)
    padded = F.pad(x, (0, 0, conv.past, conv.future))
    taps = conv.weight[:, 0, 0].double()
    naive = torch.stack([sum(taps[:, k] * padded[:, t + k].double() for k in range(kernel)) + conv.bias for t in range(11)], 1)
    torch.testing.assert_close(conv(padded).double(), naive, rtol=0, atol=1e-5)
    library = F.conv1d(padded.transpose(1, 2), conv.weight.squeeze(2), conv.bias, groups=5).transpose(1, 2)
    torch.testing.assert_close(conv(padded), library, rtol=0, atol=1e-5)
    assert torch.equal(conv.inner(padded), x)


@pytest.mark.parametrize(("kernel", "future"), KERNELS)
def test_depthwise_convolution_sees_its_past_and_future_and_no_more(kernel, future):
    conv = seeded(lambda: DepthwiseConv(3, kernel, future))
    assert (conv.past, conv.future) == (kernel - 1 - future, future)
    assert seen_frames(conv, 15, 3, at=7) == list(range(7, 7 + kernel))
    assert conv(noise(1, kernel - 1 + 4, 3)).shape == (1, 4, 3)
    assert seen_frames(conv.inner, 15, 3, at=7) == [7 + conv.past]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_centred_convolution_puts_zeros_around_whole_rows_by_itself(dtype):
    conv = seeded(lambda: DepthwiseConv(5, 7, 3)).to(dtype)
    x = noise(2, 11, 5).to(dtype)
    torch.testing.assert_close(conv(x, whole=True), conv(F.pad(x, (0, 0, 3, 3))), rtol=0, atol=1e-6)
    assert conv.centred
    assert not DepthwiseConv(5, 7, 2).centred


@pytest.mark.parametrize(("kernel", "future"), KERNELS)
def test_block_on_whole_rows_equals_the_block_on_a_run_of_the_whole_clip(kernel, future):
    block, x = seeded(lambda: ConvNeXtBlock(4, kernel, 2, future)), noise(1, 15, 4)
    torch.testing.assert_close(block(x, Rows()), block(x, Flow([0], [15])), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kernel", "future"), KERNELS)
def test_block_sees_what_its_convolution_sees(kernel, future):
    block = seeded(lambda: ConvNeXtBlock(4, kernel, 2, future))
    assert seen_frames(lambda x: block(x, Rows()), 15, 4, at=7) == list(range(7 - block.conv.past, 8 + block.conv.future))


@given(st.integers(1, 12), st.integers(0, 9), st.integers(0, 9))
def test_block_in_rows_that_are_masked_equals_the_block_without_padding(frames, before, after):
    """Two blocks in a row: the second would see what the first leaves in the padding."""
    blocks = [seeded(lambda: ConvNeXtBlock(6, 5, 2, 2, condition_dim=3), seed) for seed in (0, 1)]
    x, condition = noise(1, frames, 6), noise(1, 3, seed=3)
    padded = F.pad(x, (0, 0, before, after))
    mask = F.pad(torch.ones(1, frames, 1), (0, 0, before, after))
    for block in blocks:
        x, padded = block(x, Rows(), condition), block(padded, Rows(mask), condition)
    torch.testing.assert_close(padded[:, before : before + frames], x, rtol=0, atol=1e-5)
    assert not padded[:, :before].any()
    assert not padded[:, before + frames :].any()


def test_block_is_the_formula_that_its_docstring_names():
    block = seeded(lambda: ConvNeXtBlock(4, 3, 2, 1))
    x = noise(1, 6, 4)
    branch = block.down(F.gelu(block.up(block.norm(block.conv(F.pad(x, (0, 0, 1, 1)))))))
    torch.testing.assert_close(block(x, Rows()), x + block.scale * branch)


def test_residual_branch_starts_at_the_given_scale():
    block = ConvNeXtBlock(4, 3, 2, 1, scale=0.25)
    assert torch.equal(block.scale, torch.full((4,), 0.25))


def test_norm_without_condition_is_an_affine_layer_norm():
    norm = seeded(lambda: AdaptiveNorm(8))
    x = noise(2, 5, 8)
    deviation = (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    naive = (x - x.mean(-1, keepdim=True)) / deviation * norm.norm.weight + norm.norm.bias
    torch.testing.assert_close(norm(x), naive, rtol=0, atol=1e-5)


def test_norm_takes_scale_and_shift_of_each_row_from_its_condition():
    norm = seeded(lambda: AdaptiveNorm(8, 3))
    x, condition = noise(2, 5, 8), noise(2, 3, seed=2)
    scale, shift = (condition @ norm.affine.weight.T + norm.affine.bias).split(8, dim=1)
    deviation = (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    naive = (x - x.mean(-1, keepdim=True)) / deviation * (1 + scale[:, None]) + shift[:, None]
    torch.testing.assert_close(norm(x, condition), naive, rtol=0, atol=1e-5)


def test_norm_looks_at_one_frame_only():
    norm = seeded(lambda: AdaptiveNorm(8, 3))
    assert seen_frames(lambda x: norm(x, noise(1, 3)), 6, 8, at=2) == [2]


def test_halving_joins_neighbours_and_sees_no_other_frame():
    halve = seeded(lambda: Halve(4, 5))
    x = noise(2, 8, 4)
    out = halve(x, Rows())
    assert out.shape == (2, 4, 5)
    naive = torch.stack([halve.proj(torch.cat([halve.norm(x[:, 2 * t]), halve.norm(x[:, 2 * t + 1])], -1)) for t in range(4)], 1)
    torch.testing.assert_close(out, naive, rtol=0, atol=1e-6)
    assert seen_frames(lambda x: halve(x, Rows()), 8, 4, at=1) == [2, 3]


def test_halving_leaves_zeros_where_the_mask_is_zero():
    halve = seeded(lambda: Halve(4, 5))
    mask = torch.tensor([1.0, 0, 1, 0]).view(1, 4, 1)
    out = halve(noise(1, 8, 4), Rows(mask))
    assert not out[0, 1::2].any()
    assert out[0, ::2].all()
