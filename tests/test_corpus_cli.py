"""`unitoken corpus`: what its commands print, write and return."""

import json
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from corpora import manifest, tiny
from unitoken import corpus, lm
from unitoken.cli import app
from unitoken.cli import corpus as commands
from unitoken.corpus.plan import ROWS


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("model")).model


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    return manifest(tmp_path_factory.mktemp("audio") / "clips")


@pytest.fixture(scope="module")
def place(model, listed, tmp_path_factory):
    place = tmp_path_factory.mktemp("corpus") / "tokens"
    assert run("encode", listed, "-o", place, "-m", model, "--rows", 4, "-w", 1).exit_code == 0
    return place


def run(*arguments, env=None):
    return CliRunner().invoke(app, ["corpus", *map(str, arguments)], env=env)


def test_encode_says_what_it_did_and_goes_on(model, listed, tmp_path):
    place = tmp_path / "tokens"
    found = run("encode", listed, "-o", place, "-m", model, "--rows", 4, "-w", 1, "--shard", "0/2")
    assert found.exit_code == 0
    assert f"{place}: 7 utterances in 2 of 2 shards" in found.stderr
    found = run("encode", listed, "-o", place, "-m", model, "--rows", 4, "-w", 1)
    assert "11 utterances in 3 of 3 shards; now 0.00 h" in found.stderr
    assert corpus.open(place).ids == [f"u{index}" for index in range(11)]


def test_encode_in_events_of_json(model, listed, tmp_path):
    found = run("encode", listed, "-o", tmp_path / "tokens", "-m", model, "--rows", 4, "-w", 1, "--json")
    events = [json.loads(line) for line in found.stdout.splitlines()]
    assert [event["report"]["shard"] for event in events if event["event"] == "shard"] == [0, 1, 2]
    assert events[-1]["event"] == "done"
    assert (events[-1]["rows_done"], events[-1]["failures"], events[-1]["shards_done"]) == (11, 0, 3)
    assert found.stderr == ""


def test_a_rank_of_slurm_makes_its_share(model, listed, tmp_path):
    env = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "0"}
    run("encode", listed, "-o", tmp_path / "tokens", "-m", model, "--rows", 4, "-w", 1, env=env)
    assert sorted(path.name for path in (tmp_path / "tokens").glob("part-*")) == ["part-00002.parquet"]


def test_failures_are_told_and_make_the_exit_code_1(model, tmp_path):
    path = manifest(tmp_path / "clips", 5)
    (tmp_path / "clips" / "2.wav").write_bytes(b"nothing")
    found = run("encode", path, "-o", tmp_path / "tokens", "-m", model, "-w", 1)
    assert found.exit_code == 1
    assert "1 utterance failed, see errors.jsonl there" in found.stderr
    found = run("encode", path, "-o", tmp_path / "other", "-m", model, "-w", 1, "--max-errors", 0)
    assert found.exit_code == 1
    assert "more than max_errors=0 allows" in found.stderr


def test_ctrl_c_ends_the_command_after_its_shard(model, tmp_path):
    path, place = manifest(tmp_path / "clips", 30), tmp_path / "tokens"
    command = [sys.executable, "-m", "unitoken", "corpus", "encode", str(path), "-o", str(place), "-m", model, "--rows", "1", "-w", "1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        last = json.loads(process.stdout.read().splitlines()[-1])
    assert (process.returncode, last["event"]) == (1, "stopped")
    assert 1 <= last["shards_done"] < 30
    assert len(list(place.glob("part-*"))) == last["shards_done"]


def test_plan_says_what_it_would_take_and_writes_nothing(model, listed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run("plan", listed, "-m", model, "--rows", 4, "--probe", 0.2, "-w", 2)
    assert found.stdout.startswith("11 utterances, 3 shards\nabout 0.0 h of audio")
    assert "h/h by one process" in found.stdout
    values = json.loads(run("plan", listed, "-m", model, "--probe", 0, "--json").stdout)
    assert (values["rows"], values["unreadable"], values["hours_needed"]) == (11, 0.0, None)
    assert not list(tmp_path.iterdir())


def test_verify_says_what_is_wrong(model, place, tmp_path):
    found = run("verify", place, "-m", model, "--sample", 3)
    assert (found.exit_code, found.stdout) == (0, "3 shards, 11 utterances, 0 without tokens, 3 encoded again\nall is as it should be\n")
    (tmp_path / "part-00000.parquet").write_bytes((place / "part-00000.parquet").read_bytes()[:-40])
    found = run("verify", tmp_path, "--sample", 0, "--json")
    assert found.exit_code == 1
    assert "damaged" in json.loads(found.stdout)["problems"][-1]


def test_stats_in_words_json_and_a_page(place, tmp_path):
    found = run("stats", place, "--html", tmp_path / "page.html")
    assert "11 utterances" in found.stdout
    assert "codewords used" in found.stdout
    assert "language: fr" in found.stdout or "language: de" in found.stdout or "language: en" in found.stdout
    assert (tmp_path / "page.html").stat().st_size > 10000
    values = json.loads(run("stats", place, "--json").stdout)
    assert values["streams"]["s"]["tokens"] == sum(len(utterance.bundle.s) for utterance in corpus.open(place))
    assert values["groups"]["speaker"]["1"]["utterances"] == 5


def test_corpora_are_filtered_merged_and_compared(place, tmp_path):
    assert "5 utterances" in run("filter", place, "speaker = 1", "-o", tmp_path / "one").stdout
    assert "6 utterances" in run("filter", place, "speaker = 0", "-o", tmp_path / "other").stdout
    assert "11 utterances" in run("merge", tmp_path / "one", tmp_path / "other", "-o", tmp_path / "both").stdout
    found = run("diff", place, tmp_path / "both")
    assert found.exit_code == 0
    assert found.stdout.startswith("11 utterances the same, 0 only in the first")
    found = run("diff", place, tmp_path / "one", "--ids")
    assert found.exit_code == 1
    assert "only in the first: u0" in found.stdout
    assert run("merge", place, "-o", tmp_path / "new").exit_code == 2


def test_out_again(model, place, tmp_path):
    assert run("decode", place, "-m", model, "-o", tmp_path / "audio", "--limit", 2, "--format", "wav").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "audio").iterdir()) == ["u0.wav", "u1.wav"]
    assert "11 lines" in run("export", place, "--to", "jsonl", "-o", tmp_path / "out.jsonl").stdout
    assert "1 archive" in run("export", place, "--to", "webdataset", "-o", tmp_path / "wds").stdout
    assert "11 documents" in run("export", place, "--to", "megatron", "-o", tmp_path / "ids").stdout
    assert (tmp_path / "ids.bin").exists()
    layout = lm.Layout(lm.Vocabulary(corpus.open(place).info), lm.Semantic())
    layout.save(tmp_path / "given.json")
    assert run("export", place, "--to", "megatron", "-o", tmp_path / "s", "--layout", tmp_path / "given.json").exit_code == 0
    assert lm.Layout.load(tmp_path / "s.layout.json").body == lm.Semantic()
    refused = run("export", place, "--to", "jsonl", "-o", tmp_path / "s.jsonl", "--layout", tmp_path / "given.json")
    assert "--layout goes with --to megatron" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("encode", "nowhere.tsv", "-o", "tokens"), "no such input: nowhere.tsv"),
        (("encode", ".", "-o", "tokens"), "the input lists no utterance"),
        (("encode", ".", "-o", "tokens", "--shard", "5/5"), "share 5/5 is none of"),
        (("stats", "nowhere"), "no corpus in nowhere"),
        (("verify", "nowhere"), "no corpus in nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run(*arguments)
    assert found.exit_code == 1
    assert text in found.stderr
    assert found.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_shards_have_as_many_rows_as_the_library_gives_them():
    assert commands.ROWS == ROWS


def test_encode_by_ray_says_so_if_ray_is_not_there(model, listed, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    found = run("encode", listed, "-o", tmp_path / "tokens", "-m", model, "--engine", "ray")
    assert found.exit_code == 1
    assert "pip install 'unitoken-speech[ray]'" in found.stderr
