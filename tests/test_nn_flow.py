"""Layers on whole rows, on pieces and on runs that go on from each other: what a frame is does not depend on how it came."""

import functools
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from unitoken.config import FrontEndConfig
from unitoken.nn.attention import AttentionBlock
from unitoken.nn.blocks import ConvNeXtBlock, Halve
from unitoken.nn.flow import Flow, Packed, Rows
from unitoken.nn.spectral import LogMel

DIM, ATTENDED = 6, (3, 1)
FRONT = FrontEndConfig(window=13, n_fft=16, hop=4, mels=DIM)  # hears 4 samples before a frame's own and 5 behind them
CPU = torch.device("cpu")


class Positions(nn.Module):
    """Adds what tells where in its clip a frame is."""

    def forward(self, x, rows):
        return rows.cut(x + torch.sin(rows.numbers(x.shape[1], x.device) * 0.7).unsqueeze(-1))


class Attention(AttentionBlock):
    def forward(self, x, rows):
        return super().forward(x, rows, *ATTENDED)


class Stack(nn.Module):
    """A small encoder, and what a frame that it gives hears of what comes in.

    Args:
        front: what comes in are samples, and the log-mel comes first; else frames.
        parts: `(past, future)` for a block of convolutions, or `halve`, `positions` or `attend`.
    """

    def __init__(self, front, *parts):
        super().__init__()
        self.front, self.stem, self.layers = LogMel(FRONT, 16000) if front else None, nn.Linear(DIM, DIM), nn.ModuleList()
        self.hop, self.past, self.future = (FRONT.hop, 4, 5) if front else (1, 0, 0)
        self.reach = 5 if front else 0  # what a single layer hears on one side
        self.asks = [(9, FRONT.hop)] if front else []  # of each layer: frames that it hears around one, and the group that it joins
        for part in parts:
            past, future = {"halve": (0, 0), "attend": ATTENDED, "positions": (0, 0)}.get(part, part)
            self.reach = max(self.reach, 0 if part == "attend" else max(past, future) * self.hop)
            self.past, self.future = self.past + past * self.hop, self.future + future * self.hop
            self.hop *= 2 if part == "halve" else 1
            if part != "positions":
                self.asks.append((past + future, 2 if part == "halve" else 1))
            named = {"halve": lambda: Halve(DIM, DIM), "attend": lambda: Attention(DIM, 2, 8), "positions": Positions}
            self.layers.append(named[part]() if part in named else ConvNeXtBlock(DIM, past + future + 1, 2, future))

    def forward(self, x, rows):
        x = rows.cut(x)
        x = rows.cut(self.stem(x if self.front is None else self.front(x, rows)))
        for layer in self.layers:
            x = layer(x, rows)
        return x

    def noise(self, count, seed=1):
        """Return a row of so many samples or frames."""
        shape = (1, count) if self.front else (1, count, DIM)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def heard_in_full(self, begin, count):
        """Return the numbers of the frames of which a piece that begins somewhere holds all that they hear."""
        return range(-(-(begin + self.past) // self.hop), (begin + count - self.future) // self.hop)


PARTS = {
    "convolutions": (False, (1, 1), (4, 0), (0, 4), (0, 0)),
    "halved twice": (False, (5, 1), "halve", (2, 0), "halve", (0, 2)),
    "attention": (False, (1, 1), "halve", "positions", "attend", "attend"),
    "samples": (True, (1, 1), "halve", "positions", (4, 0), "attend", "halve", (0, 2)),
    "log-mel": (True,),
}
STACKS = st.sampled_from(sorted(PARTS))
FRAME_STACKS = st.sampled_from([name for name, (front, *_) in sorted(PARTS.items()) if not front])
PLACES = st.lists(st.integers(0, 400), max_size=12)


@functools.cache
def stack(name):
    """Return a stack whose parameters are all random: zero biases would hide a mask that is forgotten."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        made = Stack(*PARTS[name]).eval().requires_grad_(False)
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return made


def in_runs(made, x, borders, at, length, *, ends=True, **kind):
    """Yield flow and frames of each run, which go from border to border."""
    tails = []
    for number, (begin, end) in enumerate(pairwise(borders)):
        flow = Flow([at + begin], [length], ends=ends and number == len(borders) - 2, tails=tails, **kind)
        out = made(x[:, begin:end], flow)
        tails = flow.kept
        yield flow, out


def borders_of(count, places, step=1):
    """Return where runs begin and end, from 0 to so many: places in any order, some of them the same."""
    return [0, *sorted(place % (count // step + 1) * step for place in places), count]


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@given(STACKS, st.integers(1, 12), PLACES)
@example("samples", 9, list(range(9 * 16)))
@example("halved twice", 9, list(range(9 * 4)))
@example("attention", 9, [0, 0, 1, 2, 3, 3, 18, 18])
def test_runs_of_any_size_joined_are_the_whole_row(name, frames, places):
    made = stack(name)
    x = made.noise(frames * made.hop)
    whole, parts, count = made(x, Rows()), [], 0
    for flow, part in in_runs(made, x, borders_of(x.shape[1], places), 0, x.shape[1]):
        assert flow.first == count
        count += part.shape[1]
        parts.append(part)
    assert count == whole.shape[1] == frames
    close(torch.cat(parts, 1), whole)


@given(STACKS, st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 5))
@example("samples", [1, 9, 2], 0)
@example("attention", [9, 9, 1], 3)
def test_clips_in_one_row_are_what_each_is_alone(name, counts, spare):
    """With as many frames between them as a layer hears, and what stands there means nothing."""
    made = stack(name)
    apart = -(-made.reach // made.hop)
    firsts = [sum(counts[:number]) + number * apart for number in range(len(counts))]
    frames = firsts[-1] + counts[-1] + spare
    x = made.noise(frames * made.hop)
    row = made(x, Packed(firsts, counts, frames))
    assert row.shape == (1, frames, DIM)
    for first, count in zip(firsts, counts, strict=True):
        close(row[:, first : first + count], made(x[:, first * made.hop : (first + count) * made.hop], Rows()))
    beside = torch.ones(frames, dtype=torch.bool)
    for first, count in zip(firsts, counts, strict=True):
        beside[first : first + count] = False
    if not made.front or made.layers:
        assert not row[:, beside].any()


@given(STACKS, st.integers(1, 12), st.integers(-100, 200), st.integers(0, 300), PLACES)
@example("samples", 12, 3, 180, [])
@example("samples", 12, -5, 250, list(range(250)))
def test_a_piece_has_the_frames_of_which_it_holds_all_that_they_hear(name, frames, begin, count, places):
    """Whether it comes at once or in runs; outside the clip there is anything."""
    made = stack(name)
    length, around = frames * made.hop, 600
    x = made.noise(around + length + around)
    whole = F.pad(made(x[:, around : around + length], Rows()), (0, 0, around, around))
    held, parts = made.heard_in_full(begin, count), []
    piece = x[:, around + begin : around + begin + count]
    for flow, part in in_runs(made, piece, borders_of(count, places), begin, length, ends=False, begins=False):
        if part.shape[1]:
            assert flow.first == held[sum(earlier.shape[1] for earlier in parts)]
        parts.append(part)
    found = torch.cat(parts, 1)
    assert found.shape[1] == len(held)
    close(found, whole[:, around + held.start : around + held.start + len(held)])


@given(STACKS, st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=3))
@example("samples", [(0, 4), (5, 1), (3, 9)])
@example("samples", [(0, 9), (3, 2)])
def test_rows_that_reach_beyond_their_clips_are_zero_there_and_the_clip_alone_inside(name, clips):
    """Rows are as long as the one that reaches farthest; outside the clips there is anything."""
    made = stack(name)
    total = max(1, *(before + frames for before, frames in clips))
    x = torch.cat([made.noise(total * made.hop, seed) for seed in range(len(clips))])
    flow = Flow([-before * made.hop for before, _ in clips], [frames * made.hop for _, frames in clips])
    found = made(x, flow)
    assert flow.firsts == [-before for before, _ in clips]
    for row, (before, frames) in enumerate(clips):
        own = slice(before * made.hop, (before + frames) * made.hop)
        alone = made(x[row : row + 1, own], Rows()) if frames else found[:1, :0]
        inside = slice(before, before + frames)
        close(found[row, inside], alone[0])
        assert not torch.cat([found[row, :before], found[row, before + frames :]]).any()


@given(FRAME_STACKS, st.lists(st.integers(1, 9), min_size=1, max_size=3))
@example("attention", [4, 9, 1])
def test_masked_rows_are_zero_outside_their_clips_and_the_clip_alone_inside(name, clips):
    """The mask is at the rate of what comes out; outside the clips there is anything."""
    made = stack(name)
    total = max(clips) + 1
    x = torch.cat([made.noise(total * made.hop, seed) for seed in range(len(clips))])
    mask = (torch.arange(total) < torch.tensor(clips)[:, None]).float().unsqueeze(-1)
    found = made(x, Rows(mask))
    for row, frames in enumerate(clips):
        close(found[row, :frames], made(x[row : row + 1, : frames * made.hop], Rows())[0])
        assert not found[row, frames:].any()


@given(STACKS, st.integers(1, 9), PLACES)
@example("samples", 9, list(range(20)))
@example("halved twice", 5, [])
def test_lagging_runs_give_as_many_frames_as_they_got_and_the_same_values_later(name, frames, places):
    """Begun so that a frame is finished with the last sample that it hears; outside the clip there is anything."""
    made = stack(name)
    at, length = -(-made.future % made.hop), frames * made.hop
    late = (made.future - at) // made.hop
    x = made.noise((late + frames) * made.hop)
    whole = made(x[:, -at : length - at], Rows())
    parts, kept = [], []
    borders = borders_of(x.shape[1], places, made.hop)
    for (begin, end), (flow, part) in zip(pairwise(borders), in_runs(made, x, borders, at, length, ends=False, lagging=True), strict=True):
        assert part.shape[1] == (end - begin) // made.hop
        assert flow.first == begin // made.hop - late
        parts.append(part)
        kept.append([tail.shape[1] for tail in flow.kept])
    found = torch.cat(parts, 1)
    assert not found[:, :late].any()
    close(found[:, late:], whole)
    assert all(sizes == kept[0] for sizes in kept)


@pytest.mark.parametrize("name", PARTS)
def test_streams_that_began_at_different_times_go_on_in_one_run(name):
    """A stream begins with tails of zeros where another goes on with its own."""
    made = stack(name)
    at, hop, steps = -(-made.future % made.hop), made.hop, 20
    early, young = made.noise(2 * steps * hop, 1), made.noise(steps * hop, 2)
    alone = [
        torch.cat([part for _, part in in_runs(made, x, [0, x.shape[1]], at, length, ends=False, lagging=True)], 1)
        for x, length in ((early, 25 * hop), (young, 7 * hop))
    ]
    first = Flow([at], [25 * hop], ends=False, lagging=True)
    begun = made(early[:, : steps * hop], first)
    tails = [torch.cat([tail, torch.zeros_like(tail)]) for tail in first.kept]
    both = Flow([at + steps * hop, at], [25 * hop, 7 * hop], ends=False, tails=tails)
    found = made(torch.cat([early[:, steps * hop :], young]), both)
    assert both.firsts == [first.first + steps, first.first]
    close(torch.cat([begun, found[:1]], 1), alone[0])
    close(found[1:], alone[1])


@given(STACKS, PLACES)
@example("samples", list(range(20 * 16)))
def test_what_layers_keep_is_what_the_next_run_hears_and_does_not_grow(name, places):
    made = stack(name)
    x = made.noise(20 * made.hop)
    for flow, _ in in_runs(made, x, borders_of(x.shape[1], places), 0, 1 << 40, ends=False):
        sizes = [tail.shape[1] for tail in flow.kept]
        assert len(sizes) == len(made.asks)
        assert all(size <= around + group - 1 for size, (around, group) in zip(sizes, made.asks, strict=True))
    assert all(size >= around for size, (around, _) in zip(sizes, made.asks, strict=True))
    ended = Flow([x.shape[1]], [x.shape[1]], tails=flow.kept)
    made(x[:, :0], ended)
    assert ended.kept == []


def test_a_frame_is_in_its_clip_if_its_first_sample_is():
    at, lengths = [0, -640, -640, 640, -1280], [1, 641, 0, 1281, 5000]
    expected = [[0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]
    inner = [row[1:5] for row in expected]
    flow = Flow(at, lengths, hop=640)
    assert flow.cut(torch.ones(5, 4, 1))[..., 0].tolist() == inner
    assert flow.cut(torch.ones(5, 4)).tolist() == inner
    assert flow.cut(torch.ones(5, 4, 2, 3))[:, :, 1, 2].tolist() == inner
    assert flow.clips(4, 1, 1, CPU).int().tolist() == expected
    flow.split(2)
    assert flow.cut(torch.ones(5, 4, 1))[1, :, 0].tolist() == [0, 0, 1, 1]
    flow.join(4)
    assert flow.cut(torch.ones(5, 4, 1))[..., 0].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 1]]


def test_a_run_far_from_the_ends_of_its_clips_needs_no_mask():
    flow, x = Flow([640, 1280], [9000, 5000], hop=640), torch.ones(2, 5, 1)
    assert flow.cut(x) is x
    assert flow.clips(4, 1, 1, CPU) is None
    assert flow.clips(4, 2, 1, CPU).int().tolist() == [[0, 1, 1, 1, 1, 1, 1], [1] * 7]
    assert flow.clips(4, 1, 3, CPU).int().tolist() == [[1] * 8, [1] * 7 + [0]]


def test_frames_are_counted_from_the_beginning_of_their_clips():
    flow = Flow([0, -24, 800], [100, 100, 900], hop=8, begins=False)
    assert flow.numbers(3, CPU).tolist() == [[0, 1, 2], [-3, -2, -1], [100, 101, 102]]
    flow.extend(torch.zeros(3, 9, 1), 3, 1)
    assert (flow.firsts, flow.first) == ([3, 0, 103], 3)
    flow.extend(torch.zeros(3, 5, 1), 0, 0, group=2)
    flow.join(2)
    assert flow.numbers(2, CPU).tolist() == [[2, 3], [0, 1], [52, 53]]
    assert Rows().numbers(3, CPU).tolist() == [[0, 1, 2]]


def test_clips_in_one_row_are_told_apart_and_counted_at_any_rate():
    row = Packed([0, 3], [2, 1], 5)
    assert row.clips(5, 1, 2, CPU).tolist() == [[0, 1, 1, 0, 2, 0, 0, 0]]
    assert row.clips(10, 0, 1, CPU).tolist() == [[1, 1, 1, 1, 0, 0, 2, 2, 0, 0, 0]]
    assert row.numbers(10, CPU)[0, [0, 1, 2, 3, 6, 7]].tolist() == [0, 1, 2, 3, 0, 1]
    assert row.cut(torch.ones(1, 10, 1))[0, :, 0].tolist() == [1, 1, 1, 1, 0, 0, 1, 1, 0, 0]


def test_frames_that_are_free_are_zeroed_whatever_they_hold():
    x = torch.full((1, 10, 2), float("nan"))
    x[:, [0, 1, 2, 3, 6, 7]] = 1
    assert Packed([0, 3], [2, 1], 5).cut(x)[0, :, 1].tolist() == [1, 1, 1, 1, 0, 0, 1, 1, 0, 0]
    assert Packed([0], [5], 5).cut(torch.ones(1, 5, 1)).sum() == 5


def test_what_layers_ask_for_is_made_once_for_rows_and_each_time_for_runs():
    made, rows_of_two = [], Packed([0, 3], [2, 1], 5)

    def make():
        made.append(0)
        return len(made)

    for rows, expected in ((rows_of_two, [1, 1, 2]), (Rows(), [3, 3, 4]), (Flow([0], [5]), [5, 6, 7])):
        assert [rows.once("one", make), rows.once("one", make), rows.once("another", make)] == expected
    for number, change in enumerate((rows_of_two.join, rows_of_two.split), 8):
        change(2)
        assert [rows_of_two.once("one", make), rows_of_two.once("one", make)] == [number, number]


def test_rows_stand_between_zeros():
    mask = torch.tensor([[1, 1, 0], [1, 0, 0.0]]).unsqueeze(-1)
    x, rows = torch.ones(2, 6, 4), Rows(mask)
    assert torch.equal(rows.extend(x, 2, 1), F.pad(x, (0, 0, 2, 1)))
    assert rows.extend(x, 0, 0) is x
    assert rows.clips(6, 2, 1, CPU).int().tolist() == [[0, 0, 1, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0, 0]]
    assert rows.cut(x)[..., 0].tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]]
    assert Rows().clips(2, 1, 1, CPU).int().tolist() == [[0, 1, 1, 0]]
    assert Rows().cut(x) is x
