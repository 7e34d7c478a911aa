"""The way to a GPU machine and back, rehearsed on the CPU: every mode of scripts/gpu_train.sh, as it is called there."""

import csv
import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from trainset import TINY, make_pitch, make_pool, make_teacher
from unitoken.encoder_config import TransformerConfig
from unitoken.errors import TrainError
from unitoken.train.handover import load_codec
from unitoken.train.pool import Pool
from unitoken.train.teachers import load_teacher

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu_train.sh"
QUICK = ["--set", "batch=2", "--set", "seconds=0.4", "--set", "run.log_steps=1", "--set", "run.warmup=1", "--set", "run.autocast=false"]
CONFIG = dataclasses.replace(TINY, name="begun", semantic=dataclasses.replace(TINY.semantic, encoder=TransformerConfig(24, 2, (48, 20), 3)))


@pytest.fixture
def call(tmp_path):
    """Call the script with folders of its own, which take the place of the other machine's."""
    places = {"LOCAL": tmp_path / "machine", "OUT": tmp_path / "out", "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "DEVICE": "cpu"}
    environment = os.environ | {name: str(value) for name, value in places.items()}

    def run(*arguments, code=0):
        done = subprocess.run(
            ["bash", SCRIPT, *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False, timeout=300
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def steps(path):
    with path.open() as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def apart(*teachers):
    """Return how far two teachers' features are apart at most."""
    wave = 0.1 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    one, other = (load_teacher(folder).features(wave) for folder in teachers)
    return (one - other).abs().max()


def send_again_and_go_on(call, gpu, machine, out):
    """The machine is another one: the runs go there and the last stage goes on."""
    first = steps(out / "reconstruct-log.csv")
    shutil.rmtree(machine / "run")
    shutil.rmtree(out)
    call("prepare", "--run", f"codebook={gpu}/runs/codebook", "--run", f"reconstruct={gpu}/runs/reconstruct", "--no-wheels", "--max-mb", "0.2")
    checkpoints = sorted(gpu.glob("checkpoint-*"))
    assert len(checkpoints) > 2
    call("receive", *checkpoints)
    call("train", "reconstruct", 0.01, *QUICK)
    again = steps(out / "reconstruct-log.csv")
    assert again[: len(first)] == first
    assert again == list(range(1, len(again) + 1))
    assert len(again) > len(first)
    assert json.loads((machine / "run" / "reconstruct" / "step.json").read_text())["step"] == again[-1]


@pytest.mark.slow
def test_there_and_back_and_on(tmp_path, call):
    pool, gpu, machine, out = make_pool(tmp_path / "home"), tmp_path / ".gpu", tmp_path / "machine", tmp_path / "out"
    pitch = make_pitch(pool, tmp_path / "home" / "pitch")
    (tmp_path / "valid.tsv").write_text("source\tspeaker\nbench\ts1\n")
    teacher = make_teacher("whisper", tmp_path / "home" / "whisper")
    given = ["--archives", tmp_path / "home" / "clips.tar", "--pitch", tmp_path / "home" / "pitch", "--valid-speakers", tmp_path / "valid.tsv"]
    start = make_teacher("whisper", tmp_path / "home" / "start")
    (tmp_path / "config.json").write_text(CONFIG.to_json())
    printed = call("prepare", pool.folder, *given, "--teacher", teacher, "--start", start, "--no-wheels", "--max-mb", "0.8")
    pieces = [gpu / name for name in ("common", "data-00", "start", "teacher")]
    assert sorted(gpu.iterdir()) == pieces
    assert all(str(piece) in printed or f".gpu/{piece.name}" in printed for piece in pieces)
    assert len(list((gpu / "data-00").glob("*.tar"))) == 2
    assert apart(gpu / "teacher" / "teacher", teacher) < 0.01

    call("receive", *pieces)
    call("train", "semantic", 0.01, "--config", tmp_path / "config.json", *QUICK, "--set", "run.learning_rate=1e-6")
    begun = load_file(machine / "run" / "semantic" / "average.safetensors")["student.semantic.second.weight"]
    assert (begun - load_teacher(start).encoder.conv2.weight).abs().max() < 1e-3
    joined = Pool(machine / "pool")
    assert joined.utterances == pool.utterances
    assert np.array_equal(joined.audio, pool.audio)
    assert joined.sources == pool.sources != {}
    assert (machine / "pool" / "f0.f16").read_bytes() == (tmp_path / "home" / "pitch" / "f0.f16").read_bytes()
    assert len(pitch.data) == len(np.fromfile(machine / "pool" / "f0.f16", "<f2"))
    call("train", "codebook", 0, "--frames", "200")
    stored = machine / "run" / "codebook" / "model.safetensors"
    fitted = load_file(stored)["quantizer_s.codebook"]
    call("train", "refine", 0.01, *QUICK)
    call("train", "codebook", 0)
    refined = load_file(machine / "run" / "refine" / "average.safetensors")["trainer.quantizer.codebook"]
    assert torch.equal(load_file(stored)["quantizer_s.codebook"], refined)
    assert not torch.equal(refined, fitted)
    call("train", "reconstruct", 0.01, *QUICK)
    assert max(path.stat().st_size for path in out.iterdir()) <= 15e6

    text = call("collect", out)
    assert all(f"{stage}: .gpu/runs/{stage}" in text for stage in ("semantic", "codebook", "refine", "reconstruct"))
    exact, halved = (load_file(folder / "reconstruct" / "average.safetensors") for folder in (machine / "run", gpu / "runs"))
    assert all(torch.equal(halved[key], value.half() if value.is_floating_point() else value) for key, value in exact.items())
    assert load_codec(gpu / "runs" / "reconstruct").config == CONFIG
    known = load_file(stored)
    assert all(torch.equal(value, known[key]) for key, value in load_file(gpu / "runs" / "codebook" / "model.safetensors").items())

    send_again_and_go_on(call, gpu, machine, out)


def test_what_is_missing_is_named(tmp_path, call):
    assert "holds no data; first: gpu_train.sh receive PIECE" in call("train", "semantic", 1, code=1)
    part = make_pool(tmp_path / "home", 1, 1).folder
    make_pitch(Pool(part), part)
    shutil.copytree(part, tmp_path / "machine" / "parts" / "clips-0000")
    assert "the held-out speakers would be trained on" in call("train", "semantic", 1, code=1)


@pytest.fixture
def modes(tmp_path, monkeypatch):
    """The script as a module, with folders of its own and small pieces."""
    for name in ("LOCAL", "OUT"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("gpu_train", SCRIPT.with_suffix(".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(first):
    return Namespace(stage="semantic", first=first, max_part_mb=0.005)


def test_a_large_run_comes_back_in_several_answers(tmp_path, modes, capsys):
    run, out = tmp_path / "LOCAL" / "run" / "semantic", tmp_path / "OUT"
    with pytest.raises(TrainError, match="is no run that could be packed"):
        modes.send(answer(0))
    run.mkdir(parents=True)
    weights = {"a": torch.randn(100, 100), "large": torch.full((2,), 1e6), "whole": torch.arange(3)}
    for name in ("model", "average"):
        save_file(weights, run / f"{name}.safetensors")
    for name in ("step.json", "log.csv", "optimizer.pt"):
        (run / name).write_text(name)
    modes.send(answer(0))
    assert "pieces 0 to 3 of 11" in capsys.readouterr().out
    assert len(list(out.iterdir())) == 6
    modes.collect(Namespace(folders=[out], output=tmp_path / "home"))
    assert "semantic: 7 of 11 pieces are missing, the first is number 4" in capsys.readouterr().out
    for first in (4, 8):
        shutil.rmtree(out)
        modes.send(answer(first))
        modes.collect(Namespace(folders=[out], output=tmp_path / "home"))
    back = tmp_path / "home" / "runs" / "semantic"
    assert sorted(path.name for path in back.iterdir()) == ["average.safetensors", "log.csv", "model.safetensors", "step.json"]
    held = load_file(back / "average.safetensors")
    assert torch.equal(held["a"], weights["a"].half())
    assert torch.equal(held["large"], weights["large"])
    assert torch.equal(held["whole"], weights["whole"])
    assert list((tmp_path / "home" / "returned").iterdir()) == []
