import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitoken.model.windowed import GRID
from unitoken.model.windows import Grid, Window

grids = st.tuples(st.integers(1, 20), st.integers(1, 20)).map(lambda sizes: Grid(core=sizes[0] * sizes[1], quantum=sizes[1]))


@given(grids, st.integers(0, 3000))
def test_windows_hold_every_frame_once_and_in_order(grid, frames):
    held = [frame for window in grid.windows(frames) for frame in range(window.start, window.start + window.valid)]
    assert held == list(range(frames))


@given(grids, st.integers(1, 3000))
def test_all_but_the_last_window_are_full_and_the_last_wastes_less_than_a_quantum(grid, frames):
    *full, last = grid.windows(frames)
    assert all((window.core, window.valid) == (grid.core, grid.core) for window in full)
    assert last.core % grid.quantum == 0
    assert 0 <= last.core - last.valid < grid.quantum
    assert last.core <= grid.core


@given(grids, st.integers(0, 1000), st.integers(0, 1000))
def test_a_longer_clip_keeps_the_full_windows_of_a_shorter_one(grid, frames, more):
    short = [window for window in grid.windows(frames) if window.valid == grid.core]
    assert list(grid.windows(frames + more))[: len(short)] == short


def test_the_grid_in_use_is_eight_seconds_in_steps_of_two():
    assert (GRID.core, GRID.quantum) == (200, 50)
    assert list(GRID.windows(0)) == []
    assert list(GRID.windows(1)) == [Window(0, 50, 1)]
    assert list(GRID.windows(200)) == [Window(0, 200, 200)]
    assert list(GRID.windows(451)) == [Window(0, 200, 200), Window(200, 200, 200), Window(400, 100, 51)]


@pytest.mark.parametrize("quantum", [1, 7, 50])
def test_a_window_never_grows_beyond_the_core(quantum):
    grid = Grid(quantum * 3, quantum)
    assert {window.core for frames in range(1, 4 * quantum * 3) for window in grid.windows(frames)} == {quantum, 2 * quantum, 3 * quantum}
