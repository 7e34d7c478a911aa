import dataclasses
import json
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from trainset import TINY, buzz, count_steps, make_codec, make_pool, make_teacher, write_manifest, write_tar
from unitoken import Tokenizer
from unitoken.cli.train import app
from unitoken.errors import TrainError
from unitoken.hub import save_stored
from unitoken.model.codec import Codec
from unitoken.model.encoding import ClipEncoder
from unitoken.train.handover import keep_config, load_codec, trained_codebook
from unitoken.train.like import codewords_like, keep_rest, narrow
from unitoken.train.pool import Pool
from unitoken.train.sampling import Crop
from unitoken.train.semantic import SemanticStudent
from unitoken.train.semantic_tokens import SemanticTokens
from unitoken.train.store import AudioStore

SET = ["--set", "run.warmup=1", "--set", "run.cooldown=0", "--set", "run.log_steps=1", "--set", "run.autocast=false"]


def call(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_from_recordings_to_a_model(tmp_path, monkeypatch):
    names = [f"s{number % 3}-{number}.flac" for number in range(6)]
    rows = [(name, "bench", name[:2], "en", "") for name in names]
    manifest = write_manifest(tmp_path / "m.tsv", rows)
    archive = write_tar(tmp_path / "a.tar", [(name, buzz(0.8, 120 + 30 * i, i), 16000) for i, name in enumerate(names)])
    valid = tmp_path / "valid.tsv"
    valid.write_text("source\tspeaker\nbench\ts2\n")
    pool, held_out = tmp_path / "pool", ["--valid-speakers", valid]
    assert "6 utterances" in call("pool", manifest, archive, "-o", pool)
    assert "6 utterances" in call("merge", pool, "-o", tmp_path / "merged")
    assert (tmp_path / "merged" / "audio.i16").read_bytes() == (pool / "audio.i16").read_bytes()
    assert "6 utterances" in call("speed", pool, "0.9", "-o", tmp_path / "slow")
    assert Pool(tmp_path / "slow").hours == pytest.approx(Pool(pool).hours / 0.9, rel=1e-3)
    teacher = make_teacher("hubert", tmp_path / "teacher")
    assert "features of 3 utterances" in call("features", pool, "-o", tmp_path / "f", "--teacher", teacher, "--shard", "0/2", "--layer", "1")
    assert "features of 3 utterances" in call("features", pool, "-o", tmp_path / "f", "--teacher", teacher, "--shard", "1/2", "--layer", "1")
    call("pitch", pool, "-o", tmp_path / "pitch")
    count_steps(monkeypatch, 2)
    small = ["--set", "batch=2", "--set", "seconds=0.5"]
    said = call("semantic", pool, "--features", tmp_path / "f", "-o", tmp_path / "0", *held_out, "--config", "tiny", "--device", "cpu", *SET, *small)
    assert re.search(r"missed of the teacher's features: \d\.\d{4} on speakers learnt, \d\.\d{4} on speakers held out", said)
    assert "codebook of 64" in call("codebook", tmp_path / "0", pool, "-o", tmp_path / "codec", *held_out, "--device", "cpu")
    count_steps(monkeypatch, 1)
    refined = [tmp_path / "codec", pool, "--features", tmp_path / "f", "-o", tmp_path / "refined", *held_out, "--device", "cpu"]
    call("refine", *refined, *SET, *small, "--set", "still=0")
    assert "codebook of 64" in call("codebook", tmp_path / "refined", pool, "-o", tmp_path / "codec", *held_out, "--device", "cpu")
    assert torch.equal(load_codec(tmp_path / "codec").quantizer_s.codebook, trained_codebook(tmp_path / "refined"))
    count_steps(monkeypatch, 2)
    shared = ["--pitch", tmp_path / "pitch", *held_out, "--device", "cpu", *SET]
    call("reconstruct", tmp_path / "codec", pool, "-o", tmp_path / "1", *shared, *small, "--set", "swapped=2", "--teacher", teacher)
    count_steps(monkeypatch, 1)
    light = [
        "--set",
        "discriminators.channels=2",
        "--set",
        "reconstruction.batch=2",
        "--set",
        "reconstruction.swapped=2",
        "--set",
        "warmup=0",
        "--teacher",
        teacher,
    ]
    call("adversarial", tmp_path / "1", pool, "-o", tmp_path / "2", "--tokens", tmp_path / "codec", *shared, *light)
    assert "adversarial run" in call("adversarial", tmp_path / "codec", pool, "-o", tmp_path / "own", "--tokens", tmp_path / "codec", *shared, *light)
    measures = json.loads(call("validate", tmp_path / "2", pool, *held_out, "--limit", "1"))
    assert measures["clips"] == 1
    call("plot", tmp_path / "1")
    assert (tmp_path / "1" / "curves.png").is_file()
    out = call("export", tmp_path / "2", "-o", tmp_path / "model", "--name", "mine-1", "--weights-licence", "CC-BY-4.0", "--max-part-mb", "0.05")
    model = Tokenizer.from_pretrained(tmp_path / "model")
    assert out.startswith(model.fingerprint)
    assert (model.config.name, model.config.weights_licence) == ("mine-1", "CC-BY-4.0")
    assert model.config.semantic == TINY.semantic
    weights = tmp_path / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.unlink()
    call("join", tmp_path / "model" / "model.safetensors.pieces.json")
    assert weights.read_bytes() == whole
    call("split", weights, "-o", tmp_path / "split", "--max-part-mb", "0.1")
    assert len(list((tmp_path / "split").glob("model.safetensors.0*"))) == -(-len(whole) // 100_000)


def test_a_new_semantic_encoder_for_a_trained_codec(tmp_path):
    old, pool, student = make_codec(), make_pool(tmp_path, 2, 3), SemanticStudent(TINY)
    save_stored(tmp_path / "old", TINY, old.state_dict(), dtype=torch.float32)
    for name, state in (
        ("semantic", student.state_dict()),
        ("refined", {"trainer.quantizer.codebook": torch.randn(64, 16)} | {f"student.{key}": value for key, value in student.state_dict().items()}),
    ):
        keep_config(tmp_path / name, TINY)
        save_file(state, tmp_path / name / "average.safetensors")

    def kept(run, *more):
        out = call("codebook", tmp_path / run, pool.folder, "-o", tmp_path / "new", "--like", tmp_path / "old", "--device", "cpu", *more)
        assert "codebook of 64" in out
        made = load_codec(tmp_path / "new")
        assert torch.equal(made.decoder.head.weight, old.decoder.head.weight)
        return made

    made = kept("semantic")
    assert torch.equal(made.semantic.out.weight, student.semantic.out.weight)
    assert torch.equal(made.quantizer_s.codebook, codewords_like(old.eval(), student.eval(), pool, pool.utterances))
    said = SemanticTokens(tmp_path / "new", pool, TINY.hop_s).data.long()
    assert torch.equal(
        keep_rest(old, student, made.quantizer_s.codebook, torch.bincount(said, minlength=64)).decoder.from_s.weight, made.decoder.from_s.weight
    )
    assert not torch.equal(made.decoder.from_s.weight, old.decoder.from_s.weight)
    assert kept("semantic", "--dim", "6").quantizer_s.codebook.shape == (64, 6)
    assert torch.equal(kept("refined").quantizer_s.codebook, trained_codebook(tmp_path / "refined"))
    axes = narrow(student, 6, pool, pool.utterances)[1]
    assert torch.equal(kept("refined", "--dim", "6").quantizer_s.codebook, trained_codebook(tmp_path / "refined") @ axes)


def test_the_tokens_of_a_trained_codec_are_those_that_it_encodes(tmp_path):
    pool, codec = make_pool(tmp_path / "pool"), make_codec().eval()
    save_stored(tmp_path / "codec", codec.config, codec.state_dict(), dtype=torch.float32)
    assert "of the codebook used" in call("tokens", tmp_path / "codec", pool.folder, "-o", tmp_path / "tokens", "--device", "cpu")
    said, audio, utterance = SemanticTokens(tmp_path / "tokens", pool, TINY.hop_s), AudioStore(pool), pool.utterances[-1]
    whole = [Crop(utterance, 0, utterance.samples)]
    own = ClipEncoder(codec).encode([audio.crop(whole, utterance.samples)[0]])[0].s[:, 0]
    assert len(set(own.tolist())) > 1
    assert torch.equal(said.crop(whole, len(own))[0], own)


def test_tokens_need_one_codebook(tmp_path):
    config = dataclasses.replace(TINY, semantic=dataclasses.replace(TINY.semantic, quantizer=TINY.global_.quantizer))
    save_stored(tmp_path / "fsq", config, Codec(config).state_dict(), dtype=torch.float32)
    with pytest.raises(TrainError, match="the semantic quantizer of tiny is fsq; use kind vq"):
        call("tokens", tmp_path / "fsq", tmp_path / "pool", "-o", tmp_path / "tokens", "--device", "cpu")


def test_codecs_are_averaged_and_cut(tmp_path):
    codecs = [make_codec() for _ in range(2)]
    torch.nn.init.ones_(codecs[1].decoder.head.weight)
    for name, codec in zip("ab", codecs, strict=True):
        save_stored(tmp_path / name, codec.config, codec.state_dict(), dtype=torch.float32)
    call("average", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "mean")
    assert torch.equal(load_codec(tmp_path / "mean").decoder.head.weight, (codecs[0].decoder.head.weight + 1) / 2)
    call("subframes", tmp_path / "mean", "-o", tmp_path / "cut")
    assert load_codec(tmp_path / "cut").config.decoder.subframes == 2
    call("lookahead", tmp_path / "cut", "-o", tmp_path / "live", "--frames", "0")
    assert load_codec(tmp_path / "live").config.decoder.lookahead_frames == 0


def test_an_unknown_setting_is_named_before_any_work(tmp_path):
    with pytest.raises(TrainError, match="unknown setting 'batchh'"):
        call("reconstruct", tmp_path / "codec", tmp_path / "pool", "-o", tmp_path / "1", "--pitch", tmp_path, "--set", "batchh=2")
    with pytest.raises(TrainError, match="unknown setting 'warm'"):
        call("semantic", tmp_path / "pool", "--features", tmp_path, "-o", tmp_path / "0", "--set", "run.warm=2")
    assert list(tmp_path.iterdir()) == []


def test_compiling_is_asked_for_by_an_option_or_a_setting():
    from unitoken.cli.train_inputs import run_settings

    asked = [run_settings(given, 1.0, 1e-3, option)[0].compile for given, option in ((None, False), (None, True), (["run.compile=true"], False))]
    assert asked == [False, True, True]
    for command in ("semantic", "refine", "reconstruct", "adversarial"):
        assert "--compile" in CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output


def test_torchrun_takes_no_option_of_a_stage_for_its_own():
    """It looks through all arguments for shortened options of its own, those behind the script too: `--start` was refused."""
    import typer
    from torch.distributed.run import get_args_parser

    group = typer.main.get_command(app)
    for command in ("semantic", "refine", "reconstruct", "adversarial"):
        for option in (name for parameter in group.commands[command].params for name in parameter.opts if name.startswith("-")):
            parsed = get_args_parser().parse_args(["--nproc-per-node", "2", "-m", "unitoken", "train", command, option, "x"])
            assert parsed.training_script_args == ["train", command, option, "x"]


@pytest.mark.parametrize("shard", ["2/2", "1", "a/b", "-1/2"])
def test_a_wrong_shard_is_a_usage_error(tmp_path, shard):
    result = CliRunner().invoke(app, ["features", str(tmp_path), "-o", str(tmp_path / "f"), "--teacher", "x", "--shard", shard])
    assert result.exit_code == 2


def test_a_stage_of_one_process_refuses_several(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    from unitoken.cli.train_inputs import one_device

    with pytest.raises(TrainError, match="runs in one process"):
        one_device("cpu")


def test_help_loads_nothing_heavy():
    code = "import sys; from typer.testing import CliRunner; from unitoken.cli.train import app; r = CliRunner().invoke(app, ['semantic', '--help'])"
    check = "sys.exit(r.exit_code or any(name in sys.modules for name in ('transformers', 'matplotlib', 'swift_f0', 'unitoken.train.run')))"
    assert subprocess.run([sys.executable, "-c", f"{code}; {check}"], check=False).returncode == 0
