import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitoken.config import CodecConfig, GridConfig
from unitoken.errors import ConfigError
from unitoken.model.windows import Window, windows

grids = st.tuples(st.integers(1, 20), st.integers(1, 20)).map(lambda sizes: GridConfig(core=sizes[0] * sizes[1], quantum=sizes[1]))


@given(grids, st.integers(0, 3000))
def test_windows_hold_every_frame_once_and_in_order(grid, frames):
    held = [frame for window in windows(grid, frames) for frame in range(window.start, window.start + window.valid)]
    assert held == list(range(frames))


@given(grids, st.integers(1, 3000))
def test_all_but_the_last_window_are_full_and_the_last_wastes_less_than_a_quantum(grid, frames):
    *full, last = windows(grid, frames)
    assert all((window.core, window.valid) == (grid.core, grid.core) for window in full)
    assert last.core % grid.quantum == 0
    assert 0 <= last.core - last.valid < grid.quantum
    assert last.core <= grid.core


@given(grids, st.integers(0, 1000), st.integers(0, 1000))
def test_a_longer_clip_keeps_the_full_windows_of_a_shorter_one(grid, frames, more):
    short = [window for window in windows(grid, frames) if window.valid == grid.core]
    assert list(windows(grid, frames + more))[: len(short)] == short


def test_the_grid_in_use_is_ten_seconds_in_steps_of_two():
    grid = CodecConfig().grid
    assert (grid.core, grid.quantum) == (250, 50)
    assert list(windows(grid, 0)) == []
    assert list(windows(grid, 1)) == [Window(0, 50, 1)]
    assert list(windows(grid, 250)) == [Window(0, 250, 250)]
    assert list(windows(grid, 551)) == [Window(0, 250, 250), Window(250, 250, 250), Window(500, 100, 51)]


@pytest.mark.parametrize("quantum", [1, 7, 50])
def test_a_window_never_grows_beyond_the_core(quantum):
    grid = GridConfig(quantum * 3, quantum)
    assert {window.core for frames in range(1, 4 * quantum * 3) for window in windows(grid, frames)} == {quantum, 2 * quantum, 3 * quantum}


@pytest.mark.parametrize(("core", "quantum"), [(200, 60), (50, 100), (0, 0), (-50, 50)])
def test_a_grid_that_does_not_divide_is_refused(core, quantum):
    with pytest.raises(ConfigError, match=f"multiple of its quantum, both positive; got core {core} and quantum {quantum}"):
        GridConfig(core, quantum)
