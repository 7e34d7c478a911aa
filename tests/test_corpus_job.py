"""A corpus is the same whatever works on it, however often it is stopped."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
import soundfile
import torch

import models
from corpora import tiny
from unitoken import save_audio
from unitoken.corpus import Corpus, Settings, encode_corpus, finish, job, make_plan, media
from unitoken.corpus import encode as encoding
from unitoken.corpus import run as running
from unitoken.corpus import shard as shards
from unitoken.corpus.plan import Plan
from unitoken.corpus.ranks import Share, read_share
from unitoken.corpus.store import Folder
from unitoken.errors import CorpusError

CLIPS, ROWS = 14, 4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a tiny model."""
    return tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """A folder of clips of many lengths, one of them empty."""
    folder = tmp_path_factory.mktemp("audio")
    for index in range(CLIPS):
        save_audio(folder / f"clip {index:02}.wav", models.clip(37 * index**2 * 5, index), models.RATE)
    return folder


@pytest.fixture(scope="module")
def undisturbed(model, audio, tmp_path_factory):
    """The files of a corpus that one process made."""
    place = tmp_path_factory.mktemp("undisturbed")
    encode_corpus(place, plan_of(audio), model)
    return files(place)


def plan_of(audio):
    return make_plan([audio], rows=ROWS)


def files(place):
    return {path.name: path.read_bytes() for path in place.iterdir()}


def parts(place):
    return sorted(path.name for path in place.glob("part-*"))


def encoded(place, plan, settings, **options):
    """Encode, and return the progress and the shards that were written."""
    reports = []
    progress = encode_corpus(place, plan, settings, watch=lambda _, report: reports.append(report), **options)
    return progress, [report.shard for report in reports if report is not None and report.new]


def test_shards_hold_what_encode_gives_and_say_how_they_were_made(model, audio, undisturbed, tmp_path):
    encode_corpus(tmp_path, plan_of(audio), model)
    assert set(undisturbed) == {"_SUCCESS", "errors.jsonl", "manifest.json", "plan.parquet", *(f"part-{n:05}.parquet" for n in range(4))}
    assert files(tmp_path) == undisturbed
    tok, tokens = model.load(), Corpus(tmp_path)
    assert tokens.ids == [f"clip {index:02}.wav" for index in range(CLIPS)]
    for utterance in tokens:
        assert utterance.bundle == tok.encode(audio / utterance.id)
        assert utterance["seconds"] == utterance.bundle.seconds
        assert utterance["source_hash"] == media.fetch(job.rows_of(plan_of(audio).table)[tokens.ids.index(utterance.id)]).source_hash
    manifest = json.loads(undisturbed["manifest.json"])
    assert (manifest["rows"], manifest["failures"], manifest["tokenizer"]["fingerprint"]) == (CLIPS, 0, tok.fingerprint)
    assert manifest["samples"] == sum(utterance.bundle.num_samples for utterance in tokens)
    info = shards.read_info(Folder(tmp_path), "part-00001.parquet")
    assert (info.tokenizer, info.numerics, info.rows) == (tok.info, "cpu/float32/torch", ROWS)
    assert info.content == shards.content_of(shards.read_table(Folder(tmp_path), "part-00001.parquet"))


@pytest.mark.parametrize("settings", [{"readers": 1, "batch_seconds": 1.0}, {"readers": 5, "batch_seconds": 1000.0}])
def test_bytes_depend_on_no_thread_and_no_batch(settings, model, audio, undisturbed, tmp_path):
    encode_corpus(tmp_path, plan_of(audio), Settings(model=model.model, **settings))
    assert files(tmp_path) == undisturbed


def test_long_utterances_are_encoded_as_they_are_read(model, audio, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(media, "WHOLE_S", 0.5)
    encode_corpus(tmp_path, plan_of(audio), model)
    assert files(tmp_path) == undisturbed


def test_processes_make_the_same_bytes(model, audio, undisturbed, tmp_path):
    progress, new = encoded(tmp_path, plan_of(audio), model, workers=2)
    assert files(tmp_path) == undisturbed
    assert sorted(new) == [0, 1, 2, 3]
    assert (progress.rows_done, progress.failures, progress.shards_done) == (CLIPS, 0, 4)
    assert progress.seconds == pytest.approx(Corpus(tmp_path).seconds)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_ranks_in_any_order_make_the_same_bytes(count, model, audio, undisturbed, tmp_path):
    for index in reversed(range(count)):
        assert ("_SUCCESS" in files(tmp_path)) is False
        encode_corpus(tmp_path, plan_of(audio), model, share=Share(index, count))
    assert files(tmp_path) == undisturbed


def test_what_is_there_stays(model, audio, undisturbed, tmp_path):
    encode_corpus(tmp_path, plan_of(audio), model, share=Share(1, 2))
    assert parts(tmp_path) == ["part-00001.parquet", "part-00003.parquet"]
    before = (tmp_path / "part-00001.parquet").stat().st_mtime_ns
    progress, new = encoded(tmp_path, plan_of(audio), model)
    assert new == [0, 2]
    assert (progress.rows_done, progress.shards_done) == (CLIPS, 4)
    assert (tmp_path / "part-00001.parquet").stat().st_mtime_ns == before
    assert files(tmp_path) == undisturbed
    assert encoded(tmp_path, plan_of(audio), model)[1] == []


def test_margins_are_the_least_of_each_stream(model, audio, tmp_path):
    encode_corpus(tmp_path, plan_of(audio), Settings(model=model.model, margins=True))
    tok = model.load()
    for utterance in Corpus(tmp_path)[8:10]:
        margins = tok.encode(audio / utterance.id, margins=True).margins
        assert [utterance[f"margin_{name}"] for name in "gsp"] == pytest.approx([float(margins[name].min()) for name in "gsp"])
    assert Corpus(tmp_path)[0]["margin_s"] is None  # an empty clip has no frame


def test_kills_at_random_moments_leave_the_same_bytes(model, audio, undisturbed, tmp_path):
    code = (
        "import sys; from unitoken.corpus import Settings, encode_corpus, make_plan\n"
        f"encode_corpus(sys.argv[1], make_plan([sys.argv[2]], rows={ROWS}), Settings(model=sys.argv[3]))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "corpus"), str(audio), model.model]
    began = time.monotonic()
    subprocess.run(command, check=True)
    whole, rng, killed = time.monotonic() - began, random.Random(7), 0
    for name in list(files(tmp_path / "corpus")):
        (tmp_path / "corpus" / name).unlink()
    for _ in range(5):
        process = subprocess.Popen(command)
        time.sleep(whole * rng.uniform(0.5, 1))
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        assert all(undisturbed[name] == data for name, data in files(tmp_path / "corpus").items() if not name.startswith("."))
    assert killed >= 2
    subprocess.run(command, check=True)
    assert {name: data for name, data in files(tmp_path / "corpus").items() if not name.startswith(".")} == undisturbed


def test_a_worker_that_is_killed_is_an_error_and_loses_nothing(model, audio, undisturbed, tmp_path):
    def watch(progress, report):
        if progress.shards_done == 1:
            for process in running.multiprocessing.active_children():
                os.kill(process.pid, signal.SIGKILL)

    with pytest.raises(CorpusError, match="a worker was killed"):
        encode_corpus(tmp_path, plan_of(audio), model, workers=2, watch=watch)
    assert parts(tmp_path)
    encode_corpus(tmp_path, plan_of(audio), model)
    assert files(tmp_path) == undisturbed


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_after_the_shards_being_made(workers, model, audio, undisturbed, tmp_path):
    def watch(progress, report):
        if report is not None and not progress.stopped:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    progress = encode_corpus(tmp_path, plan_of(audio), model, workers=workers, watch=watch)
    assert progress.stopped
    assert 1 <= len(parts(tmp_path)) <= workers + 1
    assert signal.getsignal(signal.SIGINT) == before
    encode_corpus(tmp_path, plan_of(audio), model)
    assert files(tmp_path) == undisturbed


def test_a_second_ctrl_c_ends_at_once(model, audio, tmp_path):
    def watch(progress, report):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        encode_corpus(tmp_path, plan_of(audio), model, watch=watch)
    assert parts(tmp_path) == ["part-00000.parquet"] or not parts(tmp_path)
    assert not list(tmp_path.glob(".*"))


@pytest.fixture
def broken(audio, tmp_path):
    """The clips with bad ones among them, and the names of these."""
    folder = tmp_path / "audio"
    folder.mkdir()
    for path in audio.iterdir():
        (folder / path.name).symlink_to(path)
    whole = (audio / "clip 09.wav").read_bytes()
    bad = {
        "clip 01 empty.wav": b"",
        "clip 03 text.wav": b"no audio at all" * 50,
        "clip 03 torn.wav": whole[: len(whole) // 2],
        "clip 08 header.flac": b"fLaC" + bytes(60),
        "clip 10 zeros.mp3": bytes(500),
    }
    for name, data in bad.items():
        (folder / name).write_bytes(data)
    (folder / "clip 04 nowhere.wav").symlink_to("nothing")
    (folder / "clip 05 folder.wav").mkdir()
    nan = torch.zeros(800)
    nan[5] = torch.nan
    soundfile.write(folder / "clip 06 nan.wav", nan.numpy(), models.RATE, subtype="FLOAT")
    return folder, sorted([*bad, "clip 04 nowhere.wav", "clip 06 nan.wav"])


def test_what_cannot_be_encoded_is_listed_and_loses_nothing_else(model, broken, undisturbed, tmp_path):
    folder, bad = broken
    progress, _ = encoded(tmp_path / "corpus", make_plan([folder], rows=ROWS), model)
    assert (progress.rows_done, progress.failures) == (CLIPS, len(bad))
    listed = [json.loads(line) for line in (tmp_path / "corpus" / "errors.jsonl").read_text().splitlines()]
    assert [error["id"] for error in listed] == bad
    reasons = {error["id"]: error["reason"] for error in listed}
    assert "is cut short" in reasons["clip 03 torn.wav"]
    assert "no such file" in reasons["clip 04 nowhere.wav"]
    assert "NaN" in reasons["clip 06 nan.wav"]
    assert all(str(folder) in error["path"] for error in listed)
    assert [utterance.id for utterance in Corpus(tmp_path / "corpus")] == [f"clip {index:02}.wav" for index in range(CLIPS)]
    assert (tmp_path / "corpus" / "_SUCCESS").exists()


def test_what_failed_is_tried_again_and_then_all_is_as_if_it_never_had(model, audio, undisturbed, tmp_path, monkeypatch):
    lost, hear = {"clip 02.wav", "clip 06.wav", "clip 07.wav"}, encoding.fetch

    def unmounted(row):
        if row.id in lost:
            raise OSError(5, "Input/output error")
        return hear(row)

    monkeypatch.setattr(encoding, "fetch", unmounted)
    progress, _ = encoded(tmp_path, plan_of(audio), model)
    assert progress.failures == 3
    before = files(tmp_path)
    assert encoded(tmp_path, plan_of(audio), model)[1] == []  # they fail as they did
    assert encoded(tmp_path, plan_of(audio), model, retry=False)[0].failures == 3
    assert files(tmp_path) == before
    lost.remove("clip 06.wav")
    assert encoded(tmp_path, plan_of(audio), model)[1] == [1]
    lost.clear()
    assert encoded(tmp_path, plan_of(audio), model)[1] == [0, 1]
    assert files(tmp_path) == undisturbed


def test_too_many_errors_end_the_job(model, broken, tmp_path):
    folder, bad = broken
    with pytest.raises(CorpusError, match=r"3 rows failed, more than max_errors=2"):
        encode_corpus(tmp_path / "corpus", make_plan([folder], rows=ROWS), model, max_errors=2)
    assert not (tmp_path / "corpus" / "_SUCCESS").exists()
    encode_corpus(tmp_path / "corpus", make_plan([folder], rows=ROWS), model, max_errors=len(bad))


def test_a_full_disk_ends_the_job_and_the_next_run_goes_on(model, audio, undisturbed, tmp_path, monkeypatch):
    put = Folder.put

    def full(self, name, data):
        if name == "part-00002.parquet":
            raise OSError(28, "No space left on device")
        put(self, name, data)

    monkeypatch.setattr(Folder, "put", full)
    with pytest.raises(OSError, match="No space left"):
        encode_corpus(tmp_path, plan_of(audio), model)
    assert parts(tmp_path) == ["part-00000.parquet", "part-00001.parquet"]
    monkeypatch.setattr(Folder, "put", put)
    encode_corpus(tmp_path, plan_of(audio), model)
    assert files(tmp_path) == undisturbed


def test_a_batch_that_fails_as_a_whole_is_tried_row_by_row(model, audio, undisturbed, tmp_path, monkeypatch):
    tok = model.load()
    encode = type(tok).encode

    def little_memory(self, clips, **options):
        if len(clips) > 1 or max(len(clip) for clip in clips) > 100000:
            raise RuntimeError("out of memory")
        return encode(self, clips, **options)

    monkeypatch.setattr(type(tok), "encode", little_memory)
    progress, _ = encoded(tmp_path, plan_of(audio), model)
    assert (progress.rows_done, progress.failures) == (CLIPS, 0)
    assert files(tmp_path) == undisturbed


def test_a_corpus_of_another_model_is_refused_or_renewed(model, audio, undisturbed, tmp_path):
    folder = tmp_path / "other"
    models.tokenizer(seed=1).save_pretrained(folder)
    encode_corpus(tmp_path / "corpus", plan_of(audio), Settings(model=str(folder)))
    before = files(tmp_path / "corpus")
    with pytest.raises(CorpusError, match=r"part-00000\.parquet in .* is there, but of tiny \(.*not of tiny \(.*--renew"):
        encode_corpus(tmp_path / "corpus", plan_of(audio), model)
    with pytest.raises(CorpusError, match="with margins"):
        encode_corpus(tmp_path / "corpus", plan_of(audio), Settings(model=str(folder), margins=True))
    assert files(tmp_path / "corpus") == before
    assert encoded(tmp_path / "corpus", plan_of(audio), model, renew=True)[1] == [0, 1, 2, 3]
    assert files(tmp_path / "corpus") == undisturbed


def test_a_corpus_of_other_rows_is_refused_and_reused(model, audio, undisturbed, tmp_path, monkeypatch):
    fewer = Plan(plan_of(audio).table.filter(pa.array([index != 3 for index in range(CLIPS)])), ROWS)
    encode_corpus(tmp_path / "old", fewer, model)
    for plan in (plan_of(audio), make_plan([audio], rows=5)):
        with pytest.raises(CorpusError, match="begun with other rows"):
            encode_corpus(tmp_path / "old", plan, model)
    encodes = []
    tokens = encoding._tokens
    monkeypatch.setattr(encoding, "_tokens", lambda tok, batch, *rest: (encodes.extend(number for number, _ in batch), tokens(tok, batch, *rest))[1])
    encode_corpus(tmp_path / "new", plan_of(audio), Settings(model=model.model, reuse=str(tmp_path / "old")))
    assert encodes == [3]
    assert files(tmp_path / "new") == undisturbed
    folder = tmp_path / "other"
    models.tokenizer(seed=1).save_pretrained(folder)
    with pytest.raises(CorpusError, match="cannot be reused"):
        encode_corpus(tmp_path / "newer", plan_of(audio), Settings(model=str(folder), reuse=str(tmp_path / "old")))


def test_audio_that_changed_is_not_reused(model, audio, tmp_path):
    folder = tmp_path / "audio"
    folder.mkdir()
    for path in audio.glob("clip 0*.wav"):
        (folder / path.name).write_bytes(path.read_bytes())
    encode_corpus(tmp_path / "old", plan_of(folder), model)
    save_audio(folder / "clip 05.wav", models.clip(4000, 77), models.RATE)
    encode_corpus(tmp_path / "new", plan_of(folder), Settings(model=model.model, reuse=str(tmp_path / "old")))
    tok, new = model.load(), Corpus(tmp_path / "new")
    assert new["clip 05.wav"].bundle == tok.encode(folder / "clip 05.wav") != Corpus(tmp_path / "old")["clip 05.wav"].bundle


def test_a_foreign_folder_is_refused(model, audio, tmp_path):
    (tmp_path / "part-00000.parquet").write_bytes(b"something else")
    with pytest.raises(CorpusError, match=r"has part-00000\.parquet but no plan\.parquet"):
        encode_corpus(tmp_path, plan_of(audio), model)
    assert list(files(tmp_path)) == ["part-00000.parquet"]


@pytest.mark.parametrize("name", ["part-00001.parquet", "plan.parquet"])
def test_damage_is_named(name, model, audio, tmp_path):
    encode_corpus(tmp_path, plan_of(audio), model)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(CorpusError, match=f"{name}.*damaged"):
        encode_corpus(tmp_path, plan_of(audio), model)


def test_shards_of_two_models_are_no_corpus(model, audio, tmp_path):
    folder = tmp_path / "other"
    models.tokenizer(seed=1).save_pretrained(folder)
    encode_corpus(tmp_path / "corpus", plan_of(audio), model, share=Share(0, 2))
    with pytest.raises(CorpusError, match=r"part-00001\.parquet is of tiny"):
        encode_corpus(tmp_path / "corpus", plan_of(audio), Settings(model=str(folder)), share=Share(1, 2))
    with pytest.raises(CorpusError, match="several tokenizers"):
        Corpus(tmp_path / "corpus")
    with pytest.raises(CorpusError, match="run again with --renew"):
        finish(str(tmp_path / "corpus"))


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        (None, {}, Share(0, 1)),
        ("3/8", {"RANK": "1", "WORLD_SIZE": "2"}, Share(3, 8)),
        (None, {"RANK": "1", "WORLD_SIZE": "2"}, Share(1, 2)),
        (None, {"RANK": "0", "WORLD_SIZE": "1", "SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, Share(2, 4)),
        (
            None,
            {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"},
            Share(2, 4),
        ),
        (None, {"SLURM_ARRAY_TASK_ID": "x", "SLURM_ARRAY_TASK_COUNT": "4"}, Share(0, 1)),
    ],
)
def test_shares_of_options_and_environments(text, environment, expected):
    assert read_share(text, environment) == expected


@pytest.mark.parametrize("text", ["8/8", "1", "-1/3", "a/b", "1/0"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(CorpusError, match="share"):
        read_share(text, {})


def test_bad_numbers_are_refused(model, audio, tmp_path):
    for options in ({"readers": 0}, {"batch_seconds": 0.0}):
        with pytest.raises(CorpusError, match="readers must be 1 or more"):
            Settings(**options)
    with pytest.raises(CorpusError, match="workers must be 1 or more"):
        encode_corpus(tmp_path, plan_of(audio), model, workers=0)
    with pytest.raises(CorpusError, match="is the memory of this process"):
        encode_corpus("memory://here", plan_of(audio), model, workers=2)


GROWTH = """
import sys

import torch

from machine import peak_mib
from unitoken.corpus.run import keep_few_kernels
from unitoken.nn.linear import linear

torch.set_num_threads(1)
if sys.argv[1] == "few":
    keep_few_kernels()
weight = torch.randn(64, 64)

def multiply(shapes):
    with torch.inference_mode():
        for rows in shapes:
            linear(torch.ones(rows, 64), weight)
    return peak_mib()

print(-multiply(range(100, 500)) + multiply(range(500, 900)))
"""


def test_products_of_many_shapes_do_not_fill_the_memory():
    environment = {name: value for name, value in os.environ.items() if name not in running._KERNELS}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1] / "benchmarks"), environment.get("PYTHONPATH", "")])
    few, all_of_them = (
        float(subprocess.run([sys.executable, "-c", GROWTH, how], env=environment, capture_output=True, text=True, check=True).stdout)
        for how in ("few", "all")
    )
    assert few < 60
    assert few < all_of_them / 2 or all_of_them < 60  # MiB; a CPU without kernels of its own keeps none


def test_workers_keep_few_kernels_unless_told_otherwise(monkeypatch):
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    running.keep_few_kernels()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    assert os.environ.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY") == "16"
