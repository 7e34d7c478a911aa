"""The documents are true: README code runs, commands parse, links lead somewhere, printed numbers are printed."""

import contextlib
import dataclasses
import doctest
import importlib
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from typer.main import get_command
from typer.testing import CliRunner

import unitoken
from unitoken import TokenBundle, Tokenizer, corpus, hub, load_audio, save_audio
from unitoken.cli import app
from unitoken.cli.train import app as train_app
from unitoken.hub import save_stored
from unitoken.model.codec import Codec
from unitoken.model.windows import CORE
from unitoken.presets import preset

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "examples" / "audio" / "CREDITS.md"]
NOTE = (ROOT / "docs" / "design" / "0003-model-small.md").read_text(encoding="utf-8")
EXACTNESS = (ROOT / "docs" / "design" / "0002-exactness.md").read_text(encoding="utf-8")
STREAMS = (ROOT / "docs" / "streams.md").read_text(encoding="utf-8")
CLIPS = ROOT / "examples" / "audio"


def blocks(text, language):
    """Return the contents of the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(start):
    """Return README's command lines that begin with some words, without them, split as a shell would."""
    lines = [line for block in blocks(README, "sh") for line in block.replace("\\\n", "").splitlines()]
    return [shlex.split(line, comments=True)[len(start.split()) :] for line in lines if line.startswith(f"{start} ")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder with the recordings that README speaks of; the packaged model is a tiny one."""
    root = tmp_path / "weights"
    config = dataclasses.replace(preset("tiny"), name=hub.DEFAULT_MODEL)
    torch.manual_seed(0)
    save_stored(root / hub.DEFAULT_MODEL, config, Codec(config).state_dict())
    monkeypatch.setattr(hub, "WEIGHTS_ROOT", root)
    monkeypatch.setattr("unitoken.corpus.run.cores", lambda: 1)  # in this process, which has the tiny model
    work = tmp_path / "work"
    (work / "recordings" / "day 1").mkdir(parents=True)
    monkeypatch.chdir(work)
    for target, name in (("talk", "lady"), ("a", "lady"), ("b", "patience"), ("b2", "patience")):
        waveform, rate = load_audio(CLIPS / f"{name}.flac")
        save_audio(f"{target}.wav", waveform[: 3 * rate // 2], rate)
    shutil.copy("a.wav", "recordings/day 1/a.wav")
    return work


def test_readme_is_short_enough():
    assert len(README.splitlines()) <= 200


def test_readme_python_runs_as_written(folder):
    quickstart, recipes = blocks(README, "python")
    names = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(quickstart, "README quickstart", "exec"), names)  # noqa: S102 - the documents are ours
    assert printed.getvalue() == f"{names['bundle']!r} torch.Size([38]) torch.Size([38]) torch.Size([2]) 25 300\n"
    decoded, rate = load_audio("decoded.wav")
    assert (len(decoded), rate) == (24000, 16000)
    exec(compile(recipes, "README recipes", "exec"), names)  # noqa: S102
    tok, a, b = names["tok"], names["a"], names["b"]
    assert TokenBundle.load_many("two.utok") == [a, b] == tok.encode(["a.wav", "b.wav"])
    assert torch.equal(names["converted"], tok.decode(a.replace(g=b.g)))
    assert names["layout"].vocabulary.info == tok.info
    assert names["embeddings"].shape == (1, 64, 16)
    assert names["frames"].shape == (38, 16)


def test_readme_quickstart_is_six_lines():
    assert len([line for line in blocks(README, "python")[0].splitlines() if line]) == 6


def test_readme_commands_run(folder):
    lines = [line for line in commands("unitoken") if line[0] != "train"]
    assert [line[0] for line in lines] == ["encode", "decode", "convert", "info", "corpus", "encode", "decode", "export"]
    for line in lines:
        result = CliRunner().invoke(app, line)
        assert result.exit_code == 0, (line, result.output, result.exception)
    tok = Tokenizer.from_pretrained()
    assert TokenBundle.load("talk.utok") == tok.encode("talk.wav")
    assert len(load_audio("again.wav")[0]) == len(load_audio("converted.wav")[0]) == 24000
    assert TokenBundle.load("tokens/day 1/a.utok") == TokenBundle.load("talk.utok")
    assert len(load_audio("decoded/day 1/a.flac")[0]) == 24000
    assert (Path("folder") / "runner.py").is_file()
    assert corpus.open("shards")["day 1/a.wav"].bundle == TokenBundle.load("talk.utok")


def test_the_page_on_corpora_runs_as_written(folder):
    page = (ROOT / "docs" / "corpora.md").read_text(encoding="utf-8").replace("20", "1")  # seconds: these clips are short
    Path("talks").mkdir()
    for index, seconds in enumerate((0.5, 1.4, 0.9, 2.6)):
        save_audio(f"talks/talk {index + 4}.wav", load_audio(CLIPS / "lady.flac", sample_rate=16000)[0][: int(16000 * seconds)], 16000)
    first, second = blocks(page, "sh")
    for number, line in enumerate([*first.splitlines(), *second.splitlines()]):
        if number == len(first.splitlines()):
            names = {}
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(blocks(page, "python")[0], "corpora", "exec"), names)  # noqa: S102 - the documents are ours
            assert printed.getvalue().splitlines()[0] == "talk 4.wav 0.5"
        program, *arguments = shlex.split(line, comments=True)
        result = CliRunner().invoke(app, arguments)
        assert (program, result.exit_code) == ("unitoken", 0), (line, result.output, result.exception)
    assert corpus.open("both").ids == ["talk 4.wav", "talk 6.wav", "talk 5.wav", "talk 7.wav"]
    assert {"tokens.html", "tokens.jsonl", "ids.bin", "ids.idx"} <= {path.name for path in Path().iterdir()}
    assert len(list(Path("audio").iterdir())) == 4


def test_commands_of_the_page_on_clusters_parse():
    page = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
    lines = re.findall(r"unitoken (corpus encode [^'|\n]*)", "\n".join(blocks(page, "sh")).replace("\\\n", ""))
    assert len(lines) > 8
    for line in lines:
        _, name, *arguments = shlex.split(line, comments=True)
        with get_command(app).commands["corpus"].commands[name].make_context(name, arguments) as context:
            assert context.params["output"]


def test_readme_training_commands_parse():
    group = get_command(train_app)
    lines = commands("unitoken train")
    stages = ["semantic", "codebook", "refine", "codebook", "reconstruct", "adversarial"]
    assert [line[0] for line in lines] == ["pool", "features", "pitch", *stages, "export"]
    for name, *arguments in lines:
        group.commands[name].make_context(name, arguments)


def test_readme_evaluation_command_parses(folder):
    (line,) = re.findall(r"<!-- quality table: unitoken evaluate (.*) -->", README)
    for name in ("test", "lyra"):
        Path(name).mkdir()
    for name in ("test/manifest.tsv", "ge2e.safetensors", "model_v8.onnx"):
        Path(name).touch()
    get_command(app).commands["evaluate"].make_context("evaluate", shlex.split(line))


def test_readme_states_what_the_default_model_is():
    config = preset("small")
    with torch.device("meta"):
        codec, larger = Codec(config), Codec(preset("base"))
    ahead, base = codec.receptive_field.future, sum(value.numel() for value in larger.parameters())
    stored = sum(value.numel() for value in codec.state_dict().values())
    (row,) = [line for line in README.splitlines() if line.startswith(f"| `{config.name}`")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    s, p, g = config.semantic.quantizer, config.residual.quantizer, config.global_.quantizer
    tokens = config.frame_rate_s * s.num_codebooks + config.frame_rate_p * p.num_codebooks
    assert cells[1:4] == [f"{config.sample_rate // 1000} kHz", f"{config.frame_rate_s} Hz", str(tokens)]
    assert cells[4] == f"S 1 x {s.codebook_size}, P 1 x {p.codebook_size}, G {g.num_codebooks} x {g.codebook_size}"
    assert cells[5:7] == [f"{config.bitrate} b/s + {config.global_bits} bits an utterance", f"{ahead / 16:.0f} ms"]
    assert cells[7] == f"{stored / 1e6:.1f} M, codebooks included"
    assert cells[9] == config.weights_licence
    assert f"`base` ({base / 1e6:.0f} M parameters)" in README


@pytest.mark.parametrize("text", [README, *(path.read_text(encoding="utf-8") for path in DOCUMENTS[1:])], ids=[path.name for path in DOCUMENTS])
def test_nobody_is_told_to_install_the_other_package(text):
    assert re.findall(r"pip install[^\n`]*\bunitoken(?!-speech)[^\n`]*", text) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    files = [target.partition("#")[0] for target in targets if not target.startswith(("http", "mailto:"))]
    assert [name for name in files if not (path.parent / name).exists()] == []


def test_the_model_note_prints_what_it_says():
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(blocks(NOTE, "python")[0], "0003", "exec"), {})  # noqa: S102
    assert printed.getvalue() == blocks(NOTE, "text")[0]


def test_the_exactness_note_states_the_blocks_and_the_context():
    with torch.device("meta"):
        codec = Codec(preset("small"))
    assert codec.config.name == hub.DEFAULT_MODEL
    (s, _), (p, _), (g, _) = sides = [(heard.past, heard.future) for heard in map(codec.frames_heard, "spg")]
    assert all(past == future for past, future in sides)
    text = " ".join(EXACTNESS.split())
    assert f"`{hub.DEFAULT_MODEL}` {s} frames on both sides for S, {p} for P, {g} for G" in text
    assert f"blocks of {CORE} frames" in text
    assert f"begin anew every {len(codec.semantic.positions)} frames (30 s)" in text


def test_the_page_on_streams_runs_and_states_the_delays(folder):
    names = {}
    for block in blocks(STREAMS, "python"):
        exec(compile(block, "streams", "exec"), names)  # noqa: S102 - the documents are ours
    expected = names["tok"].decode(names["bundle"])
    torch.testing.assert_close(torch.cat(names["pieces"]), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(load_audio("again.wav")[0], expected.clamp(-1, 1), rtol=0, atol=2e-5)
    assert (names["voice_so_far"].shape, names["c"]) == ((2,), names["a"])
    with torch.device("meta"):
        codec = Codec(preset("small"))
    ahead, lag = codec.receptive_field.future, codec.decoder.lag * codec.config.decoder.hop + 2 * codec.config.decoder.stft_hop
    assert f"| `enc.lookahead_samples` | {ahead} ({round(ahead / 16)} ms) |" in STREAMS
    assert f"| `dec.lag_samples` | {lag} ({round(lag / 16)} ms) |" in STREAMS


def test_the_page_on_language_models_runs_and_states_the_delay(folder):
    page = (ROOT / "docs" / "language-models.md").read_text(encoding="utf-8")
    corpus.encode_corpus("tokens", corpus.make_plan(["recordings"]))
    names = {}
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for block in blocks(page, "python"):
            exec(compile(block, "language models", "exec"), names)  # noqa: S102 - the documents are ours
    report, delay = printed.getvalue().splitlines()
    assert report.startswith("at index 30: eos does not belong here and is left out")
    assert int(delay.split()[0]) == names["lm"].ids_before_sound(names["tok"], names["layout"]) - 3
    assert [len(frame) for frame in names["frames"]].count(1) == len(names["bundle"])
    (batch,) = names["loader"]
    assert len(batch["input_ids"]) == len(names["tokens"]) == 1
    with torch.device("meta"):
        codec = Codec(preset("small"))
    lag = codec.decoder.lag * codec.config.decoder.hop + 2 * codec.config.decoder.stft_hop
    assert f"comes after {1 + 2 * (lag // codec.config.hop + 1)} ids, G given" in page


@pytest.mark.parametrize("module", [path.stem for path in sorted((ROOT / "src" / "unitoken" / "lm").glob("*.py"))])
def test_examples_in_docstrings_of_the_language_model_side_are_true(module, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = doctest.testmod(importlib.import_module("unitoken.lm" if module == "__init__" else f"unitoken.lm.{module}"))
    assert not found.failed


def test_the_exactness_note_runs():
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(blocks(EXACTNESS, "python")[0], "0002", "exec"), {})  # noqa: S102
    assert re.findall(r"\((\d+),", printed.getvalue()) == ["1", "3", "4", "246"]


def test_bundled_clips_are_credited_short_and_mono():
    credits = (CLIPS / "CREDITS.md").read_text(encoding="utf-8")
    recordings = sorted(path for path in CLIPS.iterdir() if path.suffix != ".md")
    assert [path.name for path in recordings] == ["lady.flac", "patience.flac"]
    for path in recordings:
        info = unitoken.audio.audio_info(path)
        assert (info.sample_rate, info.channels) == (16000, 1)
        assert re.search(rf"`{path.name}` \| `[\d-]+` \| \d+ \| {info.seconds:.2f} \|", credits)
    assert "CC BY 4.0" in credits
