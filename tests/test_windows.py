import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import at_once
from unitoken.model import windows
from unitoken.model.windows import Window, batches, few
from unitoken.units import frames_for

sizes = st.tuples(st.integers(1, 20), st.integers(1, 20)).map(lambda both: (both[0] * both[1], both[1]))
"""A core and the quantum that divides it."""


def cut(size, frames):
    """Return the windows of so many frames, with a core and a quantum."""
    with at_once(1, *size):
        return list(windows.windows(frames))


@given(sizes, st.integers(0, 3000))
def test_windows_hold_every_frame_once_and_in_order(size, frames):
    held = [frame for window in cut(size, frames) for frame in range(window.start, window.start + window.valid)]
    assert held == list(range(frames))


@given(sizes, st.integers(1, 3000))
def test_all_but_the_last_window_are_full_and_the_last_wastes_less_than_a_quantum(size, frames):
    core, quantum = size
    *full, last = cut(size, frames)
    assert all((window.core, window.valid) == (core, core) for window in full)
    assert last.core % quantum == 0
    assert 0 <= last.core - last.valid < quantum
    assert last.core <= core


@given(sizes, st.integers(0, 1000), st.integers(0, 1000))
def test_a_longer_clip_keeps_the_full_windows_of_a_shorter_one(size, frames, more):
    short = [window for window in cut(size, frames) if window.valid == size[0]]
    assert cut(size, frames + more)[: len(short)] == short


def test_windows_in_use_are_ten_seconds_in_steps_of_two():
    in_use = windows.CORE, windows.QUANTUM
    assert in_use == (250, 50)
    assert cut(in_use, 0) == []
    assert cut(in_use, 1) == [Window(0, 50, 1)]
    assert cut(in_use, 250) == [Window(0, 250, 250)]
    assert cut(in_use, 551) == [Window(0, 250, 250), Window(250, 250, 250), Window(500, 100, 51)]


@pytest.mark.parametrize("quantum", [1, 7, 50])
def test_a_window_never_grows_beyond_the_core(quantum):
    cores = {window.core for frames in range(1, 4 * quantum * 3) for window in cut((quantum * 3, quantum), frames)}
    assert cores == {quantum, 2 * quantum, 3 * quantum}


@given(sizes, st.lists(st.integers(0, 9000), max_size=5), st.integers(1, 50), st.integers(1, 4))
def test_batches_hold_every_window_of_every_clip_once_and_are_of_one_shape(size, lengths, hop, most):
    with at_once(1, *size):
        made = list(batches(lengths, hop, most))
    assert all(1 <= len(batch) <= most for batch in made)
    assert all(len({window.core for _, window in batch}) == 1 for batch in made)
    expected = [(clip, window) for clip, samples in enumerate(lengths) for window in cut(size, frames_for(samples, hop))]
    assert sorted((pair for batch in made for pair in batch), key=lambda pair: (pair[0], pair[1].start)) == expected


@given(st.integers(0, 5000))
def test_a_few_frames_more_make_few_shapes(frames):
    assert frames <= few(frames) <= max(4, 1.25 * frames)
    assert len({few(count) for count in range(frames, 2 * frames)}) <= 5
