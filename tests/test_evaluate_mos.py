import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from speechlike import speech
from unitoken.audio import load_audio
from unitoken.errors import AudioError, ModelError
from unitoken.evaluate import Dnsmos

SHARED = Path(__file__).parents[2] / "shared"


class Session:
    """A network whose score is the mean of its input."""

    inputs = (SimpleNamespace(name="input_1", shape=["N", 900, 120]),)
    runs: ClassVar[list] = []

    def __init__(self, path, options, providers):
        if b"onnx" not in Path(path).read_bytes():
            raise RuntimeError("INVALID_PROTOBUF")
        assert options.intra_op_num_threads == 2

    def get_inputs(self):
        return self.inputs

    def run(self, outputs, feed):
        self.runs.append(feed["input_1"])
        return [feed["input_1"].mean((1, 2))]


@pytest.fixture
def judge(tmp_path, monkeypatch):
    Session.runs.clear()
    runtime = SimpleNamespace(SessionOptions=SimpleNamespace, InferenceSession=Session)
    monkeypatch.setattr("unitoken.evaluate.mos.require", lambda module, feature: runtime)
    (tmp_path / "a.onnx").write_bytes(b"onnx")
    return Dnsmos(tmp_path / "a.onnx", threads=2)


@pytest.mark.parametrize(("seconds", "windows"), [(0.01, 2), (9.01, 1), (4.0, 7), (10.0, 1), (10.02, 2), (12.5, 4)])
def test_windows_of_nine_seconds_every_second(judge, seconds, windows):
    assert judge.score(speech(seconds)) is not None
    (parts,) = Session.runs
    assert parts.shape == (windows, 900, 120)
    assert parts.max() == 1
    assert parts.min() >= -1


def test_only_the_shape_of_the_spectrum_counts(judge):
    clip = speech(3.0)
    assert judge.score(clip) == pytest.approx(judge.score(clip * 0.1), abs=1e-4)
    noisy = clip + 0.05 * torch.randn(len(clip), generator=torch.Generator().manual_seed(0))
    assert judge.score(noisy) > judge.score(clip) + 0.1  # this network likes noise


def test_a_tone_lands_in_its_band(judge):
    judge.score(torch.sin(2 * torch.pi * 1000 * torch.arange(160000) / 16000))
    assert Session.runs[0][0, 450].argmax() == 39  # the 40th edge of 121 is at 1 kHz


def test_what_has_no_score(judge):
    assert judge.score(torch.zeros(0)) is None
    assert judge.score(torch.zeros(16000)) is None
    with pytest.raises(AudioError, match=r"expected a mono waveform \(samples,\), got \(2, 5\)"):
        judge.score(torch.zeros(2, 5))


def test_networks_that_are_refused(judge, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="no DNSMOS network at"):
        Dnsmos(tmp_path / "gone.onnx")
    (tmp_path / "b.onnx").write_bytes(b"no")
    with pytest.raises(ModelError, match="is not an ONNX network: INVALID_PROTOBUF"):
        Dnsmos(tmp_path / "b.onnx")
    monkeypatch.setattr(Session, "inputs", (SimpleNamespace(name="input_1", shape=["N", 144160]),))
    with pytest.raises(ModelError, match=r"takes \[\('input_1', \[144160\]\)\], not the log-mel"):
        Dnsmos(tmp_path / "a.onnx", threads=2)


@pytest.mark.shared
def test_the_published_network():
    judge = Dnsmos(SHARED / "evaluators" / "dnsmos" / "DNSMOS" / "model_v8.onnx")
    clip, _ = load_audio(sorted((SHARED / "audio" / "test").rglob("*.flac"))[0], sample_rate=16000)
    noise = 0.03 * torch.randn(len(clip), generator=torch.Generator().manual_seed(0))
    assert 2.5 < judge.score(clip) < 4.5
    assert judge.score(clip + noise) < judge.score(clip) - 0.3


def test_it_goes_to_another_process_as_its_path(judge):
    again = pickle.loads(pickle.dumps(judge))
    clip = speech(1.0)
    assert again.session is not judge.session
    assert again.score(clip) == judge.score(clip)
