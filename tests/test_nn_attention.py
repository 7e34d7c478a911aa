import pytest
import torch

from unitoken.nn.attention import AttentionBlock, near, sinusoids


def test_sinusoids_are_sines_then_cosines_of_ever_longer_waves():
    waves = sinusoids(100, 6)
    at = torch.arange(100.0)
    torch.testing.assert_close(waves[:, 0], at.sin())
    torch.testing.assert_close(waves[:, 3], at.cos())
    torch.testing.assert_close(waves[:, 2], (at / 10000).sin())
    torch.testing.assert_close(waves[:, 4], (at / 100).cos())


def test_a_frame_may_attend_to_valid_frames_near_it_and_to_itself():
    mask = torch.tensor([[1, 1, 1, 1, 0, 0.0]]).unsqueeze(-1)
    assert near(mask, 1)[0, 0].int().tolist() == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


@pytest.mark.parametrize("heads", [1, 4])
def test_a_block_hears_what_it_may_and_nothing_else(heads):
    torch.manual_seed(0)
    block, mask = AttentionBlock(8, heads, 12).eval(), torch.ones(1, 9, 1)
    x = torch.randn(1, 9, 8)
    changed = x.clone()
    changed[0, 4] += torch.randn(8)
    moved = (block(x, mask, near(mask, 2)) != block(changed, mask, near(mask, 2)))[0].any(-1)
    assert moved.nonzero()[:, 0].tolist() == [2, 3, 4, 5, 6]


def test_a_block_gives_zeros_where_the_mask_is_and_hears_nothing_from_there():
    torch.manual_seed(0)
    block, mask = AttentionBlock(8, 2, 12).eval(), torch.tensor([[1, 1, 1, 0, 0.0]]).unsqueeze(-1)
    x = torch.randn(1, 5, 8)
    out = block(x, mask, near(mask, 9))
    assert not out[0, 3:].any()
    assert torch.isfinite(out).all()
    other = torch.cat([x[:, :3], torch.full((1, 2, 8), 100.0)], 1)
    assert torch.equal(block(other, mask, near(mask, 9)), out)
    torch.testing.assert_close(block(x[:, :3], mask[:, :3], near(mask[:, :3], 9)), out[:, :3])


@pytest.mark.parametrize("inner", [slice(1, 19), slice(5, 20), slice(0, 3)], ids=str)
def test_attention_leaves_out_frames_that_nothing_asks_for(inner):
    torch.manual_seed(0)
    block, x, mask = AttentionBlock(16, 2, 24), torch.randn(2, 20, 16), torch.ones(2, 20, 1)
    counts = list[int]()
    block.up.register_forward_hook(lambda _, __, out: counts.append(out.shape[1]))
    kept = block(x, mask, near(mask, 3), inner)
    torch.testing.assert_close(kept, block(x, mask, near(mask, 3))[:, inner])
    assert counts == [inner.stop - inner.start, 20]
