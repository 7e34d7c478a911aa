import pytest
import torch

from unitoken.nn import attention
from unitoken.nn.attention import BLOCK, AttentionBlock, near, sinusoids
from unitoken.nn.flow import Flow, Rows


def test_sinusoids_are_sines_then_cosines_of_ever_longer_waves():
    waves = sinusoids(100, 6)
    at = torch.arange(100.0)
    torch.testing.assert_close(waves[:, 0], at.sin())
    torch.testing.assert_close(waves[:, 3], at.cos())
    torch.testing.assert_close(waves[:, 2], (at / 10000).sin())
    torch.testing.assert_close(waves[:, 4], (at / 100).cos())


def test_a_frame_may_attend_to_frames_of_its_clip_near_it():
    """Of six frames, the last two lie behind the clip; one more of the clip stands before them. Beside the clip frames mean nothing."""
    present = torch.tensor([[1, 1, 1, 1, 1, 0, 0, 0]], dtype=torch.bool)
    expected = [
        [1, 1, 1, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1, 1, 1],
    ]
    assert near(present, 6, 1, 1, present.device)[0].int().tolist() == expected
    two = near(torch.tensor([[0, 1, 1, 2, 2, 0]]), 4, 1, 1, present.device)[0].int().tolist()
    assert two == [[0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 0]]
    everywhere = near(None, 6, 2, 1, present.device)
    assert everywhere.shape == (1, 6, 9)
    assert everywhere[0].nonzero().tolist() == [[query, query + key] for query in range(6) for key in range(4)]


@pytest.mark.parametrize(("past", "future"), [(2, 2), (3, 0), (0, 1)])
@pytest.mark.parametrize("heads", [1, 4])
def test_a_block_hears_what_it_may_and_nothing_else(heads, past, future):
    torch.manual_seed(0)
    block = AttentionBlock(8, heads, 12).eval()
    x = torch.randn(1, 9, 8)
    changed = x.clone()
    changed[0, 4] += torch.randn(8)
    moved = (block(x, Rows(), past, future) != block(changed, Rows(), past, future))[0].any(-1)
    assert moved.nonzero()[:, 0].tolist() == list(range(4 - future, 5 + past))


def test_a_block_gives_zeros_outside_the_clip_and_hears_nothing_from_there():
    torch.manual_seed(0)
    block, mask = AttentionBlock(8, 2, 12).eval(), torch.tensor([[1, 1, 1, 0, 0.0]]).unsqueeze(-1)
    x = torch.randn(1, 5, 8)
    out = block(x, Rows(mask), 9, 9)
    assert not out[0, 3:].any()
    assert torch.isfinite(out).all()
    other = torch.cat([x[:, :3], torch.full((1, 2, 8), 100.0)], 1)
    assert torch.equal(block(other, Rows(mask), 9, 9), out)
    torch.testing.assert_close(block(x[:, :3], Rows(), 9, 9), out[:, :3])


@pytest.mark.parametrize(("begins", "ends", "inner"), [(False, False, slice(3, 18)), (True, False, slice(0, 18)), (False, True, slice(3, 20))])
def test_attention_computes_no_frame_that_hears_less_than_it_should(begins, ends, inner):
    torch.manual_seed(0)
    block, x = AttentionBlock(16, 2, 24), torch.randn(2, 20, 16)
    counts = list[int]()
    block.down.register_forward_hook(lambda _, __, out: counts.append(out.shape[1]))
    kept = block(x, Flow([0, 0], [20, 20], begins=begins, ends=ends), 3, 2)
    torch.testing.assert_close(kept, block(x, Rows(), 3, 2)[:, inner])
    assert counts == [inner.stop - inner.start, 20]


@pytest.mark.parametrize(("past", "future"), [(12, 12), (40, 0), (0, 3)])
@pytest.mark.parametrize("frames", [2 * BLOCK + 1, 3 * BLOCK, 4 * BLOCK - 1])
def test_a_run_in_blocks_is_that_in_one(frames, past, future, monkeypatch):
    """Rows of which one lacks frames within a block, and one has none but its first."""
    torch.manual_seed(0)
    block, x = AttentionBlock(8, 2, 12).eval(), torch.randn(3, frames, 8)
    mask = (torch.arange(frames) < torch.tensor([frames, BLOCK - 5, 1])[:, None]).float().unsqueeze(-1)
    shapes = list[torch.Size]()
    monkeypatch.setattr(torch, "baddbmm", lambda *given, call=torch.baddbmm, **named: (shapes.append(given[1].shape), call(*given, **named))[1])
    for rows in (lambda: Rows(), lambda: Rows(mask)):
        monkeypatch.setattr(attention, "BLOCK", BLOCK)
        found = block(x, rows(), past, future)
        monkeypatch.setattr(attention, "BLOCK", 1000)
        torch.testing.assert_close(found, block(x, rows(), past, future))
    blocks = -(-frames // BLOCK)
    assert shapes == [(3 * blocks * 2, BLOCK, 4), (3 * 2, frames, 4)] * 2
