"""Every example runs on a one-second clip with the tiny model, and does what it prints."""

import dataclasses
import itertools
import json
import re
import runpy
import shutil
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from unitoken import TokenBundle, Tokenizer, corpus, load_audio, save_audio
from unitoken.hub import load_stored, save_stored
from unitoken.model.codec import Codec
from unitoken.presets import preset

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
AUDIO = ROOT / "examples" / "audio"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with the tiny model."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_stored(folder, preset("tiny"), Codec(preset("tiny")).state_dict())
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """One second of each bundled clip."""
    folder = tmp_path_factory.mktemp("clips")
    for name in ("lady", "patience"):
        waveform, rate = load_audio(AUDIO / f"{name}.flac")
        save_audio(folder / f"{name}.wav", waveform[rate : 2 * rate], rate)
    return [folder / "lady.wav", folder / "patience.wav"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a script of the repository as its user would, in an empty folder, and return the lines it prints."""
    monkeypatch.chdir(tmp_path)

    def call(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        monkeypatch.syspath_prepend(str((ROOT / script).parent))  # as Python does for a script
        runpy.run_path(str(ROOT / script), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return call


def test_there_are_few_and_each_is_short():
    assert len(EXAMPLES) == 6
    assert {path.name: lines for path in EXAMPLES if (lines := len(path.read_text().splitlines())) > 40} == {}


def test_each_has_a_test_here():
    source = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES if f'"examples/{path.name}"' not in source] == []


def test_encode_decode(run, model, clips):
    lines = run("examples/encode_decode.py", clips[0], "out", "--model", model)
    assert lines[1:6] == [
        f"{clips[0]}: 1.00 s",
        "| stream | tokens | Hz | bits | b/s |",
        "|---|---|---|---|---|",
        "| s | 25 | 25 | 150 | 150 |",
        "| p | 25 | 25 | 150 | 150 |",
    ]
    assert lines[6:] == ["| g | 2 | once | 8 | 8 |", "original: out/original.wav", "decoded:  out/decoded.wav"]
    tok = Tokenizer.from_pretrained(model)
    decoded, rate = load_audio("out/decoded.wav")
    torch.testing.assert_close(decoded, tok.decode(tok.encode(clips[0])).clamp(-1, 1), rtol=0, atol=2**-15)
    assert rate == 16000
    assert torch.equal(load_audio("out/original.wav")[0], load_audio(clips[0])[0])


def test_encode_decode_writes_the_bundled_clip_into_demo(run, model):
    lines = run("examples/encode_decode.py", "--model", model)
    assert lines[4:7] == ["| s | 96 | 25 | 576 | 151 |", "| p | 96 | 25 | 576 | 151 |", "| g | 2 | once | 8 | 2 |"]
    assert lines[-1] == "decoded:  demo/decoded.wav"
    assert len(load_audio("demo/decoded.wav")[0]) == len(load_audio(AUDIO / "lady.flac")[0]) == 60960


def test_voice_swap(run, model, clips):
    run("examples/voice_swap.py", clips[0], clips[1], clips[0], "--model", model)
    tok = Tokenizer.from_pretrained(model)
    expected = tok.decode(tok.encode(clips[0]).replace(g=tok.encode_global([clips[1], clips[0]])))
    torch.testing.assert_close(load_audio("demo/swapped.wav")[0], expected.clamp(-1, 1), rtol=0, atol=2**-15)


def test_language_model_ids(run, model, clips):
    lines = run("examples/language_model_ids.py", clips[0], "--model", model)
    g = Tokenizer.from_pretrained(model).encode(clips[0]).g.tolist()
    assert lines == [
        f"56 of 170 ids for 1.00 s: bos, global, g0 {g[0]}, g1 {g[1]} ...",
        "the same tokens again: True",
        "24 of 25 frames read; at index 30: eos does not belong here and is left out; at index 55: 1 frame without S or P left out",
        "after 40 ids, 17 frames: ids from p0 0 to p0 63 may follow",
    ]


def test_text_model(run, model, clips):
    torch.manual_seed(0)
    (line,) = run("examples/text_model.py", clips[0], "--model", model)
    loss, frames, right = re.fullmatch(r"loss (.*); (.*) frames written, (.*)% as learnt: spoken.wav", line).groups()
    assert float(loss) < 1
    assert (int(frames), int(right)) == (25, 100)
    assert len(load_audio("spoken.wav")[0]) == 25 * Tokenizer.from_pretrained(model).hop


def test_tokens_file(run, model, clips):
    lines = run("examples/tokens_file.py", *clips, "--model", model)
    saved = TokenBundle.load_many("demo/clips.utok")
    assert saved == Tokenizer.from_pretrained(model).encode(clips)
    size = Path("demo/clips.utok").stat().st_size
    assert lines[:2] == [f"demo/clips.utok: {size} bytes for 2 clips, of which 77 are tokens", "the same after loading: True"]
    assert lines[3] == "TokenBundle(0.480 s by tiny: s 12 frames, p 12 frames, g 2 tokens)"
    assert lines[-2:] == ["the same after joining: True", "first piece decoded: 0.48 s"]


def test_fine_tune(run, model, clips):
    for path, speaker in zip(clips, "ab", strict=True):
        save_audio(_made(Path("own") / speaker) / "x.flac", *load_audio(path))
    torch.manual_seed(0)
    lines = run("examples/fine_tune.py", "own", "tuned", "--steps", 2, "--model", model)
    assert [line.split(":")[0] for line in lines[:2]] == ["step 1", "step 2"]
    before, after = load_stored(model), load_stored("tuned")
    assert lines[2:] == [after.fingerprint]
    assert after.config == dataclasses.replace(before.config, name="tiny-tuned")
    assert {name.split(".")[0] for name, value in after.state.items() if not torch.equal(value, before.state[name])} == {"decoder"}
    old, new = Tokenizer.from_pretrained(model), Tokenizer.from_pretrained("tuned")
    bundle, again = old.encode(clips[0]), new.encode(clips[0])
    assert all(torch.equal(getattr(bundle, stream), getattr(again, stream)) for stream in "gsp")
    assert torch.equal(new.decode(bundle), new.decode(again))
    assert not torch.equal(new.decode(bundle), old.decode(bundle))


def _made(folder):
    folder.mkdir(parents=True)
    return folder


def table(lines):
    """Return the cells of the table that ends a benchmark's output, without the line below its head."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    return [rows[0], *rows[2:]]


def test_lengths_prints_a_table(run, model):
    threads = torch.get_num_threads()
    arguments = ("--model", model, "--seconds", 0.5, 1, "--batch", 1, 2, "--mixed", 3, "--repeat", 1, "--threads", threads)
    head, product, *lines = run("benchmarks/lengths.py", *arguments)
    assert re.match(rf"tiny on .+, {threads} thread\(s\), torch {re.escape(torch.__version__)}, unitoken-speech \S+ at \S+,$", head)
    assert product.startswith("float32; GFLOP/s of a matrix product 1024 x 1024: ")
    _, *rows = table(lines)
    assert [row[:5] for row in rows] == [["tiny", "cpu", "250", seconds, clips] for seconds in ("0.5", "1", "3 of 1 to 5") for clips in "12"]
    assert all(float(value) > 1 for row in rows for value in row[5:])


def test_speed_prints_tables(run, tmp_path, monkeypatch):
    """Of the packaged model, and of a peer that is there, and why another one is not."""
    (tmp_path / "snac.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    threads = torch.get_num_threads()
    options = ("--seconds", 0.5, "--rounds", 1, "--batch", 1, 2, "--threads", threads)
    text = "\n".join(run("benchmarks/speed.py", *options, "--only", "unitoken", "EnCodec", "SNAC"))
    speeds, sizes = (part.splitlines() for part in text.split("\n\n")[1:3])
    _, *rows = table(speeds)
    assert [row[0] for row in rows] == ["unitoken", "EnCodec"]
    assert all(float(value) > 0.1 for row in rows for value in row[1:])
    _, *facts = table(sizes)
    assert [(row[0], float(row[1])) for row in facts] == [("unitoken", 19.3), ("EnCodec", 14.9)]
    assert all(float(value) > 0 for row in facts for value in row[2:])
    assert text.splitlines()[-1] == "left out: SNAC: ImportError: not here"


def test_stream_prints_a_table(run, model):
    threads = torch.get_num_threads()
    lines = run("benchmarks/stream.py", "--model", model, "--seconds", 4, "--streams", 1, 2, "--threads", threads)
    _, *rows = table(lines)
    assert [row[:2] for row in rows] == [[work, streams] for work in ("encode", "decode") for streams in "12"]
    assert all(float(row[3]) <= float(row[4]) for row in rows)


def test_memory_prints_a_table(run, model):
    _, *rows = table(run("benchmarks/memory.py", "--model", model, "--minutes", 0.05, 0.1, "--clip", AUDIO / "lady.flac"))
    assert [row[0] for row in rows] == ["0.05", "0.1"]
    assert all(0.5 < float(share) < 1.5 for row in rows for share in row[3:])


def test_memory_of_corpora_prints_a_table(run, model):
    _, *rows = table(run("benchmarks/corpus_memory.py", AUDIO / "lady.flac", AUDIO / "patience.flac", "--model", model, "--hours", 0.01))
    assert [row[0] for row in rows] == ["short", "short", "one of 0.01 h", "one of 0.01 h"]
    assert [row[1] for row in rows[::2]] == ["0.00", "0.00"]
    assert rows[3][1] == "0.01"
    assert all(50 < float(row[2]) < 2000 for row in rows)


def test_import_time_prints_a_table(run):
    lines = run("benchmarks/import_time.py", "--repeat", 1)
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["import", "---", "torch", "unitoken, after torch"]
    torch_seconds, ours = (float(line.split("|")[2]) for line in lines[4:])
    assert ours < torch_seconds


def test_lm_prints_a_table(run):
    _, *rows = table(run("benchmarks/lm.py", "--frames", 120, "--threads", torch.get_num_threads()))
    assert [(row[0], row[1]) for row in rows] == [
        ("Semantic()", "140"),
        ("Sequential()", "261"),
        ("Interleaved(delay=0)", "260"),
        ("Interleaved(delay=4)", "260"),
        ("Runs()", "260"),
    ]
    assert all(0 < float(value) < 1e6 for row in rows for value in row[2:])


def test_unit_language_model(run, model, tmp_path):
    """It learns something, goes on where it stopped, and what it writes is spoken."""
    rows = [f"{AUDIO / f'{name}.flac'}\tclips\t{name}" for name in ("lady", "patience")]
    Path("list.tsv").write_text("path\tsource\tspeaker\n" + "\n".join(rows) + "\n")
    Path("held.tsv").write_text("source\tspeaker\nclips\tpatience\n")
    corpus.encode_corpus("tokens", corpus.make_plan(["list.tsv"]), corpus.Settings(model=str(model)))
    size = ("--width", 64, "--depth", 1, "--continuations", 1, "--model", model)
    for minutes in (0.02, 0.05):
        lines = run("examples/lm/unit_lm.py", "tokens", "--held-out", "held.tsv", "-o", "run", "--minutes", minutes, *size)
        _, *rows = table(lines)
        assert [row[0] for row in rows] == ["S", "P", "all"]
        assert all(float(value) >= 1 for row in rows for value in row[1:4])
        assert re.match(r"run/0.wav: 3 s of \S+ and [\d.]+ s more, (ended|cut off)$", lines[-1])
    assert json.loads(Path("run/state.json").read_text())["seconds"] >= 3
    assert len(load_audio("run/0.wav")[0]) >= 75 * Tokenizer.from_pretrained(model).hop


def spelt(folder, monkeypatch):
    """Put a program in the way of `espeak-ng` that takes letters for phones, and marks what the real one marks."""
    program = folder / "bin" / "espeak-ng"
    program.parent.mkdir()
    program.write_text(
        "#!/usr/bin/env python3\n"
        "import re, sys\n"
        "*options, said = sys.argv[1:]\n"
        "assert options == ['-q', '--ipa', '--sep=_', '-v', 'en-us', '--'], options\n"
        "for clause in re.findall('[^,]+', said.lower()):\n"
        "    print(' '.join('(en)_\u02c8' + '_'.join(word) + '_??' for word in re.findall('[a-z]+', clause)))\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


def test_phones(run, tmp_path, monkeypatch):
    """Phones are separated by spaces, pauses are marked, stress and changes of language are not."""
    spelt(tmp_path, monkeypatch)
    rows = ["a.wav\ten\tHo, -ho la!", "b.wav\tar\tla", "c.wav\ten\t[noise]", "d.wav\ten\t", 'e.wav\ten\t"la"']
    Path("list.tsv").write_text("path\tlanguage\ttranscript\n" + "\n".join(rows) + "\n")
    assert run("examples/lm/phones.py", "list.tsv", "-o", "phones.tsv") == ["2 transcripts: phones.tsv"]
    assert Path("phones.tsv").read_text() == "path\tphones\na.wav\th o | h o l a\ne.wav\tl a\n"


@pytest.mark.parametrize(("script", "phones"), [("text_to_speech", False), ("text_to_speech", True), ("masked_speech", True)])
def test_text_to_speech(run, model, clips, script, phones, tmp_path, monkeypatch):
    """Sentences that are held out are spoken, each in the voice of another clip, and compared with their recordings."""
    said = [("go", "no", "it", "on", "up", "us")[number % 6] for number in range(30)]
    with tarfile.open("clips.tar", "w") as tar:
        for number in range(30):
            tar.add(clips[number % 2], f"{number}.wav")
    rows = [f"{number}.wav\tclips\t{number % 2}\ten\t{word} {number}!" for number, word in enumerate(said)]
    Path("list.tsv").write_text("path\tsource\tspeaker\tlanguage\ttranscript\n" + "\n".join(rows) + "\n")
    Path("held.tsv").write_text("source\tspeaker\n")
    corpus.encode_corpus("tokens", corpus.make_plan(["list.tsv"], archives=["clips.tar"]), corpus.Settings(model=str(model)))
    held = [number for number, word in enumerate(said) if zlib.crc32(f"{word} {number}".encode()) % 20 == 0]
    assert held
    size = ("--width", 64, "--depth", 1, "--voices", "clips", "--minutes", 0.02, "--align", 0.02, "--model", model)
    if phones:
        spelt(tmp_path, monkeypatch)
        run("examples/lm/phones.py", "list.tsv", "-o", "phones.tsv")
        size += ("--phones", "phones.tsv")
    lines = run(f"examples/lm/{script}.py", "tokens", "--held-out", "held.tsv", "-o", "run", "--audio", "clips.tar", *size)
    assert f"{30 - len(held)} utterances learnt" in lines[0]
    assert f"{len(held)} of 30 have a sentence that is held out" in lines[0]
    _, *rows = table(lines)
    assert rows == [[name, "-", "-"] for name in ("recording", "its tokens, decoded", "from text")]
    assert len(list(Path("run").glob("*.wav"))) == len(held)
    frames = json.loads(Path("run/pieces.json").read_text())
    assert len(frames) == 30 - len(held)
    length = len(Tokenizer.from_pretrained(model).encode(clips[0]).s)
    pieces = 2 + 2 if phones else 2  # the two letters between pauses, or word and number
    assert all((len(lengths), sum(lengths)) == (pieces, length) for lengths in frames.values())


def test_word_recognition(run, model, clips):
    """Two clips with two words each are learnt by heart, and told apart in their copies."""
    said = ("[words: one two]", "[words: two three]")
    rows = [f"{number}.wav\ttoys\t{number // 20}\t{said[number % 2]}" for number in range(40)]
    for number in range(40):
        shutil.copy(clips[number % 2], f"{number}.wav")
    Path("list.tsv").write_text("path\tsource\tspeaker\ttranscript\n" + "\n".join(rows) + "\n")
    Path("held.tsv").write_text("source\tspeaker\ntoys\t1\n")
    corpus.encode_corpus("tokens", corpus.make_plan(["list.tsv"]), corpus.Settings(model=str(model)))
    arguments = ("--held-out", "held.tsv", "--source", "toys", "--minutes", 0.1, "--model", model)
    lines = run("examples/lm/word_recognition.py", "tokens", *arguments)
    assert lines[0] == "3 words; 20 clips learnt, 0.01 h, 20 of other speakers held out"
    _, *rows = table(lines)
    assert [row[0] for row in rows] == ["S", "P", "S and P"]
    assert all(row[1] == row[2] for row in rows)  # copies
    assert float(rows[2][1]) < 0.3


def test_clean_tokens(run, model, clips):
    """Two clips in noise are learnt by heart, and copies of other speakers, in other noise, are told as without it more often than before."""
    with tarfile.open("clips.tar", "w") as tar:
        for number in range(40):
            tar.add(clips[number % 2], f"{number}.wav")
    generator = torch.Generator().manual_seed(0)
    save_audio("rush.wav", 0.2 * torch.randn(160000, generator=generator), 16000)
    with tarfile.open("noise.tar", "w") as tar:
        tar.add("rush.wav", "noise/rush.wav")
    rows = [f"{number}.wav\tclips\t{number // 36}\ten\tNumber {number}" for number in range(40)]
    Path("list.tsv").write_text("path\tsource\tspeaker\tlanguage\ttranscript\n" + "\n".join(rows) + "\n")
    Path("held.tsv").write_text("source\tspeaker\nclips\t1\n")
    corpus.encode_corpus("tokens", corpus.make_plan(["list.tsv"], archives=["clips.tar"]), corpus.Settings(model=str(model)))
    size = ("--width", 64, "--depth", 1, "--minutes", 0.15, "--clips", 4, "--model", model)
    lines = run("examples/lm/clean_tokens.py", "tokens", "--held-out", "held.tsv", "-o", "run", "--audio", "clips.tar", "--noise", "noise.tar", *size)
    assert lines[0] == "36 clips learnt, 0.01 h; 4 of other speakers held out"
    _, *rows = table(lines)
    noisy, cleaned, clean = ([float(cell) for cell in row[1:4]] for row in rows)
    assert [row[0] for row in rows] == ["in noise", "in noise, cleaned", "clean"]
    assert clean == [1, 1, 0]
    assert cleaned[0] > noisy[0]
    assert cleaned[1] > noisy[1]
    assert cleaned[2] < noisy[2]
    assert len(list(Path("run").glob("*.wav"))) == 9


def test_melody(run, model, clips):
    """Of two clips that say the same, each is decoded with the other's P and with a third one's G."""
    for number, name in enumerate(("lady", "patience", "patience")):
        shutil.copy(clips[0].with_name(f"{name}.wav"), f"{number}.wav")
    said = ("Hello you!", "hello you", "else")
    rows = [f"{number}.wav\ttoys\t{number // 2}\ten\t{text}" for number, text in enumerate(said)]
    Path("list.tsv").write_text("path\tsource\tspeaker\tlanguage\ttranscript\n" + "\n".join(rows) + "\n")
    Path("held.tsv").write_text("source\tspeaker\ntoys\t0\ntoys\t1\n")
    with tarfile.open("clips.tar", "w") as tar:
        for number in range(3):
            tar.add(f"{number}.wav")
    corpus.encode_corpus("tokens", corpus.make_plan(["list.tsv"], archives=["clips.tar"]), corpus.Settings(model=str(model)))
    arguments = ("--held-out", "held.tsv", "--audio", "clips.tar", "-o", "run", "--source", "toys", "--model", model)
    lines = run("examples/lm/melody.py", "tokens", *arguments)
    assert lines[0].startswith("2 pairs of clips of toys that say the same")
    _, *rows = table(lines)
    assert [row[0] for row in rows] == ["recording of A", "A", "A without P", "A with B's P", "A with C's G", "A with B's P and C's G"]
    assert rows[0][1] == "1.00"
    waves = [load_audio(f"run/{row[0]}.wav")[0] for row in rows]
    assert all((waves[0].shape == wave.shape) and not torch.equal(waves[1], wave) for wave in waves[2:])


@pytest.fixture
def alignment(monkeypatch):
    """The functions of the script that finds words in time."""
    monkeypatch.syspath_prepend(str(ROOT / "examples/lm"))
    return runpy.run_path(str(ROOT / "examples/lm/alignment.py"))


def brute_force(scores, labels):
    """Return the best path's sum among all that say the labels."""
    best = -np.inf
    for path in itertools.product(range(scores.shape[1]), repeat=len(scores)):
        said = [label for at, label in enumerate(path) if label and (not at or label != path[at - 1])]
        if said == labels:
            best = max(best, scores[range(len(path)), path].sum())
    return best


@pytest.mark.parametrize("labels", [[1], [1, 2], [1, 1], [2, 1, 2], [1, 1, 1]])
@pytest.mark.parametrize("seed", range(4))
def test_likeliest_path(alignment, labels, seed):
    """No path of all that say the labels is likelier than the one with these first and last frames."""
    scores = np.log(np.random.default_rng(seed).dirichlet(np.ones(3), 6))
    path = alignment["likeliest_path"](scores, labels)
    frames = np.zeros(6, int)
    for label, (first, last) in zip(labels, path, strict=True):
        frames[first : last + 1] = label
    assert scores[range(6), frames].sum() == pytest.approx(brute_force(scores, labels))


def test_no_path_in_too_few_frames(alignment):
    scores = np.log(np.full((2, 3), 1 / 3))
    assert alignment["likeliest_path"](scores, [1, 1]) is None
    assert alignment["likeliest_path"](scores, [1, 2]).tolist() == [[0, 0], [1, 1]]


def test_words_share_the_frames_between_them(alignment):
    for late, frames in ((8, [5, 6]), (9, [6, 5])):
        heard = np.array([0, 2, 2, 0, 0, 1, 0, 0, 0, 0, 0])
        heard[late] = 3
        sure = np.log(np.where(np.arange(4) == heard[:, None], 0.97, 0.01))
        assert alignment["frames_of_units"](sure, [[2], [3]], [1]) == frames
    assert alignment["frames_of_units"](sure, [[2]], [1]) == [11]
    assert alignment["frames_of_units"](sure[:2], [[2], [3]], [1]) is None


class Plain:
    """In the place of a network: tells frames 0, 1, 2, ... in S, those farther on the surer, and in P one more than S is where that is."""

    masks = (40, 41)

    def __init__(self, frames):
        self.frames, self.seen = frames, []

    def read(self, phones, g):
        return torch.zeros(1, len(self.frames), 4), torch.tensor([self.frames]).log()

    def __call__(self, known, places, tokens, lengths, stream):
        self.seen.append((stream, (tokens[0, :, stream] == self.masks[stream]).nonzero()[:, 0].tolist()))
        frames = torch.arange(tokens.shape[1])
        told = frames if stream == 0 else tokens[0, :, 0] + 1
        sure = F.one_hot(told, self.masks[stream]) * (1.0 + frames[:, None])
        return torch.stack([sure, F.one_hot(told, self.masks[stream])])


def test_masked_speech_tells_the_surest_first_and_p_after_all_of_s(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples/lm"))
    script = runpy.run_path(str(ROOT / "examples/lm/masked_speech.py"))
    phone, places = script["stretched"](torch.tensor([2, 1, 3]))
    assert phone.tolist() == [0, 0, 1, 2, 2, 2]
    torch.testing.assert_close(places[3:, 0], torch.tensor([1 / 6, 1 / 2, 5 / 6]))
    torch.testing.assert_close(places[3:, 1:].exp(), torch.tensor([[1.0, 3], [2, 2], [3, 1]]))
    net = Plain([0.2, 3.4, 6.6])  # a frame at least
    tokens = script["tokens_of"](net, torch.zeros(3, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    assert tokens.tolist() == [[frame, frame + 1] for frame in range(1 + 3 + 7)]
    left = [[masked for of, masked in net.seen if of == stream] for stream in (0, 1)]
    assert [len(turns) for turns in left] == list(script["ROUNDS"])
    for turns in left:
        assert all(masked == list(range(len(masked))) for masked in turns)
        counts = [len(masked) for masked in turns]
        assert (counts[0], counts) == (11, sorted(counts, reverse=True))
        assert 0 < counts[-1] < counts[1] < 11


def test_alignment_of_melodies(monkeypatch):
    """A slower reading is found, and its melody comes back as the faster one has it."""
    monkeypatch.syspath_prepend(str(ROOT / "examples/lm"))
    melody = runpy.run_path(str(ROOT / "examples/lm/melody.py"))
    codewords = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    path = melody["align"](codewords, codewords.repeat_interleave(2, 0))
    assert (path // 2 == np.arange(20)).all()
    frame = 0.032  # two values of F0
    f0 = np.repeat(np.arange(40), 2)
    assert (melody["carried_over"](f0, path, frame, 40) == np.repeat(path, 2)).all()
