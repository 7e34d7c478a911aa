"""Many shards at once on a Ray cluster (extra `[ray]`): actors of Ray Data make them, each holds the tokenizer."""

import functools
import inspect
import os
import pickle
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib import import_module
from typing import Any

from ..errors import CorpusError, UnitokenError, missing_extra
from .encode import Settings
from .job import Report, finish, make_shard
from .plan import Plan
from .ranks import Share
from .run import Progress, Tracker, Watch, begin_tracked, ending_early, keep_few_kernels
from .store import is_url

TRIES = 3
"""How often a shard is tried again whose worker was killed: one that kills every worker must not be tried for ever."""


def encode_corpus_ray(
    place: str | os.PathLike[str],
    plan: Plan,
    settings: Settings | None = None,
    *,
    share: Share | None = None,
    workers: int | None = None,
    devices: Sequence[str] = (),
    max_errors: int | None = None,
    retry: bool = True,
    renew: bool = False,
    watch: Watch = lambda progress, report: None,
) -> Progress:
    """Encode a corpus on a Ray cluster, or go on with one: the shards are those that `encode_corpus` makes.

    Uses the cluster that this process is connected to, or the one at `RAY_ADDRESS`, or starts one on this machine for as long as it takes. Every
    node must see the audio, the model and the place under the same names. Where a worker is killed, its shard is made by another. Ctrl-C ends the
    job when the next shard is there, a second one at once; shards that were being made are made by the next run.

    Args:
        place: folder that all nodes share, or fsspec URL.
        plan: of the input.
        settings: how; None for the packaged model on the CPU.
        share: which shards are this job's; None for all.
        workers: actors, one CPU each; None for as many as the cluster has CPUs or, on `cuda`, GPUs. Fewer work while the cluster has no room.
        devices: `cpu` or `cuda`, with a GPU for each actor, which Ray chooses; none for that of the settings.
        max_errors: stop when more rows than this have failed; None never stops.
        retry: try rows again that failed in an earlier run.
        renew: make shards again that another tokenizer made, or other numerics.
        watch: hears of each shard that is there.

    Returns:
        how far it came.

    Raises:
        CorpusError: if the place holds another plan's or tokenizer's corpus, too many rows fail, workers die, or a device is not Ray's to choose.
        MissingDependencyError: if Ray is not installed.
        OSError: if a shard cannot be written.
    """
    settings, place = settings or Settings(), _absolute(os.fspath(place))
    device = _device(devices or (settings.device,))
    if workers is not None and workers < 1:
        raise CorpusError(f"workers must be 1 or more, got {workers}")
    if place.startswith("memory:"):
        raise CorpusError(
            f"{place} is the memory of one process, which Ray's workers do not share; give a folder of all nodes or a URL such as s3://"
        )
    ray = _imported()
    numbers, job = begin_tracked(place, plan, share, max_errors, watch)
    everywhere = replace(settings, device=device, model=_found(settings.model), reuse=_found(settings.reuse))
    make = functools.partial(make_shard, place, settings=everywhere, retry=retry, renew=renew)
    if numbers:
        with _connected(ray), ending_early(job.progress):
            for made in _on_cluster(ray, numbers, make, workers, gpus=int(device == "cuda")):
                _note(job, made)
                if job.progress.stopped:
                    break
    finish(place)
    return job.progress


class _Encoder:
    """An actor: makes shards, and holds the tokenizer that `make_shard` loads for the first of them.

    Args:
        make: makes a shard of its number.
    """

    def __init__(self, make: Callable[..., Report]) -> None:
        keep_few_kernels()
        self.make = make

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Make the shard of a batch of one number; errors are values, as Ray would wrap what is raised."""
        told = [0.0, 0, 0]

        def tell(*counts: float) -> None:
            told[:] = [sum(pair) for pair in zip(told, counts, strict=True)]

        number = int(batch["item"][0])
        report, error = Report(number, 0, 0, 0.0, False), b""
        try:
            report = self.make(number=number, tell=tell)
        except (UnitokenError, OSError) as raised:
            error = pickle.dumps(raised)
        heard = dict(zip(("told_seconds", "told_rows", "told_failures"), told, strict=True))
        return {name: [value] for name, value in {**asdict(report), **heard, "error": error.hex()}.items()}


def _on_cluster(ray: Any, numbers: Sequence[int], make: Callable[..., Report], workers: int | None, gpus: int) -> Iterator[dict[str, Any]]:
    """Yield what `_Encoder` says of each shard, in the order in which they are there."""
    workers = workers or max(1, int(ray.cluster_resources().get("GPU" if gpus else "CPU", 1)))
    try:
        with _configured(ray):
            data = ray.data.from_items(list(numbers), override_num_blocks=len(numbers)).map_batches(
                _Encoder,
                fn_constructor_args=(make,),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=min(workers, len(numbers))),
                num_cpus=1,
                num_gpus=gpus,
                **_retries(ray),
            )
            for batch in data.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
                columns = {name: values.tolist() for name, values in batch.items()}
                yield from (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    except ray.exceptions.RayTaskError:  # a fault of ours: with its traceback
        raise
    except ray.exceptions.RayError as error:
        raise CorpusError(
            f"workers on Ray were killed, perhaps for want of memory; shards that are done stay: run again, with fewer workers on a node ({error})"
        ) from error


def _retries(ray: Any) -> dict[str, int]:
    """Return what lets Ray try a shard `TRIES` times more; nothing for releases from 2.64 on, which take no such options and try for ever."""
    open_ = any(one.kind is one.VAR_KEYWORD for one in inspect.signature(ray.data.Dataset.map_batches).parameters.values())
    return {"max_restarts": -1, "max_task_retries": TRIES} if open_ else {}


def _note(job: Tracker, made: dict[str, Any]) -> None:
    """Hear of a shard that is there, or raise what came in its way."""
    if made["error"]:
        raise pickle.loads(bytes.fromhex(made["error"]))  # noqa: S301, our own worker wrote it
    job.tell(made["shard"], made["told_seconds"], made["told_rows"], made["told_failures"])
    job.note(Report(**{name: made[name] for name in Report.__dataclass_fields__}))


@contextmanager
def _connected(ray: Any) -> Generator[None]:
    """Use the cluster that this process is connected to, or connect to one for the time being."""
    if ray.is_initialized():
        yield
        return
    ray.init()
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _configured(ray: Any) -> Generator[None]:
    """Keep Ray Data from drawing bars over those of the caller, and from taking a shard that lasts longer than half an hour for one that hangs."""
    context = ray.data.DataContext.get_current()
    wanted = {"enable_progress_bars": False, "execution_no_progress_timeout_s": -1}
    before = {name: getattr(context, name) for name in wanted if hasattr(context, name)}  # not every release has both
    try:
        for name in before:
            setattr(context, name, wanted[name])
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


def _imported() -> Any:
    try:
        ray = import_module("ray")
        import_module("ray.data")
    except ImportError as error:
        raise missing_extra("--engine ray", "ray") from error
    return ray


def _device(devices: Sequence[str]) -> str:
    if set(devices) in ({"cpu"}, {"cuda"}):
        return devices[0]
    raise CorpusError(f"Ray's workers compute on cpu or on cuda, all on the same, and Ray chooses each one's GPU; got {', '.join(devices)}")


def _absolute(place: str) -> str:
    """Return a place as workers find it, whose current folder is another."""
    return place if is_url(place) else os.path.abspath(place)


def _found(name: str | None) -> str | None:
    """Return a folder's absolute path; what is no folder is a name or a URL."""
    return os.path.abspath(name) if name is not None and os.path.isdir(name) else name
