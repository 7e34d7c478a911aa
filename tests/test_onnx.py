"""What is exported computes the same tokens and samples: as graphs of tensors, as ONNX, as programs; and the runner needs no torch."""

import dataclasses
import json
import math
import os
import re
import subprocess
import sys
import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from models import HOP, RATE, TINY, VARIANTS, clip, codec, tokenizer
from unitoken import save_audio
from unitoken.cli import app
from unitoken.errors import ConfigError, MissingDependencyError, ModelError
from unitoken.evaluate.numerics import onnx_way, verify_numerics
from unitoken.hub import save_stored
from unitoken.nn.harmonic import run_through, running_phase
from unitoken.nn.noise import white_noise
from unitoken.onnx import export, export_onnx, export_programs
from unitoken.onnx import runner as runners
from unitoken.onnx.fourier import Forward, Inverse, frames_of
from unitoken.onnx.graphs import NONE

NOISY = dataclasses.replace(TINY, decoder=dataclasses.replace(TINY.decoder, n_fft=640, subframes=2, noise_hz=2000.0))
CONFIGS = {**VARIANTS, "noisy": NOISY, "odd window": dataclasses.replace(TINY, front_end=dataclasses.replace(TINY.front_end, window=400, n_fft=512))}
LENGTHS = (0, 1, 639, 641, 7 * HOP, 30 * HOP + 17)
GRAPHS = ("encoder", "voice", "pitch", "wave")


class Eager:
    """A graph as it is before it is exported, in the place of a session."""

    def __init__(self, graph):
        self.graph = graph

    def get_inputs(self):
        return [SimpleNamespace(name=name) for name in self.graph.INPUTS]

    def get_outputs(self):
        return [SimpleNamespace(name=name) for name in self.graph.OUTPUTS]

    def run(self, _, given):
        with torch.no_grad():
            found = self.graph(*(torch.from_numpy(np.ascontiguousarray(value)) for value in given.values()))
        return [value.numpy() for value in (found if isinstance(found, tuple) else (found,))]


def eager(config, folder, monkeypatch, core):
    """Return a runner around the graphs themselves, with windows of so many frames."""
    made = codec(config)
    graphs = {name: graph.eval() for name, (graph, _, _) in export._graphs(made).items()}
    (folder / "runner.json").write_text(json.dumps(export._described(made, "ab" * 16, ()) | {"encode_core": core, "decode_core": core}))
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda path, options, providers: Eager(graphs[path.stem]))
    return runners.Runner(folder)


def signal_to_noise(expected, found):
    return 10 * math.log10(float((expected**2).sum() / ((expected - found) ** 2).sum()))


def agree(runner, tok, samples, tolerance=3e-4):
    """Encode and decode a clip with both."""
    wave = clip(samples, samples)
    bundle, tokens = tok.encode(wave, sample_rate=RATE, latents=True), runner.encode(wave.numpy(), latents=True)
    for stream in "spg":
        assert np.array_equal(tokens[stream], getattr(bundle, stream).numpy()), stream
        np.testing.assert_allclose(tokens[f"{stream}_latent"], bundle.latents[stream].numpy(), rtol=0, atol=1e-3)
    for with_p, with_g in ((True, True), (False, True), (True, False)):
        given = {"s": tokens["s"], "p": tokens["p"] if with_p else None, "g": tokens["g"] if with_g else None}
        expected = tok.decode(bundle.replace(**{} if with_p else {"p": None}, **{} if with_g else {"g": None})).numpy()
        found = runner.decode(**given, samples=samples)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1.0, float(np.abs(expected).max(initial=0))))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("core", [5, 250])
def test_graphs_in_windows_are_the_codec(name, core, tmp_path, monkeypatch):
    runner, tok = eager(CONFIGS[name], tmp_path, monkeypatch, core), tokenizer(CONFIGS[name])
    for samples in LENGTHS:
        agree(runner, tok, samples)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return an export of a codec with everything that there is: attention, P that hears S, subframes and noise."""
    made = codec(dataclasses.replace(NOISY, semantic=VARIANTS["transformer"].semantic, p_hears_s=1))
    path = tmp_path_factory.mktemp("onnx")
    export_onnx(made, path, "ab" * 16)
    return path


def tokens_of(folder):
    return tokenizer(dataclasses.replace(NOISY, semantic=VARIANTS["transformer"].semantic, p_hears_s=1))


def test_onnx_is_the_codec(folder):
    runner = runners.Runner(folder, threads=1)
    for samples in LENGTHS:
        agree(runner, tokens_of(folder), samples)


def test_rows_of_a_batch_are_what_they_are_alone(folder):
    session = onnxruntime.InferenceSession(folder / "encoder.onnx")
    waves = np.stack([clip(20 * HOP, seed).numpy() for seed in range(3)])
    waves[1, 15 * HOP + 3 :] = 0
    starts, lengths = np.array([0, 0, 40 * HOP]), np.array([20 * HOP, 15 * HOP + 3, 60 * HOP])
    together = session.run(None, {"waveform": waves, "start": starts, "length": lengths})
    for row, frames in enumerate((20, 16, 20)):
        alone = session.run(None, {"waveform": waves[row : row + 1], "start": starts[row : row + 1], "length": lengths[row : row + 1]})
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0, :frames], other[row, :frames], rtol=0, atol=1e-4)


def test_graphs_are_valid_and_say_nothing_of_where_they_were_made(folder):
    config = json.loads((folder / "runner.json").read_text())
    assert (config["opset"], config["int8"], sorted(config["files"])) == (20, [], sorted(GRAPHS))
    for name in GRAPHS:
        model = onnx.load(folder / f"{name}.onnx")
        onnx.checker.check_model(model, full_check=True)
        assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 20)}
        assert str(Path(export.__file__).parents[2]).encode() not in (folder / f"{name}.onnx").read_bytes()
    wave, *_ = onnx.load(folder / "encoder.onnx").graph.input
    assert [size.dim_param for size in wave.type.tensor_type.shape.dim] == ["batch", "640*frames"]


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["unitoken"] = None  # importing either fails
import runpy
try:
    import torch
except ImportError:
    pass
else:
    raise SystemExit("torch was there")
runpy.run_path(FOLDER + "/runner.py", run_name="__main__")
"""


def test_the_runner_needs_no_torch(folder, tmp_path):
    """In a process of its own, from its own folder, where neither torch nor unitoken can be imported."""

    def run(*arguments):
        program = f"FOLDER = {str(folder)!r}\n{WITHOUT_TORCH}"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done

    tok, speech = tokens_of(folder), clip(50 * HOP + 5, 3).clamp(-1, 1)
    save_audio(tmp_path / "in.wav", speech, RATE)
    run("encode", tmp_path / "in.wav", tmp_path / "tokens.npz")
    run("decode", tmp_path / "tokens.npz", tmp_path / "out.wav")
    expected = tok.encode(tmp_path / "in.wav")
    with np.load(tmp_path / "tokens.npz") as held:
        agreed = {stream: (held[stream] == getattr(expected, stream).numpy()).mean() for stream in "spg"}
        assert int(held["samples"]) == 50 * HOP + 5
    print("agreement of tokens:", agreed)
    assert agreed == {"s": 1, "p": 1, "g": 1}
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (RATE, 1, 50 * HOP + 5)
        found = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    np.testing.assert_allclose(found, tok.decode(expected).clamp(-1, 32767 / 32768).numpy(), rtol=0, atol=1e-3)


def test_the_runner_says_what_it_cannot_use(folder, tmp_path):
    runner = runners.Runner(folder)
    for wrong in (np.zeros((2, 100), np.float32), np.zeros(100, np.int16), np.full(3, np.nan)):
        with pytest.raises(ValueError, match="a waveform is a finite array"):
            runner.encode(wrong)
    s, p, g = np.zeros(5, np.int64), np.zeros(5, np.int64), np.zeros(2, np.int64)
    with pytest.raises(ValueError, match=r"tokens of s are from 0 to 63, got 0 to 64"):
        runner.decode(np.array([0, 64]), None, g)
    with pytest.raises(ValueError, match=r"tokens of p are from 0 to 63, got -1 to -1"):
        runner.decode(s, p + NONE, g)
    with pytest.raises(ValueError, match=r"tokens of g are integers with 2 codebooks, got int64 \(1, 3\)"):
        runner.decode(s, p, np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="5 tokens of S are not those of 3201 samples; give samples=3200"):
        runner.decode(s, p, g, 3201)
    with pytest.raises(ValueError, match="4 tokens of P are not those of 3200 samples; 5 are"):
        runner.decode(s, p[:4], g)
    save_audio(tmp_path / "other.wav", torch.zeros(100), 8000)
    with pytest.raises(ValueError, match="has 16 bits at 8000 Hz; make it 16-bit PCM at 16000 Hz"):
        runners.read_wav(tmp_path / "other.wav", RATE)


def test_products_of_bytes(tmp_path):
    """Blocks become products of bytes and nothing else does; speech stays nearly the same, most tokens too."""
    config = dataclasses.replace(NOISY, semantic=VARIANTS["transformer"].semantic, p_hears_s=1)
    export_onnx(codec(config), tmp_path, tokenizer(config).fingerprint, int8=("decode", "encode"))
    products = {name: sum(node.op_type == "MatMulInteger" for node in onnx.load(tmp_path / f"{name}.onnx").graph.node) for name in GRAPHS}
    # two products in each of the decoder's two blocks; four in each of S's two, two in each of P's three and G's two
    assert products == {"encoder": 2 * 4 + 3 * 2 + 2 * 2, "voice": 0, "pitch": 0, "wave": 2 * 2}
    assert json.loads((tmp_path / "runner.json").read_text())["int8"] == ["encoder", "wave"]
    tok, runner = tokenizer(config), runners.Runner(tmp_path)
    bundle = tok.encode(clip(100 * HOP), sample_rate=RATE)
    found = runner.decode(bundle.s.numpy(), bundle.p.numpy(), bundle.g.numpy())
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else "vnni"
    least = 30 if "vnni" in flags else 27  # elsewhere sums of two products saturate
    assert least < signal_to_noise(tok.decode(bundle).numpy(), found) < 80
    flips = verify_numerics(tok, [clip(100 * HOP)], {"int8": onnx_way(tmp_path, tok)})["int8"]
    for stream in "sp":
        assert flips[stream].flipped < 30
        assert 1e-3 < flips[stream].moved < 1
    with pytest.raises(ConfigError, match="int8 is for encode, decode or both, got wave"):
        export_onnx(codec(config), tmp_path, "", int8=("wave",))


def test_a_program_computes_what_its_graph_does(tmp_path):
    made = codec(NOISY)
    export_programs(made, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.pt2" for name in GRAPHS)
    for name, (graph, arguments, _) in export._graphs(made).items():
        program = torch.export.load(tmp_path / f"{name}.pt2").module()
        for part in (slice(0, 2), slice(0, 1)):
            given = [value[part] for value in arguments]
            with torch.no_grad():
                expected, found = graph(*given), program(*given)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    longer = torch.export.load(tmp_path / "encoder.pt2").module()(clip(33 * HOP)[None], torch.tensor([0]), torch.tensor([33 * HOP]))
    assert torch.equal(longer[0][0, :, 0], tokenizer(NOISY).encode(clip(33 * HOP), sample_rate=RATE).s)


PAGE = (Path(__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8")


def test_the_page_on_exports_runs(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").symlink_to(folder)
    monkeypatch.syspath_prepend("")
    monkeypatch.setitem(sys.modules, "runner", None)  # whoever imports it next gets the folder's
    del sys.modules["runner"]
    speech = clip(30 * HOP, 5)
    names = {"waveform": speech.numpy()}
    by_runner, by_program = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    exec(by_runner, names)  # noqa: S102
    tok = tokens_of(folder)
    assert np.array_equal(names["tokens"]["s"], tok.encode(speech, sample_rate=RATE).s.numpy())
    assert names["again"].shape == speech.shape
    export_programs(codec(tok.config), tmp_path / "programs")
    exec(by_program.replace("folder/", "programs/"), names := {"waveform": speech})  # noqa: S102
    assert torch.equal(names["s"][0, :, 0], tok.encode(speech, sample_rate=RATE).s)


def test_the_command_line(tmp_path, monkeypatch):
    save_stored(tmp_path / "model", TINY, codec().state_dict())
    save_audio(tmp_path / "a.wav", clip(20000), RATE)
    call = ["export", "onnx", "-m", str(tmp_path / "model"), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*(f"{name}.onnx" for name in GRAPHS), "runner.json", "runner.py"])
    verify = ["verify-numerics", str(tmp_path / "a.wav"), "-b", f"onnx:{tmp_path / 'out'}", "-m"]
    found = json.loads(CliRunner().invoke(app, [*verify, str(tmp_path / "model"), "--json"]).output)[f"onnx:{tmp_path / 'out'}"]
    assert {stream: (flips["tokens"], flips["flipped"]) for stream, flips in found.items()} == {"s": (32, 0), "p": (32, 0), "g": (2, 0)}
    save_stored(tmp_path / "other", TINY, codec(seed=1).state_dict())
    refused = CliRunner().invoke(app, [*verify, str(tmp_path / "other")])
    assert (refused.exit_code, "export it again" in refused.output) == (1, True)
    with pytest.raises(ModelError, match=r"has no runner\.json"):
        onnx_way(tmp_path, tokenizer())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"unitoken-speech\[onnx\]"):
        export_onnx(codec(), tmp_path / "none", "")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("first", [0, -2, 7])
def test_the_runner_has_the_source_of_the_codec(first):
    random = torch.Generator().manual_seed(first + 2)
    f0, voiced = 60 + 400 * torch.rand(1, 90, generator=random).double(), torch.rand(1, 90, generator=random) > 0.04
    phase = running_phase(f0, voiced, torch.tensor([first]), 320, RATE, 10)
    found = runners.running_phase(f0[0].numpy(), voiced[0].numpy(), first, 320 / RATE, 10)
    np.testing.assert_allclose(found, phase[0].numpy(), rtol=0, atol=1e-9)
    for parts in (1, 2, 4):
        expected = run_through(f0, phase, voiced, 320, RATE, parts)
        for one, other in zip(runners.run_through(f0[0].numpy(), found, voiced[0].numpy(), 320 / RATE, parts), expected, strict=True):
            np.testing.assert_allclose(np.mod(one, 2 * np.pi), np.mod(other[0].numpy(), 2 * np.pi), rtol=0, atol=1e-4)
    numbers = torch.arange(-500, 500)
    assert np.array_equal(runners.white_noise(numbers.numpy()), white_noise(numbers).numpy())


@pytest.mark.parametrize(("window", "n_fft", "first"), [(640, 640, 0), (640, 640, 121), (400, 512, 0), (48, 64, 3)])
def test_transforms_in_real_numbers(window, n_fft, first):
    values = torch.hann_window(window, dtype=torch.float64)
    frames = frames_of(torch.randn(2, 160 * 9 + window), window, 160 if window > 100 else 16)[:, :9]
    real, imaginary = Forward(values, n_fft, first)(frames)
    expected = torch.fft.rfft(frames.double() * values, n_fft)[..., first:]
    torch.testing.assert_close(torch.complex(real, imaginary), expected.to(torch.complex64), rtol=0, atol=1e-4)
    if window == n_fft and not first:
        back = Inverse(values)(real, imaginary)
        torch.testing.assert_close(back, (torch.fft.irfft(expected, n_fft) * values).float(), rtol=0, atol=1e-5)


def test_windows_of_a_waveform():
    wave = torch.arange(2 * 1120.0).view(2, 1120)
    for window, hop in ((400, 160), (640, 160), (160, 160)):
        torch.testing.assert_close(frames_of(wave, window, hop), wave.unfold(1, window, hop))
