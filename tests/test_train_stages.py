import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from trainset import RUN, TINY, count_steps, make_codec, make_codes, make_pitch, make_pool, make_teacher
from unitoken.errors import TrainError
from unitoken.train.adversarial import AdversarialSettings, train_adversarial
from unitoken.train.codes import SemanticCodes, fit_codebook, tokenize_pool
from unitoken.train.discriminators import DiscriminatorSettings
from unitoken.train.features import FeatureCache, compute_features
from unitoken.train.handover import averaged_state, config_of, join_codec, keep_config, load_codec, load_student, read_config
from unitoken.train.rebuild import train_reconstruction
from unitoken.train.reconstruction import ExampleMaker, ReconstructionSettings
from unitoken.train.run import Clock, Log, WeightAverage, finite
from unitoken.train.semantic import SemanticSettings, train_semantic
from unitoken.train.teachers import load_teacher

REBUILD = ReconstructionSettings(batch=4, seconds=0.4, reference_seconds=0.4)
OPPOSE = AdversarialSettings(
    REBUILD, DiscriminatorSettings(windows=(512, 256), channels=4), seconds=0.2, warmup=2, ramp=2, adversarial=0.01, matching=0.05
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A pool with teacher features, pitch, and the S tokens of a codec with random weights."""
    root = tmp_path_factory.mktemp("stages")
    pool = make_pool(root, 3, 2)
    compute_features(pool, load_teacher(make_teacher("whisper", root / "teacher")), root / "features")
    codes, pitch = make_codes(make_codec(), pool, root / "codes"), make_pitch(pool, root / "pitch")
    return pool, FeatureCache(root / "features", pool), codes, pitch


def stage_0(data, folder, run=RUN):
    pool, cache, _, _ = data
    return train_semantic(pool, pool.utterances, cache, folder, TINY, SemanticSettings(run, batch=4, seconds=0.5))


def stage_1(data, folder, run=RUN):
    pool, _, codes, pitch = data
    maker = ExampleMaker(pool, pool.utterances, codes, pitch, TINY, REBUILD, None, run.seed)
    return train_reconstruction(make_codec(), maker, folder, REBUILD, run)


def stage_2(data, folder, run=RUN):
    pool, _, codes, pitch = data
    maker = ExampleMaker(pool, pool.utterances, codes, pitch, TINY, REBUILD, None, run.seed)
    return train_adversarial(make_codec(), maker, folder, OPPOSE, run)


STAGES = {"semantic": stage_0, "reconstruction": stage_1, "adversarial": stage_2}


def log_of(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", STAGES)
def test_twenty_steps_lower_the_loss(data, tmp_path, monkeypatch, name):
    count_steps(monkeypatch, 20)
    STAGES[name](data, tmp_path)
    rows = log_of(tmp_path)
    assert [row["step"] for row in rows] == ["5", "10", "15", "20"]
    assert float(rows[-1]["loss"]) < 0.9 * float(rows[0]["loss"])
    if name == "adversarial":
        assert float(rows[-1]["discriminator"]) < float(rows[0]["discriminator"])
        assert float(rows[0]["adversarial"]) < 1 < float(rows[-1]["adversarial"]) + 0.5
        assert float(rows[-1]["matching"]) > 0


@pytest.mark.parametrize("name", STAGES)
def test_a_resumed_run_takes_the_same_steps(data, tmp_path, monkeypatch, name):
    count_steps(monkeypatch, 4)
    STAGES[name](data, tmp_path / "whole")
    for _ in range(2):
        count_steps(monkeypatch, 2)
        STAGES[name](data, tmp_path / "parts")
    for file in ("model.safetensors", "average.safetensors"):
        whole, parts = load_file(tmp_path / "whole" / file), load_file(tmp_path / "parts" / file)
        assert whole.keys() == parts.keys()
        assert [key for key in whole if not torch.equal(whole[key], parts[key])] == []
    states = [torch.load(tmp_path / part / "optimizer.pt", weights_only=True) for part in ("whole", "parts")]  # noqa: TID251 (tensors only)
    for one, two in zip(*states, strict=True):
        assert one["param_groups"] == two["param_groups"]
        assert all(torch.equal(one["state"][i]["exp_avg"], two["state"][i]["exp_avg"]) for i in one["state"])


def test_stages_hand_over(data, tmp_path, monkeypatch):
    pool, _, codes, pitch = data
    count_steps(monkeypatch, 2)
    keep_config(tmp_path / "0", TINY)
    student = stage_0(data, tmp_path / "0")
    loaded = load_student(tmp_path / "0")
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in student.state_dict().items())
    codebook = fit_codebook(loaded, pool, pool.utterances, 64, frames=200)
    used = tokenize_pool(loaded, codebook, pool, tmp_path / "codes")
    codec = join_codec(loaded, codebook)
    assert 0.3 < used <= 1
    utterance = pool.utterances[1]
    frames = -(-utterance.samples // 640)
    wave = torch.nn.functional.pad(torch.from_numpy(pool.wave(utterance)), (0, frames * 640 - utterance.samples))[None]
    with torch.no_grad():
        latent = codec.latents(wave, torch.tensor([[0, utterance.samples]])).s
    made = SemanticCodes(tmp_path / "codes", pool, 640).get(utterance, 0, frames)
    assert codec.quantizer_s.quantize(latent)[0][0, :, 0].tolist() == made.tolist()
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    count_steps(monkeypatch, 2)
    keep_config(tmp_path / "1", TINY)
    maker = ExampleMaker(pool, pool.utterances, codes, pitch, TINY, REBUILD, None, 0)
    rebuilt = train_reconstruction(codec, maker, tmp_path / "1", REBUILD, RUN).state_dict()
    kept = {name for name, value in rebuilt.items() if torch.equal(value, before[name])}
    assert {name for name in rebuilt if name.startswith(("semantic.", "quantizer_s."))} <= kept
    assert not {name for name in kept if name.startswith(("residual.", "decoder.head", "global_out"))}
    again = load_codec(tmp_path / "1")
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in rebuilt.items())
    count_steps(monkeypatch, 1)
    opposed = train_adversarial(again, maker, tmp_path / "2", OPPOSE, RUN, start=averaged_state(tmp_path / "1"))
    loaded = load_codec(tmp_path / "2", TINY)
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in opposed.state_dict().items())


def test_folders_of_something_else_are_refused(data, tmp_path, monkeypatch):
    count_steps(monkeypatch, 1)
    stage_0(data, tmp_path / "0")
    with pytest.raises(TrainError, match=r"has no codec\.json"):
        load_student(tmp_path / "0")
    with pytest.raises(TrainError, match="stages: reconstruction, adversarial"):
        load_codec(tmp_path / "0", TINY)
    with pytest.raises(TrainError, match="holds no checkpoint"):
        load_codec(tmp_path)
    with pytest.raises(TrainError, match="no semantic run of this configuration"):
        load_student(tmp_path / "0", read_config("small"))
    count_steps(monkeypatch, 1)
    with pytest.raises(TrainError, match="checkpoint of another configuration"):
        stage_1(data, tmp_path / "0")
    keep_config(tmp_path / "0", TINY)
    assert config_of(tmp_path / "0") == TINY
    with pytest.raises(TrainError, match="run of another configuration"):
        keep_config(tmp_path / "0", read_config("small"))
    with pytest.raises(TrainError, match="give one of tiny, small, base, or a JSON file"):
        read_config("large")
    with pytest.raises(TrainError, match="frames cannot make 64 codewords"):
        fit_codebook(load_student(tmp_path / "0"), data[0], data[0].utterances[:1], 64)


def test_examples_repeat_and_keep_to_the_utterance(data):
    pool, _, codes, pitch = data
    one, two = (ExampleMaker(pool, pool.utterances, codes, pitch, TINY, REBUILD, None, 0).make(3) for _ in range(2))
    for name, value in vars(one).items():
        assert torch.equal(value.nan_to_num(), vars(two)[name].nan_to_num()), name
    assert one.clean.shape == (4, 6400)
    assert one.tokens.shape == (4, 10, 1)
    assert one.pitch.shape == (4, 20)
    assert set(one.limits.tolist()) <= {4000.0, 8000.0}


def test_the_learning_rate_rises_and_falls(monkeypatch):
    clock = Clock(replace(RUN, learning_rate=1.0, warmup=4, cooldown=0.5))
    shares = iter([0.0, 0.0, 0.5, 0.75, 1.0])
    monkeypatch.setattr(Clock, "share", property(lambda self: next(shares)))
    assert [clock.learning_rate(step) for step in (0, 3, 4, 5, 6)] == [0.25, 1, 1, 0.5, 0.02]


def test_a_log_keeps_its_columns(tmp_path, capsys):
    log = Log(tmp_path / "log.csv")
    log.add({"loss": 1.0})
    log.add({"loss": torch.tensor(2.0)})
    log.write(2, 1.0, 1e-3)
    assert "loss 1.5" in capsys.readouterr().out
    other = Log(tmp_path / "log.csv")
    other.add({"mel": 1.0})
    with pytest.raises(TrainError, match="choose another folder"):
        other.write(3, 1.0, 1e-3)


def test_averaged_weights_follow():
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(0.0)
    average = WeightAverage(module, 0.5)
    for _ in range(30):
        module.weight.data.fill_(1.0)
        average.update(module)
    assert float(average.state["weight"]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run(value):
    with pytest.raises(TrainError, match="at step 7; lower the learning rate"):
        finite(torch.tensor(value), 7)


def test_two_processes_end_with_equal_weights(data, tmp_path):
    """Two processes under torchrun, different examples each; the clock is a real one, so that their learning rates would differ."""
    pool, _, codes, pitch = data
    script = Path(__file__).with_name("train_two.py")
    folders = [str(path) for path in (pool.folder, codes_folder(codes), pitch_folder(pitch), tmp_path)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script), *folders]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    for stage in ("reconstruction", "adversarial"):
        one, two = (load_file(tmp_path / f"{stage}-{rank}.safetensors") for rank in range(2))
        start = load_file(tmp_path / f"{stage}-start.safetensors")
        assert [key for key in one if not torch.equal(one[key], two[key])] == []
        assert not torch.equal(one["codec.decoder.head.weight"], start["codec.decoder.head.weight"])


def codes_folder(codes):
    return Path(codes.data.filename).parent


def pitch_folder(pitch):
    return Path(pitch.data.filename).parent
