"""A corpus that a Ray cluster makes is the one that a process makes."""

import functools
import os
import signal
import sys

import pytest

import models
from corpora import tiny
from unitoken import save_audio
from unitoken.corpus import Settings, encode_corpus, make_plan, ray_engine
from unitoken.corpus.job import Report
from unitoken.corpus.ranks import Share
from unitoken.corpus.ray_engine import encode_corpus_ray
from unitoken.errors import CorpusError, MissingDependencyError

CLIPS, ROWS, LIMIT_S = 12, 2, 400
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # Ray's own, of what later releases of it will do


@pytest.fixture(scope="module")
def cluster():
    """Ray on a cluster of two nodes with a CPU each."""
    import ray  # here: it takes seconds
    import ray.data
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUIET.items():
            patch.setenv(name, value)
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        started.add_node(num_cpus=1)
        try:
            ray.init(address=started.address, log_to_driver=False)
            yield ray
        finally:
            ray.shutdown()
            started.shutdown()


@pytest.fixture(autouse=True)
def in_time():
    """A cluster that hangs is a failure, and lets the tests go on."""

    def late(number, frame):
        raise TimeoutError(f"the cluster was not done in {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Of a tiny model."""
    return tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Of a dozen clips, one of which is no audio."""
    folder = tmp_path_factory.mktemp("audio")
    for index in range(CLIPS):
        save_audio(folder / f"{index:02}.wav", models.clip(800 * (index + 1), index), models.RATE)
    (folder / "05.wav").write_bytes(b"noise")
    return make_plan([folder], rows=ROWS)


def files(place):
    return {path.name: path.read_bytes() for path in place.iterdir()}


def encoded(place, plan, settings, **options):
    """Encode with two workers, and return the progress and the shards that were written."""
    reports = []
    progress = encode_corpus_ray(place, plan, settings, workers=2, watch=lambda _, report: reports.append(report), **options)
    return progress, sorted(report.shard for report in reports if report is not None and report.new)


def test_a_cluster_makes_the_same_bytes_and_goes_on(cluster, plan, settings, tmp_path, monkeypatch):
    local = encode_corpus(tmp_path / "local", plan, settings)
    monkeypatch.chdir(tmp_path)  # the workers' folder is another
    progress, new = encoded("ray", plan, Settings(model=os.path.relpath(settings.model)), share=Share(1, 2))
    assert (new, progress.shards, progress.rows) == ([1, 3, 5], 3, 6)
    progress, new = encoded(tmp_path / "ray", plan, settings)
    assert new == [0, 2, 4]
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    for name in ("shards", "rows", "shards_done", "rows_done", "failures", "stopped"):
        assert getattr(progress, name) == getattr(local, name)
    assert 0 < progress.seconds < local.seconds
    _, new = encoded(tmp_path / "ray", plan, settings)
    assert new == []


def test_errors_of_workers_are_those_of_the_local_engine(cluster, plan, settings, tmp_path):
    other = tmp_path / "model"
    models.tokenizer(seed=1).save_pretrained(other)
    encode_corpus(tmp_path / "tokens", plan, Settings(model=str(other)), share=Share(3, 6))
    before = files(tmp_path / "tokens")
    with pytest.raises(CorpusError, match=r"part-00003.parquet in .* is there, but of .*--renew"):
        encoded(tmp_path / "tokens", plan, settings)
    assert before.items() <= files(tmp_path / "tokens").items()


def test_a_shard_whose_worker_was_killed_is_tried_again(cluster, tmp_path):
    def killed_once(folder, number, tell):
        if number == 1 and not (folder / "killed").exists():
            (folder / "killed").touch()
            os._exit(1)
        return Report(number, 1, 0, 1.0, True)

    made = ray_engine._on_cluster(cluster, range(4), functools.partial(killed_once, tmp_path), 2, gpus=0)
    assert sorted(one["shard"] for one in made) == [0, 1, 2, 3]
    assert (tmp_path / "killed").exists()


def test_a_shard_that_kills_every_worker_ends_the_job(cluster, monkeypatch):
    def killed(number, tell):
        os._exit(1)

    monkeypatch.setattr(ray_engine, "TRIES", 1)
    with pytest.raises(CorpusError, match="workers on Ray were killed"):
        list(ray_engine._on_cluster(cluster, [0], killed, 1, gpus=0))


def test_without_ray_the_extra_is_named(plan, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"--engine ray needs .*\[ray\]"):
        encode_corpus_ray(tmp_path, plan)
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    ("place", "options", "text"),
    [
        ("memory://tokens", {}, "memory of one process"),
        ("tokens", {"devices": ["cuda:1"]}, "got cuda:1"),
        ("tokens", {"devices": ["cpu", "cuda"]}, "got cpu, cuda"),
        ("tokens", {"workers": 0}, "workers must be 1 or more, got 0"),
    ],
)
def test_what_ray_cannot_do_is_refused(place, options, text, plan, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError, match=text):
        encode_corpus_ray(place, plan, **options)
