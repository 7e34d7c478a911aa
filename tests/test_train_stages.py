import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models import latents
from trainset import RUN, TINY, buzz, count_steps, log_of, make_codec, make_pitch, make_pool, make_teacher, make_tokens, write_tar
from unitoken.config import QuantizerConfig
from unitoken.errors import TrainError
from unitoken.hub import save_stored
from unitoken.model.codec import Codec
from unitoken.train.adversarial import AdversarialSettings, train_adversarial
from unitoken.train.batches import collate, samples_of
from unitoken.train.discriminators import DiscriminatorSettings
from unitoken.train.examples import ExampleMaker, ReconstructionSettings
from unitoken.train.features import FeatureCache, compute_features
from unitoken.train.fine_tune import fine_tune
from unitoken.train.handover import (
    averaged_state,
    config_of,
    heads_of,
    join_codec,
    keep_config,
    load_codec,
    load_student,
    read_config,
    trained_codebook,
)
from unitoken.train.missed import missed
from unitoken.train.noise import NoiseBank
from unitoken.train.pitch import PitchCache
from unitoken.train.pool import Pool
from unitoken.train.pool_files import change_speed, merge_pools
from unitoken.train.rebuild import train_reconstruction
from unitoken.train.reconstruction import Reconstructor
from unitoken.train.refine import RefineSettings, train_refine
from unitoken.train.run import Log, WeightAverage
from unitoken.train.sampling import Crop
from unitoken.train.semantic import LessonMaker, SemanticSettings, SemanticStudent, train_semantic
from unitoken.train.semantic_tokens import SemanticTokens, fit_codebook, pool_latents, student_latents, tokenize_pool
from unitoken.train.store import AudioStore
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
    tokens, pitch = make_tokens(make_codec(), pool, root / "tokens"), make_pitch(pool, root / "pitch")
    return pool, FeatureCache(root / "features", pool), tokens, pitch


def stage_0(data, folder, run=RUN):
    pool, cache, _, _ = data
    return train_semantic(LessonMaker(pool, pool.utterances, cache, folder, TINY, SemanticSettings(run, batch=4, seconds=0.5)))


def stage_refine(data, folder, run=RUN, **settings):
    pool, cache, _, _ = data
    chosen = RefineSettings(**{"run": run, "batch": 4, "seconds": 0.5, "still": 2} | settings)
    return train_refine(make_codec(), LessonMaker(pool, pool.utterances, cache, folder, TINY, chosen))


def stage_1(data, folder, run=RUN):
    pool, _, tokens, pitch = data
    maker = ExampleMaker(pool, pool.utterances, tokens, pitch, TINY, REBUILD, None, run.seed)
    return train_reconstruction(make_codec(), maker, folder, REBUILD, run)


def stage_2(data, folder, run=RUN):
    pool, _, tokens, pitch = data
    maker = ExampleMaker(pool, pool.utterances, tokens, pitch, TINY, REBUILD, None, run.seed)
    return train_adversarial(make_codec(), maker, folder, OPPOSE, run)


STAGES = {"semantic": stage_0, "refine": stage_refine, "reconstruction": stage_1, "adversarial": stage_2}


@pytest.mark.parametrize("refining", [False, True])
def test_what_is_missed_of_the_teacher(data, tmp_path, monkeypatch, refining):
    pool, cache, _, _ = data
    settings = RefineSettings(RUN, batch=4, seconds=0.5, still=2)
    lessons = LessonMaker(pool, pool.utterances, cache, tmp_path, TINY, settings)
    count_steps(monkeypatch, 1)
    before = missed(train_refine(make_codec(), lessons) if refining else train_semantic(lessons), lessons, pool.utterances)
    count_steps(monkeypatch, 40)
    student = train_refine(make_codec(), lessons) if refining else train_semantic(lessons)
    after = missed(student, lessons, pool.utterances)
    assert after < 0.9 * before
    assert not refining or not student.training
    assert missed(student, lessons, pool.utterances, limit=1) != after
    monkeypatch.setattr(type(student), "foretell", lambda self, magnitudes, mask: torch.zeros(*mask.shape[:2], TINY.semantic.quantizer.dim))
    target = lessons.clean(pool.utterances)
    mean = float((target.target**2).sum() / (target.mask.sum() * target.target.shape[-1]))
    assert missed(student, lessons, pool.utterances) == pytest.approx(mean, rel=1e-3)
    with pytest.raises(TrainError, match="nothing to foretell: 0 utterances"):
        missed(student, lessons, [])


def test_references_are_of_the_same_voice(data, tmp_path):
    joined = merge_pools([data[0], change_speed(data[0], tmp_path / "fast", 1.25)], tmp_path / "joined")
    tokens, pitch = make_tokens(make_codec(), joined, tmp_path / "s"), make_pitch(joined, tmp_path / "pitch")
    maker = ExampleMaker(joined, joined.utterances, tokens, pitch, TINY, replace(REBUILD, other_utterance=1.0), None, 0)
    random = np.random.default_rng(0)
    pairs = [(utterance, maker._reference(utterance, random).utterance) for utterance in joined.utterances for _ in range(8)]
    assert all(one.voice == other.voice for one, other in pairs)
    assert any(one != other for one, other in pairs)


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


@pytest.mark.parametrize(
    "quantizer", [QuantizerConfig("rvq", 8, 2, 64), QuantizerConfig("gumbel", 8, 2, 64), QuantizerConfig("fsq", 8, 2, 625, (5,) * 4)]
)
def test_p_learns_with_every_quantizer(data, tmp_path, monkeypatch, quantizer):
    pool, _, tokens, pitch = data
    config = replace(TINY, residual=replace(TINY.residual, quantizer=quantizer))
    torch.manual_seed(0)
    maker = ExampleMaker(pool, pool.utterances, tokens, pitch, config, REBUILD, None, 0)
    count_steps(monkeypatch, 20)
    codec = train_reconstruction(Codec(config), maker, tmp_path, replace(REBUILD, entropy=0.5), RUN)
    rows = log_of(tmp_path)
    assert float(rows[-1]["loss"]) < 0.9 * float(rows[0]["loss"])
    assert (float(rows[0]["entropy"]) > 0.1) == (quantizer.kind == "gumbel")
    assert not any(torch.equal(a, b) for a, b in zip(codec.residual.parameters(), make_codec().residual.parameters(), strict=True))


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
    pool, _, tokens, pitch = data
    count_steps(monkeypatch, 2)
    keep_config(tmp_path / "0", TINY)
    student = stage_0(data, tmp_path / "0")
    loaded = load_student(tmp_path / "0")
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in student.state_dict().items())
    codebook = fit_codebook(loaded, pool, pool.utterances, 64, frames=200)
    count = tokenize_pool(loaded, codebook, pool, tmp_path / "tokens")
    codec = join_codec(loaded, codebook)
    assert torch.equal(count, torch.bincount(SemanticTokens(tmp_path / "tokens", pool, TINY.hop_s).data.long(), minlength=64))
    assert 0.3 < (count > 0).float().mean() <= 1
    utterance = pool.utterances[1]
    frames = -(-utterance.samples // 640)
    wave = torch.nn.functional.pad(torch.from_numpy(pool.wave(utterance)), (0, frames * 640 - utterance.samples))[None]
    with torch.no_grad():
        latent = latents(codec, wave, lengths=[utterance.samples])["s"]
    made = SemanticTokens(tmp_path / "tokens", pool, 640).crop([Crop(utterance, 0, utterance.samples)], frames)[0]
    assert codec.quantizer_s.quantize(latent)[0][0, :, 0].tolist() == made.tolist()
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    count_steps(monkeypatch, 2)
    keep_config(tmp_path / "1", TINY)
    maker = ExampleMaker(pool, pool.utterances, tokens, pitch, TINY, REBUILD, None, 0)
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


def test_heads_are_those_of_a_run_or_begin_anew(tmp_path):
    save_stored(tmp_path / "codec", TINY, make_codec().state_dict())
    assert heads_of(tmp_path / "codec") is None
    (tmp_path / "run").mkdir()
    with pytest.raises(TrainError, match="run holds no checkpoint"):
        heads_of(tmp_path / "run")
    save_file({"energy.0.weight": torch.ones(2)}, tmp_path / "run" / "average.safetensors")
    assert torch.equal(heads_of(tmp_path / "run")["energy.0.weight"], torch.ones(2))


def test_the_codebook_and_its_encoder_learn_together(data, tmp_path, monkeypatch):
    """The encoder stands still at first; what is kept is what `codebook` makes a codec of, with no k-means."""
    start = make_codec()
    count_steps(monkeypatch, 2)
    early = stage_refine(data, tmp_path / "early", still=2)
    assert all(torch.equal(value, start.semantic.state_dict()[key]) for key, value in early.student.semantic.state_dict().items())
    step = (early.trainer.quantizer.codebook - start.quantizer_s.codebook).norm(dim=-1) / start.quantizer_s.codebook.norm(dim=-1)
    assert 0 < step.median() < 0.2  # it went on from where it was
    count_steps(monkeypatch, 8)
    keep_config(tmp_path / "run", TINY)
    trained = stage_refine(data, tmp_path / "run", still=0)
    moved = [key for key, value in trained.student.semantic.state_dict().items() if not torch.equal(value, start.semantic.state_dict()[key])]
    assert "out.weight" in moved
    assert "stem.weight" in moved
    assert torch.equal(make_codec().quantizer_s.codebook, start.quantizer_s.codebook)
    assert trained_codebook(tmp_path / "early").shape == (64, TINY.semantic.quantizer.dim)
    words = trained_codebook(tmp_path / "run")
    assert torch.equal(words, trained.trainer.quantizer.codebook)
    codec = join_codec(load_student(tmp_path / "run"), words)
    assert all(torch.equal(value, codec.semantic.state_dict()[key]) for key, value in trained.student.semantic.state_dict().items())
    assert torch.equal(codec.quantizer_s.codebook, words)
    count_steps(monkeypatch, 1)
    stage_0(data, tmp_path / "0")
    assert trained_codebook(tmp_path / "0") is None
    logged = log_of(tmp_path / "run")[0]
    total = float(logged["together"]) + 0.5 * float(logged["alone"]) + float(logged["commit"])
    assert float(logged["commit"]) > 0.001
    assert float(logged["loss"]) == pytest.approx(total, rel=1e-3)


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
    pool, _, tokens, pitch = data
    one, two = (ExampleMaker(pool, pool.utterances, tokens, pitch, TINY, REBUILD, None, 0).make(3) for _ in range(2))
    for name, value in vars(one).items():
        assert torch.equal(value.nan_to_num(), vars(two)[name].nan_to_num()), name
    assert one.clean.shape == (4, 6400)
    assert one.tokens.shape == (4, 10, 1)
    assert one.pitch.shape == (4, 20)
    assert set(one.limits.tolist()) <= {4000.0, float("inf")}


def test_another_device_gets_its_data_once_and_is_never_waited_for(data, tmp_path):
    """The device `meta` has no values: whatever looks at one, or mixes its tensors with the CPU's, fails."""
    pool, _, tokens, pitch = data
    bank = NoiseBank(write_tar(tmp_path / "n.tar", [(f"{name}/a.flac", buzz(0.2, 300), 16000) for name in ("noise", "rir")]))
    here = ExampleMaker(pool, pool.utterances, tokens, pitch, TINY, REBUILD, bank, 0)
    there, log = here.to("meta"), Log(tmp_path / "log.csv")
    for step in range(8):
        one, two = here.make(step), there.make(step)
        assert {name: value.shape for name, value in vars(one).items()} == {name: value.shape for name, value in vars(two).items()}
        assert {value.device.type for value in vars(two).values()} == {"meta"}
        log.add({"loss": two.clean.sum()}, two.samples.sum())
    crops = there.sampler.draw(0, 4, 6400, 640)
    batch = collate(there.audio, crops, 640, there.noise, torch.Generator().manual_seed(0))
    degraded = there.noise.degrade(batch.clean, samples_of(crops, torch.device("meta")), torch.Generator(), room=1, noise=1)
    assert degraded.device == batch.degraded.device == batch.mask.device == torch.device("meta")
    assert all(at.is_meta and latents.is_meta for at, latents in pool_latents(make_codec().to("meta"), there.audio, pool.utterances))
    student = SemanticStudent(TINY).to("meta")
    average = WeightAverage(student, 0.9)
    average.update(student)
    assert all(value.is_meta for value in average.state.values())
    assert Reconstructor(make_codec(), REBUILD).to("meta").trainer_p.perplexity.is_meta


def test_a_trained_codec_is_trained_further(data, tmp_path, monkeypatch):
    """Its codebook stays, and with the run's averages so do its heads."""
    pool, _, tokens, pitch = data
    maker = ExampleMaker(pool, pool.utterances, tokens, pitch, TINY, REBUILD, None, 0)
    count_steps(monkeypatch, 30)
    codec = stage_1(data, tmp_path / "1")
    known, state = codec.quantizer_p.codebook.clone(), averaged_state(tmp_path / "1")
    moved, heads = {}, {}
    for name, given in (("anew", {}), ("trained", {"trained": True}), ("start", {"start": state})):
        made = copy.deepcopy(codec)
        count_steps(monkeypatch, RUN.log_steps)
        train_reconstruction(made, maker, tmp_path / name, REBUILD, RUN, **given)
        moved[name] = float((load_codec(tmp_path / name, TINY).quantizer_p.codebook - known).abs().mean())
        heads[name] = averaged_state(tmp_path / name)["energy.0.weight"]
    assert max(moved["trained"], moved["start"]) < 0.5 * moved["anew"]
    distance = {name: float((weight - state["energy.0.weight"]).abs().mean()) for name, weight in heads.items()}
    assert distance["start"] < 0.5 * distance["trained"]


def test_a_start_leaves_the_codec_its_semantic_tokens(data, tmp_path, monkeypatch):
    """What is started from may have been trained on those of another semantic encoder; the pool's tokens are the codec's."""
    pool, _, tokens, pitch = data
    maker = ExampleMaker(pool, pool.utterances, tokens, pitch, TINY, REBUILD, None, 0)
    count_steps(monkeypatch, 2)
    stage_1(data, tmp_path / "1")
    refined = make_codec(1)
    count_steps(monkeypatch, 1)
    trained = train_reconstruction(copy.deepcopy(refined), maker, tmp_path / "2", REBUILD, RUN, start=averaged_state(tmp_path / "1")).state_dict()
    kept = {name for name, value in refined.state_dict().items() if torch.equal(value, trained[name])}
    assert {name for name in trained if name.startswith(("semantic.", "quantizer_s."))} <= kept
    assert not any(name.startswith("decoder.blocks") and name.endswith("weight") for name in kept)


def test_weights_that_travelled_in_half_precision_go_on_without_an_optimizer(data, tmp_path, monkeypatch):
    count_steps(monkeypatch, 3)
    stage_1(data, tmp_path)
    (tmp_path / "optimizer.pt").unlink()
    for name in ("model.safetensors", "average.safetensors"):
        held = load_file(tmp_path / name)
        save_file({key: value.half() if value.is_floating_point() else value for key, value in held.items()}, tmp_path / name)
    halved = load_file(tmp_path / "average.safetensors")
    count_steps(monkeypatch, 0)
    codec = stage_1(data, tmp_path)
    assert all(value.dtype == torch.float32 for value in codec.state_dict().values() if value.is_floating_point())
    assert all(torch.equal(value, halved[f"codec.{key}"].to(value)) for key, value in codec.state_dict().items())
    assert json.loads((tmp_path / "step.json").read_text())["step"] == 3


def test_what_is_compiled_learns_the_same_under_the_same_names(data, tmp_path, monkeypatch):
    """With a compiler that changes nothing: the real one takes minutes, and other tests would see what it changes in torch."""
    compiled, called = [], set()

    def light(function, **_):
        compiled.append(function.__qualname__)
        return lambda *arguments: (called.add(function.__qualname__), function(*arguments))[1]

    monkeypatch.setattr(torch, "compile", light)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: setattr(self, "forward", light(self.forward)))
    for name in ("semantic", "reconstruction", "adversarial"):
        for folder in ("plain", "compiled"):
            count_steps(monkeypatch, 1)
            STAGES[name](data, tmp_path / name / folder, replace(RUN, compile=folder == "compiled"))
        plain, other = (load_file(tmp_path / name / folder / "model.safetensors") for folder in ("plain", "compiled"))
        assert plain.keys() == other.keys()
        assert all(torch.equal(value, other[key]) for key, value in plain.items())
    assert compiled == ["Encoder.forward", *["Encoder.forward", "Encoder.forward", "Decoder.heads"] * 2]
    assert called == set(compiled)


def test_utterances_encoded_together_get_the_latents_they_have_alone(data):
    pool, student = data[0], make_codec()
    audio, frames = AudioStore(pool), [-(-u.samples // TINY.hop_s) for u in pool.utterances]
    alone = []
    for utterance, count in zip(pool.utterances, frames, strict=True):
        wave = audio.crop([Crop(utterance, 0, utterance.samples)], count * TINY.hop_s)
        alone.append(student_latents(student, wave, torch.tensor([utterance.samples]))[0])
    for seconds in (0.1, 3.0, 100.0):
        together = torch.full((sum(frames), TINY.semantic.quantizer.dim), torch.nan)
        batches = 0
        for at, found in pool_latents(student, audio, pool.utterances, seconds=seconds):
            together[at] = found
            batches += 1
        assert batches == {0.1: 6, 3.0: 2, 100.0: 1}[seconds]
        assert (together - torch.cat(alone)).abs().max() < 1e-5


def test_two_processes_end_with_equal_weights(data, tmp_path):
    """Two processes under torchrun, different examples each; the clock is a real one, so that their learning rates would differ."""
    pool = data[0]
    script = Path(__file__).with_name("train_two.py")
    folders = [str(path) for path in (pool.folder, *(pool.folder.with_name(name) for name in ("tokens", "pitch", "features")), tmp_path)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script), *folders]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    seen = [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in range(2)]
    assert len(seen[0]) == 16
    assert all(one != two for one, two in zip(*seen, strict=True))  # crops, and what is left out of them
    learnt = {"refine": "student.semantic.out.weight", "reconstruction": "codec.decoder.head.weight", "adversarial": "codec.decoder.head.weight"}
    for stage, key in learnt.items():
        one, two = (load_file(tmp_path / f"{stage}-{rank}.safetensors") for rank in range(2))
        start = load_file(tmp_path / f"{stage}-start.safetensors")
        assert [name for name in one if not torch.equal(one[name], two[name])] == []
        assert not torch.equal(one[key], start[key])


def test_a_run_folder_tells_what_it_was_trained_on_and_takes_nothing_else(data, tmp_path, monkeypatch):
    pool, _, tokens, pitch = data
    for _ in range(2):
        count_steps(monkeypatch, 1)
        stage_1(data, tmp_path)
    first, second = json.loads((tmp_path / "run.json").read_text())
    assert first == second
    assert first["utterances"]["number"] == 6
    assert (first["settings"]["batch"], first["run"]["seed"], first["processes"]) == (4, 0, 1)
    maker = ExampleMaker(pool, pool.utterances[1:], tokens, pitch, TINY, REBUILD, None, 0)
    with pytest.raises(TrainError, match="was trained on 6 other utterances than these 5; give the same pool"):
        train_reconstruction(make_codec(), maker, tmp_path, REBUILD, RUN)


def test_codecs_that_the_pool_does_not_fit_are_refused(data, tmp_path):
    pool, cache, tokens, pitch = data
    fast = replace(TINY, sample_rate=24000)
    with pytest.raises(TrainError, match="a codec for 24000 Hz, pools hold 16000 Hz"):
        LessonMaker(pool, pool.utterances, cache, tmp_path, fast, SemanticSettings(RUN))
    with pytest.raises(TrainError, match="a codec for 24000 Hz, pools hold 16000 Hz"):
        ExampleMaker(pool, pool.utterances, tokens, pitch, fast, REBUILD, None, 0)
    fine = replace(TINY, decoder=replace(TINY.decoder, hop=160, n_fft=640))
    with pytest.raises(TrainError, match="hop is 160 samples, pitch is known every 320"):
        ExampleMaker(pool, pool.utterances, tokens, pitch, fine, REBUILD, None, 0)


@pytest.mark.parametrize(("read", "name"), [(SemanticTokens, "s"), (PitchCache, "f0"), (FeatureCache, "features")])
def test_what_was_made_of_a_pool_in_another_order_is_refused(data, tmp_path, read, name):
    """The same utterances, as many frames: only their order tells."""
    pool = data[0]
    turned = Pool(pool.folder)
    turned.utterances.reverse()
    folder = pool.folder.with_name({"s": "tokens", "f0": "pitch", "features": "features"}[name])
    more = (TINY.hop_s,) if read is SemanticTokens else ()
    read(folder, pool, *more)
    with pytest.raises(TrainError, match="built anew; "):
        read(folder, turned, *more)


def test_fine_tuning_needs_recordings(tmp_path):
    (tmp_path / "loose.wav").touch()
    with pytest.raises(TrainError, match="holds no recordings; put the audio files of each speaker into a folder"):
        fine_tune(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_fine_tuning_needs_one_codebook_of_s(tmp_path):
    (tmp_path / "own" / "a").mkdir(parents=True)
    (tmp_path / "own" / "a" / "x.wav").touch()
    semantic = replace(TINY.semantic, quantizer=QuantizerConfig("rvq", 16, 2, 64))
    config = replace(TINY, name="two", semantic=semantic)
    save_stored(tmp_path / "model", config, Codec(config).state_dict())
    with pytest.raises(TrainError, match="the semantic quantizer of two is rvq; models with kind vq can be tuned"):
        fine_tune(tmp_path / "own", tmp_path / "out", model=tmp_path / "model")
    assert not (tmp_path / "out").exists()
