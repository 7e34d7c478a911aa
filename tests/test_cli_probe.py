"""`unitoken probe`: from the command line to a table."""

import json
import tarfile

import pytest
import safetensors.torch
from typer.testing import CliRunner

from models import tokenizer
from speechlike import speech
from test_evaluate_speakers import tiny_weights
from unitoken import save_audio
from unitoken.cli import app
from unitoken.evaluate import changes

PITCHES = {"a": ("f", 210.0), "b": ("f", 240.0), "c": ("m", 110.0), "d": ("m", 100.0)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A model, speaker weights, and four speakers of eight clips each, in files and in a tar, with labels."""
    folder = tmp_path_factory.mktemp("data")
    tokenizer().save_pretrained(folder / "model")
    safetensors.torch.save_file(tiny_weights(), folder / "ge2e.safetensors")
    rows, labels = ["path\tsource\tspeaker\tlanguage\tseconds\ttranscript\textra"], ["path\tphones"]
    with tarfile.open(folder / "clips.tar", "w") as tar:
        for speaker, (sex, pitch) in PITCHES.items():
            for number in range(8):
                name = f"{speaker}{number}.wav"
                save_audio(folder / name, speech(2.1, number, pitch), 16000)
                tar.add(folder / name, name)
                rows.append(f"{name}\tx\t{speaker}\ten\t2.1\t\tsex={sex};emotion={'anger' if number % 3 else 'joy'}")
                labels.append(f"{name}\tSIL:40 AA:{60 + number} B:60")
    (folder / "m.tsv").write_text("\n".join(rows) + "\n")
    (folder / "phones.tsv").write_text("\n".join(labels) + "\n")
    (folder / "unseen.tsv").write_text("source\tspeaker\nx\td\n")
    return folder


def call(data, command, *arguments, code=0):
    result = CliRunner().invoke(app, ["probe", command, *map(str, arguments), "--model", str(data / "model")])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def table(result):
    """Return the rows of the printed table, header first, without the line below it."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in result.stdout.splitlines() if line.startswith("|")]
    return [cells[0], *cells[2:]]


def test_voice(data, tmp_path):
    header, *rows = table(call(data, "voice", data / "m.tsv", "--speakers", data / "ge2e.safetensors", "--pairs", "4", "-o", tmp_path / "v.json"))
    assert header[:4] == ["pairs", "clips", "nearer to target", "cosine to target"]
    assert [row[:2] for row in rows] == [["all", "4"], ["across sex", "2"], ["within", "2"]]
    figures = json.loads((tmp_path / "v.json").read_text())
    assert figures["all"]["clips"] == 4
    assert rows[0][3] == f"{figures['all']['cosine to target']:.3f}"
    assert figures["all"]["WER"] is None
    message = call(data, "voice", data / "m.tsv", "--speakers", data / "ge2e.safetensors", "-o", tmp_path / "v.json", code=2).stderr
    assert "v.json exists; add --force" in message


def test_melody(data):
    header, *rows = table(call(data, "melody", data / "m.tsv", "--pairs", "3"))
    assert header == ["decoded with", "F0 corr with the clip", "with that clip"]
    assert [row[0] for row in rows] == ["its own P", "no P", "another clip's P"]


@pytest.mark.parametrize("packed", [True, False])
def test_phones(data, packed):
    archive = ["--archive", data / "clips.tar"] if packed else []
    header, *rows = table(call(data, "phones", data / "phones.tsv", data / "m.tsv", "--unseen", data / "unseen.tsv", *archive))
    assert header == ["stream", "phones, all frames", "phones, speech", "speaker, frame", "speaker, clip", "chance"]
    assert [row[0] for row in rows] == ["g", "s", "p"]
    assert all(row[-1] == "0.2500" for row in rows)
    assert float(rows[0][3]) > 0.5  # every frame of G is the clip's


def test_a_clip_that_no_archive_has(data, tmp_path):
    with tarfile.open(tmp_path / "some.tar", "w") as tar:
        tar.add(data / "a0.wav", "a0.wav")
    arguments = (data / "phones.tsv", data / "m.tsv", "--unseen", data / "unseen.tsv", "--archive", tmp_path / "some.tar")
    assert "31 clips are in none of the archives, a1.wav for one" in call(data, "phones", *arguments, code=1).stderr


def test_emotion(data, tmp_path):
    header, *rows = table(call(data, "emotion", data / "m.tsv"))
    assert header == ["streams", "clips", "emotion", "the commonest"]
    assert [(row[0], row[1], row[3]) for row in rows] == [(streams, "32", "0.625") for streams in ("s", "s+g", "s+g+p")]
    (tmp_path / "none.tsv").write_text((data / "m.tsv").read_text().replace("emotion=", "mood="))
    assert "has emotion=... in the column extra" in call(data, "emotion", tmp_path / "none.tsv", code=2).stderr


def test_reference(data):
    header, *rows = table(call(data, "reference", data / "m.tsv", "--speakers", data / "ge2e.safetensors", "--carrier", data / "a0.wav"))
    assert header == ["G heard from", "cosine", "speakers"]
    names = ("1 s", "2 s", "3 s", "5 s", "10 s", "1 clips", "2 clips", "4 clips", "all", "all, not quantized")
    assert [(row[0], row[2]) for row in rows] == [(name, "4") for name in names]


def test_tokens(data, monkeypatch):
    few = {"none": changes.Change("none", lambda clip, _: clip), "noise": changes.noise(0), "opus-12": changes.opus(12)}
    monkeypatch.setattr(changes, "CHANGES", few)
    monkeypatch.setenv("PATH", "")
    result = call(data, "tokens", data / "m.tsv", "--limit", "3")
    header, none, noise = table(result)
    assert header == ["change", "S", "P"]
    assert none == ["none", "0.000", "0.000"]
    assert float(noise[1]) > 0.2
    assert "Opus 12k is left out, it needs opusenc and opusdec" in result.stderr
