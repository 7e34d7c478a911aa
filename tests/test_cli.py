"""The command line: what it writes is what the API gives, it loses no file, goes on past bad ones, and says what went wrong where."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import unitoken
from unitoken import TokenBundle, Tokenizer, hub, load_audio, save_audio
from unitoken.cli import app, main, progress, work
from unitoken.cli.evaluate import ChangeName, CodecName, Metric
from unitoken.cli.messages import UsageError
from unitoken.cli.paths import plan
from unitoken.errors import ModelError
from unitoken.evaluate.baselines import CODEC2_MODES
from unitoken.evaluate.changes import CHANGES
from unitoken.evaluate.lyra import RATES
from unitoken.evaluate.measures import METRICS
from unitoken.hub import save_stored
from unitoken.model.codec import Codec
from unitoken.presets import preset

RATE = 16000


def save_model(folder, seed):
    torch.manual_seed(seed)
    save_stored(folder, preset("tiny"), Codec(preset("tiny")).state_dict())
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folders of two tiny models with other weights."""
    root = tmp_path_factory.mktemp("models")
    return save_model(root / "first", 0), save_model(root / "second", 1)


@pytest.fixture(scope="module")
def tokenizer(models):
    return Tokenizer.from_pretrained(models[0])


@pytest.fixture
def run(models):
    """Run a command; those that compute get the first model unless they name one."""

    def call(command, *arguments, code=0):
        with_model = command in ("encode", "decode", "convert", "evaluate") and "--model" not in arguments
        result = CliRunner().invoke(app, [command, *map(str, arguments), *(("--model", models[0]) if with_model else ())])
        assert result.exit_code == code, result.output + repr(result.exception)
        return result

    return call


def clip(path, seconds=0.3, seed=0, level=0.1):
    """Write noise to a new audio file and return its path; to the tiny models another level is another voice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_audio(path, level * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed)), RATE)
    return path


def broken(path):
    path.write_bytes(b"this is no audio")
    return path


def not_finite(path):
    """Write audio whose header is fine and whose samples are not."""
    soundfile.write(path, torch.full((800,), torch.nan).numpy(), RATE, subtype="FLOAT")
    return path


def tree(folder):
    """Return the files below a folder with their contents, hidden and temporary ones included."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def samples(path):
    return load_audio(path)[0]


def written(tmp_path, waveform):
    """Return a waveform as it comes back from a WAV file."""
    save_audio(tmp_path / ".expected.wav", waveform, RATE)
    return samples(tmp_path / ".expected.wav")


# encode


def test_encode_writes_beside_the_file(run, tokenizer, tmp_path):
    source = clip(tmp_path / "talk.v2.wav")
    result = run("encode", source)
    assert TokenBundle.load(tmp_path / "talk.v2.utok") == tokenizer.encode(source)
    assert result.stdout == ""
    assert result.stderr.startswith("encoded 1 clip, 0:00:00 of audio in ")


def test_encode_keeps_the_tree_and_takes_audio_only(run, tokenizer, tmp_path):
    source = tmp_path / "in"
    clips = [clip(source / "a.wav", 0.2, 1), clip(source / "deep/er/b.FLAC", 0.4, 2), clip(source / "deep/c.wav", 0.1, 3)]
    clip(source / ".hidden/d.wav")
    clip(source / "._a.wav")
    (source / "notes.txt").write_text("no audio")
    run("encode", source, "-o", tmp_path / "out")
    assert sorted(tree(tmp_path / "out")) == ["a.utok", "deep/c.utok", "deep/er/b.utok"]
    for path in clips:
        target = (tmp_path / "out" / path.relative_to(source)).with_suffix(".utok")
        assert TokenBundle.load(target) == tokenizer.encode(path)


def test_encode_takes_files_and_folders_together(run, tmp_path):
    clip(tmp_path / "in/deep/a.wav")
    run("encode", tmp_path / "in", clip(tmp_path / "other/b.wav"), "-o", tmp_path / "out")
    assert sorted(tree(tmp_path / "out")) == ["b.utok", "deep/a.utok"]


def test_encode_goes_in_batches(run, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "BATCH_S", 0.5)
    sizes = []
    encode = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, audio: sizes.append(len(audio)) or encode(self, audio))
    for index, seconds in enumerate((0.2, 0.2, 0.2, 0.6, 0.1)):
        clip(tmp_path / f"in/{index}.wav", seconds, index)
    run("encode", tmp_path / "in", "-o", tmp_path / "out")
    assert sizes == [2, 1, 1, 1]
    for index in range(5):
        assert TokenBundle.load(tmp_path / f"out/{index}.utok") == encode(tokenizer, tmp_path / f"in/{index}.wav")


@given(st.lists(st.sampled_from([0.0, 0.5, 20.0, 30.0, 60.0, 61.0, 500.0])))
def test_batches_are_full_and_in_order(seconds):
    items = [work.Item(Path(str(index)), Path("x"), length) for index, length in enumerate(seconds)]
    found = list(work.batches(items))
    assert [item for batch in found for item in batch] == items
    for batch, after in zip(found, [*found[1:], []], strict=bool(found)):
        total = sum(item.seconds for item in batch)
        assert len(batch) == 1 or total <= work.BATCH_S
        assert not after or total + after[0].seconds > work.BATCH_S


# decode


@pytest.fixture
def token_file(tokenizer, tmp_path):
    path = tmp_path / "talk.utok"
    tokenizer.encode(clip(tmp_path / "talk/source.wav", 0.5)).save(path)
    return path


def test_decode_writes_what_the_tokenizer_decodes(run, tokenizer, token_file, tmp_path):
    run("decode", token_file)
    expected = written(tmp_path, tokenizer.decode(TokenBundle.load(token_file)))
    assert torch.equal(samples(tmp_path / "talk.wav"), expected)


def test_decode_without_p(run, tokenizer, token_file, tmp_path):
    run("decode", token_file, "--without-p", "-o", tmp_path / "x.wav")
    bundle = TokenBundle.load(token_file)
    expected = written(tmp_path, tokenizer.decode(bundle.replace(p=None)))
    assert not torch.equal(expected, written(tmp_path, tokenizer.decode(bundle)))
    assert torch.equal(samples(tmp_path / "x.wav"), expected)


@pytest.mark.parametrize("kind", ["audio", "tokens"])
def test_decode_in_another_voice(run, tokenizer, token_file, tmp_path, kind):
    reference = clip(tmp_path / "voice.wav", 0.5, level=0.001)
    g = tokenizer.encode_global(reference)
    if kind == "tokens":
        reference = tmp_path / "voice.utok"
        TokenBundle.load(token_file).replace(g=g).save(reference)
    run("decode", token_file, "--voice", reference, "-o", tmp_path / "x.wav")
    bundle = TokenBundle.load(token_file)
    assert not torch.equal(bundle.g, g)
    assert torch.equal(samples(tmp_path / "x.wav"), written(tmp_path, tokenizer.decode(bundle.replace(g=g))))


@pytest.mark.parametrize(
    ("arguments", "name", "kind"),
    [(["-o", "x.flac"], "x.flac", "FLAC"), (["--format", "ogg"], "talk.ogg", "OGG"), (["-o", "x.MP3"], "x.MP3", "MP3")],
)
def test_decode_format(run, token_file, tmp_path, monkeypatch, arguments, name, kind):
    monkeypatch.chdir(tmp_path)
    run("decode", token_file, *arguments)
    assert soundfile.info(tmp_path / name).format == kind


def test_decode_format_must_fit_the_suffix(run, token_file, tmp_path):
    result = run("decode", token_file, "--format", "flac", "-o", tmp_path / "x.wav", code=2)
    assert "x.wav must end in .flac" in result.stderr


def test_decode_numbers_the_bundles_of_one_file(run, tokenizer, tmp_path):
    bundles = [tokenizer.encode(clip(tmp_path / f"{index}.wav", 0.1, index)) for index in range(11)]
    (tmp_path / "in").mkdir()
    TokenBundle.save_many(tmp_path / "in/many.utok", bundles)
    run("decode", tmp_path / "in", "-o", tmp_path / "out")
    assert sorted(tree(tmp_path / "out")) == [f"many-{index:02}.wav" for index in range(11)]
    assert torch.equal(samples(tmp_path / "out/many-10.wav"), written(tmp_path, tokenizer.decode(bundles[10])))


def test_decode_refuses_an_empty_token_file(run, tmp_path):
    TokenBundle.save_many(tmp_path / "none.utok", [])
    assert "none.utok holds no bundle" in run("decode", tmp_path / "none.utok", code=1).stderr


def test_decode_refuses_another_model_unless_told(run, models, tokenizer, token_file, tmp_path):
    result = run("decode", token_file, "--model", models[1], code=1)
    assert f"talk.utok was made by the model tiny ({tokenizer.fingerprint:.8})" in result.stderr
    assert "add --ignore-fingerprint" in result.stderr
    run("decode", token_file, "--model", models[1], "--ignore-fingerprint")
    expected = Tokenizer.from_pretrained(models[1]).decode(TokenBundle.load(token_file), force=True)
    assert torch.equal(samples(tmp_path / "talk.wav"), written(tmp_path, expected))


def test_voice_of_another_model_is_refused(run, models, token_file, tmp_path):
    other = tmp_path / "other.utok"
    Tokenizer.from_pretrained(models[1]).encode(clip(tmp_path / "voice.wav")).save(other)
    assert "other.utok was made by the model" in run("decode", token_file, "--voice", other, code=1).stderr
    assert not (tmp_path / "talk.wav").exists()


def test_voice_needs_global_tokens(run, token_file, tmp_path):
    TokenBundle.load(token_file).replace(g=None).save(tmp_path / "no-voice.utok")
    assert "no-voice.utok has no global tokens" in run("decode", token_file, "--voice", tmp_path / "no-voice.utok", code=1).stderr


# convert


def test_convert_takes_the_voice_of_all_references(run, tokenizer, tmp_path):
    source, voices = clip(tmp_path / "talk.wav"), [clip(tmp_path / f"voice{level}.wav", 0.4, level=level) for level in (0.3, 0.001)]
    run("convert", source, "--voice", voices[0], "--voice", voices[1], "-o", tmp_path / "out.wav")
    bundle = tokenizer.encode(source).replace(g=tokenizer.encode_global(voices))
    for other in (source, *voices):
        assert not torch.equal(bundle.g, tokenizer.encode_global(other))
    assert torch.equal(samples(tmp_path / "out.wav"), written(tmp_path, tokenizer.decode(bundle)))


def test_convert_never_replaces_its_source(run, tmp_path):
    source = clip(tmp_path / "talk.wav")
    before = source.read_bytes()
    result = run("convert", source, "--voice", source, "-o", tmp_path / "x/../talk.wav", "--force", code=2)
    assert "talk.wav would be replaced although it is read" in result.stderr
    assert source.read_bytes() == before


def test_convert_writes_the_format_asked_for(run, tmp_path):
    source = clip(tmp_path / "talk.wav")
    run("convert", source, "--voice", source, "-o", tmp_path / "out", "--format", "flac")
    assert soundfile.info(tmp_path / "out/talk.flac").format == "FLAC"


def test_convert_refuses_a_voice_of_another_model(run, models, tmp_path):
    source = clip(tmp_path / "talk.wav")
    Tokenizer.from_pretrained(models[1]).encode(source).save(tmp_path / "other.utok")
    arguments = ("convert", source, "--voice", tmp_path / "other.utok", "-o", tmp_path / "x.wav")
    assert "other.utok was made by the model" in run(*arguments, code=1).stderr
    run(*arguments, "--ignore-fingerprint")
    assert (tmp_path / "x.wav").exists()


@pytest.mark.parametrize("command", ["encode", "decode", "convert", "evaluate"])
def test_revision_and_device_reach_the_loader(run, models, tokenizer, token_file, tmp_path, monkeypatch, command):
    source = clip(tmp_path / "talk.wav", 0.5)
    (tmp_path / "m.tsv").write_text("path\tsource\tspeaker\tlanguage\tseconds\ttranscript\ntalk.wav\tx\ty\ten\t0.5\t\n")
    seen = []
    monkeypatch.setattr(Tokenizer, "from_pretrained", lambda *a, **k: (seen.append((a, k)), tokenizer)[1])
    inputs = {"encode": [source], "decode": [token_file], "evaluate": [tmp_path / "m.tsv", "--metric", "codebooks"]}
    output = () if command == "evaluate" else ("-o", tmp_path / "out")
    given = inputs.get(command, [source, "--voice", source])
    run(command, *given, *output, "--model", "org/name", "--revision", "v1", "--device", "meta")
    assert seen == [(("org/name",), {"revision": "v1", "device": "meta"})]


def test_progress_and_the_last_line_count_the_audio(run, tmp_path, monkeypatch):
    for name, seconds in (("a", 90.0), ("b", 31.0)):
        clip(tmp_path / f"in/{name}.wav", seconds)
    seen = []
    monkeypatch.setattr(progress.Meter, "update", lambda self, done, total: seen.append((done * 3600, total * 3600)))
    assert "encoded 2 clips, 0:02:01 of audio in " in run("encode", tmp_path / "in", "-o", tmp_path / "out").stderr
    assert seen == [pytest.approx(pair) for pair in ((0, 121), (90, 121), (121, 121))]


def test_convert_takes_one_token_file_only(run, token_file, tmp_path):
    source = tmp_path / "talk/source.wav"
    result = run("convert", source, "--voice", token_file, "--voice", source, "-o", tmp_path / "x.wav", code=2)
    assert "give no other --voice beside it" in result.stderr


# where results go


@pytest.mark.parametrize(
    ("inputs", "output", "expected"),
    [
        (["a.wav"], None, ["a.utok"]),
        (["in/b.wav"], None, ["in/b.utok"]),
        (["a.wav", "in/b.wav"], None, ["a.utok", "in/b.utok"]),
        (["a.wav"], "x.utok", ["x.utok"]),
        (["a.wav"], "new", ["new/a.utok"]),
        (["a.wav"], "made.d", ["made.d/a.utok"]),
        (["a.wav", "in/b.wav"], "new", ["new/a.utok", "new/b.utok"]),
        (["in"], "new", ["new/b.utok", "new/deep/c.utok"]),
        (["a.wav", "in/deep"], "new", ["new/a.utok", "new/c.utok"]),
    ],
)
def test_plan(tmp_path, monkeypatch, inputs, output, expected):
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "in/b.wav", "in/deep/c.wav", "made.d/x"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    jobs = plan([Path(name) for name in inputs], output and Path(output), (".wav",), ".utok")
    assert [job.target.as_posix() for job in jobs] == expected


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (["a.wav"], "x.wav", r"-o x\.wav must end in \.utok, or name a folder"),
        (["a.wav"], "b.wav", r"-o b\.wav must end in \.utok"),
        (["a.wav", "b.wav"], "x.utok", r"-o x\.utok names a file, but there is more than one"),
        (["in"], "a.wav", r"-o a\.wav names a file"),
        (["in"], None, "in is a folder; say with -o"),
        (["in"], "new", r"the folder in holds no files that end in \.wav"),
    ],
)
def test_plan_refuses(tmp_path, monkeypatch, inputs, output, message):
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.wav"):
        Path(name).touch()
    Path("in").mkdir()
    with pytest.raises(UsageError, match=message):
        plan([Path(name) for name in inputs], output and Path(output), (".wav",), ".utok")


def test_two_files_never_become_one(run, tokenizer, tmp_path):
    clip(tmp_path / "in/0.wav")
    clip(tmp_path / "in/a.flac")
    clip(tmp_path / "in/a.wav")
    result = run("encode", tmp_path / "in", "-o", tmp_path / "out", "--force", code=1)
    assert result.stderr.startswith("encoded 2 clips, ")
    assert f"1 of 3 files failed:\n  {tmp_path / 'in/a.wav'}: {tmp_path / 'in/a.flac'} becomes {tmp_path / 'out/a.utok'} too; " in result.stderr
    assert TokenBundle.load(tmp_path / "out/a.utok") == tokenizer.encode(tmp_path / "in/a.flac")


def test_a_file_named_twice_is_done_once(run, tmp_path):
    source = clip(tmp_path / "in/a.wav")
    assert "encoded 1 clip" in run("encode", source, tmp_path / "in", source, "-o", tmp_path / "out").stderr
    assert list(tree(tmp_path / "out")) == ["a.utok"]


def test_a_device_out_of_memory_fails_for_its_file_alone(run, tokenizer, tmp_path, monkeypatch):
    clips = [clip(tmp_path / f"in/{name}.wav", seconds) for name, seconds in (("a", 0.2), ("b", 0.9), ("c", 0.3))]
    encode = Tokenizer.encode

    def failing(self, audio, **more):
        if clips[1] in audio:
            raise RuntimeError("CUDA out of memory")
        return encode(self, audio, **more)

    monkeypatch.setattr(Tokenizer, "encode", failing)
    result = run("encode", tmp_path / "in", "-o", tmp_path / "out", code=1)
    assert f"1 of 3 files failed:\n  {clips[1]}: RuntimeError: CUDA out of memory\n" in result.stderr
    assert sorted(tree(tmp_path / "out")) == ["a.utok", "c.utok"]


@pytest.mark.parametrize("command", ["encode", "convert"])
def test_a_file_cut_short_fails(run, tmp_path, command):
    """Of an MP3 the decoder gives what is there, without a word."""
    whole = clip(tmp_path / "whole.mp3", 4.0)
    half = tmp_path / "half.mp3"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    voice = ("--voice", whole) if command == "convert" else ()
    result = run(command, half, whole, "-o", tmp_path / "out", *voice, code=1)
    assert "half.mp3 is cut short: 1.9 s of 4.0 s can be decoded; take another copy" in result.stderr
    assert [Path(name).stem for name in tree(tmp_path / "out")] == ["whole"]


def test_an_existing_result_is_replaced_only_with_force(run, tokenizer, tmp_path):
    sources = [clip(tmp_path / "a.wav"), clip(tmp_path / "b.wav", seed=1)]
    (tmp_path / "b.utok").write_text("precious")
    before = tree(tmp_path)
    result = run("encode", *sources, code=2)
    assert result.stderr == f"unitoken: {tmp_path / 'b.utok'} exists; add --force to replace it, or give another -o\n"
    assert tree(tmp_path) == before
    run("encode", *sources, "--force")
    assert TokenBundle.load(tmp_path / "b.utok") == tokenizer.encode(sources[1])


def test_existing_results_are_counted(run, tmp_path):
    for name in "abc":
        clip(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.utok").touch()
    result = run("encode", *(tmp_path / f"{name}.wav" for name in "abc"), code=2)
    assert "a.utok exists (and 2 more files);" in result.stderr


# what goes wrong


@pytest.mark.parametrize(("spoil", "reason"), [(broken, "cannot decode"), (not_finite, "NaN or infinite")])
def test_a_bad_file_stops_no_other(run, tokenizer, tmp_path, spoil, reason):
    good = [clip(tmp_path / "in/a.wav", 0.2, 1), clip(tmp_path / "in/c.wav", 0.3, 2)]
    bad = spoil(tmp_path / "in/b.wav")
    result = run("encode", tmp_path / "in", "-o", tmp_path / "out", code=1)
    assert sorted(tree(tmp_path / "out")) == ["a.utok", "c.utok"]
    for path in good:
        assert TokenBundle.load(tmp_path / "out" / f"{path.stem}.utok") == tokenizer.encode(path)
    *_, count, failed = result.stderr.splitlines()
    assert "encoded 2 clips" in result.stderr
    assert count == "1 of 3 files failed:"
    assert failed.startswith(f"  {bad}: ")
    assert reason in failed


def test_a_damaged_token_file_stops_no_other(run, tokenizer, tmp_path):
    for name in "ab":
        tokenizer.encode(clip(tmp_path / f"{name}.wav")).save(tmp_path / f"{name}.utok")
    data = (tmp_path / "a.utok").read_bytes()
    (tmp_path / "a.utok").write_bytes(data[:-1])
    result = run("decode", tmp_path / "a.utok", tmp_path / "b.utok", "-o", tmp_path / "out", code=1)
    assert sorted(tree(tmp_path / "out")) == ["b.wav"]
    assert "1 of 2 files failed:" in result.stderr
    assert "cut short" in result.stderr


def test_a_target_that_cannot_be_written_stops_no_other(run, tmp_path):
    sources = [clip(tmp_path / "a.wav"), clip(tmp_path / "b.wav")]
    (tmp_path / "out/a.utok/taken").mkdir(parents=True)
    result = run("encode", *sources, "-o", tmp_path / "out", "--force", code=1)
    assert "1 of 2 files failed:" in result.stderr
    assert list(tree(tmp_path / "out")) == ["b.utok"]


def test_an_interrupt_leaves_no_partial_file(run, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "BATCH_S", 0.1)
    replace, calls = os.replace, []

    def interrupted(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr("os.replace", interrupted)
    for name in "abc":
        clip_path = tmp_path / f"in/{name}.wav"
        clip_path.parent.mkdir(exist_ok=True)
        soundfile.write(clip_path, torch.zeros(3200).numpy(), RATE)
    result = run("encode", tmp_path / "in", "-o", tmp_path / "out", code=130)
    assert list(tree(tmp_path / "out")) == ["a.utok"]
    assert TokenBundle.load(tmp_path / "out/a.utok").num_samples == 3200
    assert "Traceback" not in result.output


def test_an_error_is_one_line(run, tmp_path):
    result = run("encode", clip(tmp_path / "a.wav"), "--model", tmp_path / "nowhere", code=1)
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"unitoken: unknown model '{tmp_path}/nowhere'; packaged models: ")


def test_an_error_of_several_lines_is_one_line(run, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ModelError("first\nsecond")

    monkeypatch.setattr(Tokenizer, "from_pretrained", fail)
    assert run("encode", clip(tmp_path / "a.wav"), code=1).stderr == "unitoken: first second\n"


@pytest.mark.parametrize("arguments", [["encode"], ["encode", "no-such-file.wav"], ["nonsense"], ["encode", "--nonsense"], ["convert", __file__]])
def test_wrong_usage_exits_with_2(arguments):
    assert CliRunner().invoke(app, arguments).exit_code == 2


# info and models


def test_info_of_a_token_file(run, tokenizer, tmp_path):
    bundle = tokenizer.encode(clip(tmp_path / "a.wav", 0.3))
    TokenBundle.save_many(tmp_path / "two.utok", [bundle, bundle.replace(p=None, g=None)])
    facts = json.loads(run("info", tmp_path / "two.utok", "--json").stdout)
    assert (facts["kind"], facts["tokenizer"], facts["fingerprint"]) == ("tokens", "tiny", tokenizer.fingerprint)
    assert facts["bytes"] == (tmp_path / "two.utok").stat().st_size
    assert facts["s"] == {"frame_rate": 25.0, "hop": 640, "num_codebooks": 1, "codebook_size": 64}
    whole, s_only = facts["bundles"]
    assert whole == {
        "seconds": 0.3,
        "samples": 4800,
        "s_frames": 8,
        "p_frames": 8,
        "g_tokens": 2,
        "bits": 8 * 6 + 8 * 6 + 2 * 4,
        "numerics": bundle.numerics,
    }
    assert (s_only["p_frames"], s_only["g_tokens"], s_only["bits"]) == (None, None, 48)
    lines = run("info", tmp_path / "two.utok").stdout.splitlines()
    assert lines[-3] == "bundles: 2"
    assert lines[-1].startswith("  1: seconds 0.3, samples 4800, s_frames 8, p_frames none, g_tokens none, bits 48, ")


def test_info_of_an_empty_token_file(run, tmp_path):
    TokenBundle.save_many(tmp_path / "none.utok", [])
    facts = json.loads(run("info", tmp_path / "none.utok", "--json").stdout)
    assert facts["bundles"] == []
    assert "tokenizer" not in facts


def test_info_of_an_audio_file(run, tmp_path):
    facts = json.loads(run("info", clip(tmp_path / "a.flac", 0.25), "--json").stdout)
    assert facts == {
        "kind": "audio",
        "path": str(tmp_path / "a.flac"),
        "sample_rate": RATE,
        "channels": 1,
        "samples": 4000,
        "format": "FLAC",
        "seconds": 0.25,
    }


def test_info_of_a_model(run, tokenizer, models):
    facts = json.loads(run("info", models[0], "--json").stdout)
    assert facts["fingerprint"] == tokenizer.fingerprint
    assert facts["bitrate"] == 300.0
    assert facts["global_bits"] == 8
    assert facts["parameters"] == sum(tensor.numel() for tensor in Codec(preset("tiny")).state_dict().values())
    assert f"fingerprint: {tokenizer.fingerprint}\n" in run("info", models[0]).stdout


def test_info_of_a_damaged_file_fails(run, tmp_path):
    (tmp_path / "bad.utok").write_bytes(b"UTOK")
    assert "cut short" in run("info", tmp_path / "bad.utok", code=1).stderr


@pytest.mark.parametrize("name", ["org/name.wav", "gone.utok"])
def test_info_of_a_missing_file_asks_no_hub(run, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("unitoken.cli.show.load_stored", lambda *_, **__: pytest.fail("a file name was taken for a model"))
    assert f"no such file: {name}" in run("info", name, code=2).stderr


def test_models(run, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "WEIGHTS_ROOT", tmp_path)
    result = run("models")
    assert result.stdout == ""
    assert "no models came with this package" in result.stderr
    save_model(tmp_path / hub.DEFAULT_MODEL, 0)
    (facts,) = json.loads(run("models", "--json").stdout)
    assert facts == json.loads(run("info", hub.DEFAULT_MODEL, "--json").stdout) | {"default": True}
    header, row = run("models").stdout.splitlines()
    assert header.split()[:2] == ["name", "Hz"]
    assert row.startswith("tiny (default)  16000  25  ")
    assert row.endswith(tokenizer.fingerprint)
    assert header.index("fingerprint") == row.index(tokenizer.fingerprint)


# evaluate


@pytest.fixture
def manifest(tmp_path):
    rows = [f"{clip(tmp_path / f'{index}.wav', 0.5, index).name}\tnoise\tx\ten\t0.5\t" for index in range(3)]
    path = tmp_path / "clips.tsv"
    path.write_text("\n".join(["path\tsource\tspeaker\tlanguage\tseconds\ttranscript", *rows]) + "\n")
    return path


def test_evaluate_degrades(run, manifest):
    assert [change.value for change in ChangeName] == [*CHANGES]
    table = run("evaluate", manifest, "--metric", "signal", "-c", "original", "--degrade", "room", "--degrade", "noise-5").stdout
    assert [line.split(" |")[0] for line in table.splitlines() if line.startswith("| original")] == [
        "| original",
        "| original, room of 0.4 s",
        "| original, noise 5 dB",
    ]


def test_evaluate_prints_and_saves_the_report(run, manifest, tmp_path):
    arguments = (manifest, "--metric", "codebooks", "--limit", "2", "-o", tmp_path / "out")
    result = run("evaluate", *arguments)
    assert result.stdout == (tmp_path / "out/report.md").read_text()
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert [codec["codec"] for codec in report["codecs"]] == ["original", "unitoken S+G+P"]
    assert [codec["clips"] for codec in report["codecs"]] == [2, 2]
    assert report["codecs"][1]["global_bits_per_clip"] == 8
    assert f"{tmp_path / 'out/report.md'} exists (and 3 more files);" in run("evaluate", *arguments, code=2).stderr
    assert run("evaluate", *arguments, "--force").stdout.startswith("# Evaluation\n")


def test_evaluate_compares_models_and_streams(run, models, manifest):
    names = ("unitoken-no-p", "unitoken-shuffled-s", "unitoken-s-only", "unitoken-no-g")
    codecs = [argument for name in names for argument in ("--codec", name)]
    table = run("evaluate", manifest, *codecs, "--model", models[0], "--model", models[1], "--metric", "codebooks", "--limit", "1").stdout
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith(f"| {os.sep}")]
    assert rows == [f"{model} {streams}" for streams in ("S+G", "shuffled S+G+P", "S", "S+P") for model in models]


def test_evaluate_loads_no_model_it_does_not_need(run, manifest, tmp_path):
    assert "| original |" in run("evaluate", manifest, "--codec", "original", "--metric", "codebooks", "--model", tmp_path / "nowhere").stdout


@pytest.mark.parametrize(("metric", "option"), [("words", "--asr"), ("speakers", "--speakers"), ("mos", "--dnsmos")])
def test_evaluate_says_what_a_metric_needs(run, manifest, metric, option):
    assert f"add {option}" in run("evaluate", manifest, "--metric", metric, code=2).stderr


def test_evaluate_knows_every_metric_and_codec():
    assert [metric.value for metric in Metric] == list(METRICS)
    assert {f"codec2-{mode}" for mode in CODEC2_MODES} == {name.value for name in CodecName if name.value.startswith("codec2")}
    assert {f"lyra-{rate}" for rate in RATES} == {name.value for name in CodecName if name.value.startswith("lyra")}


@pytest.mark.parametrize("mode", CODEC2_MODES)
def test_evaluate_makes_codec2(run, manifest, monkeypatch, mode):
    monkeypatch.setenv("PATH", "")
    result = run("evaluate", manifest, "--codec", f"codec2-{mode}", "--metric", "codebooks", code=1)
    assert "Codec2 needs the programs c2enc and c2dec" in result.stderr


def test_evaluate_makes_opus(run, manifest, monkeypatch):
    monkeypatch.setenv("PATH", "")
    result = run("evaluate", manifest, "--codec", "opus-6", "--metric", "codebooks", code=1)
    assert "Opus needs the programs opusenc and opusdec" in result.stderr


def test_evaluate_makes_lyra(run, manifest, tmp_path):
    assert "add --lyra, the folder" in run("evaluate", manifest, "--codec", "lyra-3200", code=2).stderr
    assert "lacks soundstream_encoder.tflite" in run("evaluate", manifest, "--codec", "lyra-3200", "--lyra", tmp_path, code=1).stderr


def test_evaluate_takes_folders_of_another_codec(run, manifest, tmp_path):
    (tmp_path / "theirs").mkdir()
    for path in sorted(tmp_path.glob("*.wav")):
        (tmp_path / "theirs" / path.name).write_bytes(path.read_bytes())
    table = run("evaluate", manifest, "--decoded", tmp_path / "theirs", "--metric", "signal").stdout
    assert [line.split(" | ")[:2] for line in table.splitlines()[6:8]] == [["| original", "256000"], ["| theirs", "-"]]


def test_a_broken_off_evaluation_goes_on(run, manifest, tmp_path, monkeypatch):
    arguments = ("evaluate", manifest, "--codec", "original", "--metric", "codebooks", "-o", tmp_path / "out")
    broken = manifest.parent / "2.wav"
    kept = broken.read_bytes()
    broken.write_bytes(b"no audio")
    assert "2.wav" in run(*arguments, code=1).stderr
    assert len((tmp_path / "out" / "clips.jsonl").read_text().splitlines()) == 3
    broken.write_bytes(kept)
    (manifest.parent / "0.wav").unlink()
    assert "| original | 256000 |" in run(*arguments).stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clips.csv", "report.html", "report.json", "report.md"]
    assert "0.wav" in run(*arguments, "--force", code=1).stderr  # starts over


def test_evaluate_saves_a_page(run, manifest, tmp_path, monkeypatch):
    arguments = ("evaluate", manifest, "--metric", "signal", "-o", tmp_path / "out")
    run(*arguments)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<audio") == 6
    monkeypatch.setitem(sys.modules, "jinja2", None)
    message = run(*arguments[:-1], tmp_path / "plain").stderr
    assert "no report.html: an HTML report needs packages that are not installed; run: pip install 'unitoken-speech[report]'" in message
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == ["clips.csv", "report.json", "report.md"]


# progress


def test_plain_lines_come_now_and_then(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    meter = progress.Meter("clips", digits=0)
    for done, now in ((1, 5.0), (2, 10.0), (3, 12.0)):  # noqa: B007 - the clock above reads it
        meter.update(done, 6)
    assert capsys.readouterr().err == "2 of 6 clips, 0.2 clips/s, 0:00:20 left\n"


def test_on_a_terminal_there_is_a_bar(run, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    result = run("encode", clip(tmp_path / "a.wav"))
    assert "━" in result.stderr
    assert "0.000 of 0.000 h" in result.stderr
    assert result.stdout == ""


# the command itself


def test_version():
    assert CliRunner().invoke(app, ["--version"]).stdout == f"unitoken {unitoken.__version__}\n"


def test_main_runs_the_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["unitoken", "--version"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # typer sets it
    with pytest.raises(SystemExit, match="0"):
        main()
    assert capsys.readouterr().out == f"unitoken {unitoken.__version__}\n"


def test_python_m_unitoken_lists_the_commands():
    done = subprocess.run([sys.executable, "-m", "unitoken", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for command in ("encode", "decode", "convert", "info", "models", "evaluate"):
        assert f"│ {command} " in done.stdout or f" {command} " in done.stdout
