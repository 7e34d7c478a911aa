"""Clips measured side by side: several processes, each with a bench of its own."""

import pickle
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import torch

from ..errors import ConfigError, UnitokenError
from .bench import Bench, Setup
from .journal import Measured
from .manifest import Clip


def threads_each(jobs: int) -> int:
    """Return the threads that torch has in each of several processes: those of this one, shared out, one at least."""
    return max(1, torch.get_num_threads() // jobs)


def measure_clips(clips: Sequence[Clip], bench: Bench, setup: Setup, jobs: int) -> Iterator[tuple[Clip, list[Measured]]]:
    """Yield each clip with what its codecs made of it, as soon as it is measured: with several jobs in any order.

    Args:
        clips: what to measure.
        bench: measures them where `jobs` is 1, or there is one clip only.
        setup: what it was built from.
        jobs: processes.

    Raises:
        ConfigError: if the setup cannot be handed to other processes.
        UnitokenError: if one of them ended before its work; and whatever measuring raises.
    """
    if jobs == 1 or len(clips) < 2:
        yield from ((clip, bench.measure(clip)) for clip in clips)
        return
    # Processes are started afresh: a copy of this one would inherit locks of threads that it does not have.
    executor = ProcessPoolExecutor(min(jobs, len(clips)), get_context("spawn"), _begin, (_packed(setup), threads_each(jobs)))
    try:
        running = {executor.submit(_measure, clip): clip for clip in clips}
        for future in as_completed(running):
            yield running[future], future.result()
    except BrokenProcessPool as error:
        raise UnitokenError(
            "a process that measured clips ended early; if it was killed for want of memory take fewer jobs, "
            "if a script asked for several put its calls under if __name__ == '__main__'"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _packed(setup: Setup) -> bytes:
    """Return the setup as bytes: tensors by value, not in shared memory, of which a container may have little."""
    try:
        return pickle.dumps(setup)
    except Exception as error:  # pickle raises whatever the objects raise
        raise ConfigError(
            f"the codecs and judges cannot be handed to other processes ({error}); give the recogniser as a folder or name, or take jobs=1"
        ) from error


_setup, _bench = b"", list[Bench]()
"""Of a process that measures: how its bench is built, and the bench, once it is."""


def _begin(setup: bytes, threads: int) -> None:
    global _setup  # the one place where a process pool lets its workers keep something
    _setup = setup
    torch.set_num_threads(threads)  # noqa: TID251  (this process is our own)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends this one


def _measure(clip: Clip) -> list[Measured]:
    if not _bench:
        setup: Setup = pickle.loads(_setup)  # noqa: S301  (the parent's own bytes)
        _bench.append(setup.build()[0])
    return _bench[0].measure(clip)
