"""Many shards at once on one machine: in this process, or in several, one for each core or GPU."""

import functools
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..errors import CorpusError
from .encode import Settings
from .job import ERRORS, Report, begin, finish, make_shard
from .plan import Plan
from .ranks import Share

_EVERY_S = 0.2
_KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16", "LRU_CACHE_CAPACITY": "16"}
"""How many kernels for shapes of products oneDNN and torch keep, almost half a MB each; by themselves 1,024, which takes hours of speech to fill."""


@dataclass
class Progress:
    """How far a job is.

    Attributes:
        shards: how many are this job's.
        rows: of these shards, of the plan.
        shards_done: shards that are there.
        rows_done: utterances in these, and those that will be in the shards being made.
        failures: rows that have no tokens.
        seconds: of audio encoded by this job.
        started: `time.monotonic()` of the beginning.
        stopped: whether the job was asked to end early.
    """

    shards: int
    rows: int
    shards_done: int = 0
    rows_done: int = 0
    failures: int = 0
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)
    stopped: bool = False

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.started


Watch = Callable[[Progress, Report | None], None]
"""Hears of progress now and then, and of each shard that is there."""


def encode_corpus(
    place: str | os.PathLike[str],
    plan: Plan,
    settings: Settings | None = None,
    *,
    share: Share | None = None,
    workers: int = 1,
    devices: Sequence[str] = (),
    max_errors: int | None = None,
    retry: bool = True,
    renew: bool = False,
    watch: Watch = lambda progress, report: None,
) -> Progress:
    """Encode a corpus, or go on with one.

    What is written depends on the plan and the model, on a CPU on nothing else: not on how many processes or machines work on it, in which order,
    or how often they are stopped. Ctrl-C ends the job after the shards that are being made, a second one at once; nothing that is done is lost.

    Args:
        place: folder or fsspec URL.
        plan: of the input.
        settings: how; None for the packaged model on the CPU.
        share: which shards are this job's; None for all.
        workers: processes; 1 works in this one.
        devices: one for each process, in turn; none for that of the settings.
        max_errors: stop when more rows than this have failed; None never stops.
        retry: try rows again that failed in an earlier run.
        renew: make shards again that another tokenizer made, or other numerics.
        watch: hears how far it is.

    Returns:
        how far it came.

    Raises:
        CorpusError: if the place holds another plan's or tokenizer's corpus, too many rows fail, or a worker dies.
        OSError: if a shard cannot be written.
    """
    settings, place = settings or Settings(), os.fspath(place)
    if workers < 1:
        raise CorpusError(f"workers must be 1 or more, got {workers}")
    if workers > 1 and place.startswith("memory:"):
        raise CorpusError(f"{place} is the memory of this process, which workers do not share; give a folder or another URL, or workers=1")
    numbers, job = begin_tracked(place, plan, share, max_errors, watch)
    make = functools.partial(make_shard, retry=retry, renew=renew)
    with ending_early(job.progress):
        if workers == 1 and len(devices) <= 1:
            one = replace(settings, device=devices[0]) if devices else settings
            for number in numbers:
                if job.progress.stopped:
                    break
                job.note(make(place, number, one, functools.partial(job.tell, number)))
        elif numbers:
            _in_processes(job, numbers, functools.partial(_work, make, place, settings), workers, list(devices) or [settings.device])
    finish(place)
    return job.progress


@dataclass
class Tracker:
    """What is known of a job while it runs.

    Attributes:
        progress: of it.
        max_errors: rows that may fail.
        watch: hears of progress.
        told: when it last did.
        live: of shards being made, rows done and failed.
    """

    progress: Progress
    max_errors: int | None
    watch: Watch
    told: float = 0.0
    live: dict[int, list[int]] = field(default_factory=dict[int, list[int]])

    def tell(self, shard: int, seconds: float, rows: int, failures: int) -> None:
        """Hear of rows of a shard that is being made."""
        live = self.live.setdefault(shard, [0, 0])
        live[0], live[1] = live[0] + rows, live[1] + failures
        self.progress.seconds += seconds
        self._count(rows, failures)
        if time.monotonic() - self.told >= _EVERY_S:
            self.told = time.monotonic()
            self.watch(self.progress, None)

    def note(self, report: Report) -> None:
        """Hear of a shard that is there."""
        rows, failures = self.live.pop(report.shard, (0, 0))
        self.progress.shards_done += 1
        self._count(report.rows - rows, report.failures - failures)
        self.watch(self.progress, report)

    def _count(self, rows: int, failures: int) -> None:
        self.progress.rows_done += rows
        self.progress.failures += failures
        if self.max_errors is not None and self.progress.failures > self.max_errors:
            raise CorpusError(
                f"{self.progress.failures} rows failed, more than max_errors={self.max_errors} allows; shards that are done stay, {ERRORS} says why "
                "of their rows"
            )


def begin_tracked(place: str, plan: Plan, share: Share | None, max_errors: int | None, watch: Watch) -> tuple[list[int], Tracker]:
    """Begin a corpus, or find it; return the numbers of the shards that are this job's, and what follows them. For the arguments see `encode_corpus`.

    Raises:
        CorpusError: if another plan's corpus is there.
    """
    stored = begin(place, plan)
    numbers = (share or Share()).of(stored.shards)
    rows = sum(min(plan.rows, len(stored) - number * plan.rows) for number in numbers)
    return numbers, Tracker(Progress(len(numbers), rows), max_errors, watch)


def _in_processes(job: Tracker, numbers: Sequence[int], work: Callable[[int], Report], workers: int, devices: Sequence[str]) -> None:
    """Make shards in processes of their own, each with one of the devices."""
    context = multiprocessing.get_context("spawn")
    told, places = context.Queue(), context.Queue()
    for index in range(workers):
        places.put(devices[index % len(devices)])
    threads = max(1, cores() // workers)
    pool = ProcessPoolExecutor(min(workers, len(numbers)), context, _begin_worker, (told, places, threads))
    left, running = iter(numbers), set[Future[Report]]()
    try:
        while True:
            while len(running) < workers and not job.progress.stopped and (number := next(left, None)) is not None:
                running.add(pool.submit(work, number))
            if not running:
                return
            done, running = wait(running, _EVERY_S, FIRST_COMPLETED)
            while (counts := _next(told)) is not None:
                job.tell(*counts)
            for future in done:
                job.note(future.result())
    except BrokenProcessPool:
        raise CorpusError("a worker was killed, perhaps for want of memory; shards that are done stay: run again, with fewer --workers") from None
    except KeyboardInterrupt:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _next(told: Any) -> tuple[int, float, int, int] | None:
    """Return what a worker told, shard, seconds, rows and failures; None if none did."""
    try:
        return told.get_nowait()
    except queue.Empty:
        return None


@dataclass
class _Worker:
    """What a process is when it is a worker."""

    told: Any = None
    device: str = "cpu"


_worker = _Worker()


def keep_few_kernels() -> None:
    """Bound what this process keeps of products, so that its memory stops growing early: for programs that only encode, before they begin."""
    for name, most in _KERNELS.items():
        os.environ.setdefault(name, most)


def _begin_worker(told: Any, places: Any, threads: int) -> None:
    """Make a process a worker: it leaves Ctrl-C to its parent, and ends when that is no more."""
    _worker.told, _worker.device = told, places.get()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)  # noqa: TID251, the process is ours
    keep_few_kernels()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _work(make: Callable[..., Report], place: str, settings: Settings, number: int) -> Report:
    """Make one shard in a worker."""

    def tell(seconds: float, rows: int, failures: int) -> None:
        _worker.told.put((number, seconds, rows, failures))

    return make(place, number, replace(settings, device=_worker.device), tell)


@contextmanager
def ending_early(progress: Progress) -> Generator[None]:
    """Let Ctrl-C end the job after the shards that are being made, and a second one at once."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return

    def stop(number: int, frame: Any) -> None:
        if progress.stopped:
            signal.default_int_handler(number, frame)
        progress.stopped = True

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
