from pathlib import Path

import pytest
import safetensors.torch
import torch

from speechlike import speech
from unitoken.audio import load_audio
from unitoken.errors import AudioError, ModelError
from unitoken.evaluate import SpeakerEmbedder

SHARED = Path(__file__).parents[2] / "shared"


def tiny_weights():
    """Return random tensors of the right names and shapes."""
    generator = torch.Generator().manual_seed(0)
    tensors = {"linear.weight": (256, 256), "linear.bias": (256,)}
    for layer in range(3):
        tensors |= {f"lstm.weight_ih_l{layer}": (1024, 256 if layer else 40), f"lstm.weight_hh_l{layer}": (1024, 256)}
        tensors |= {f"lstm.bias_ih_l{layer}": (1024,), f"lstm.bias_hh_l{layer}": (1024,)}
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in tensors.items()}


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    path = tmp_path_factory.mktemp("ge2e") / "random.safetensors"
    safetensors.torch.save_file(tiny_weights(), path)
    return SpeakerEmbedder(path)


@pytest.mark.parametrize("samples", [1, 1600, 25600, 40000])
def test_embeddings_are_unit_vectors(embedder, samples):
    voice = embedder.embed(speech(2.5)[:samples])
    assert voice.shape == (256,)
    assert float(voice.norm()) == pytest.approx(1, abs=1e-5)
    assert not voice.requires_grad


@pytest.mark.parametrize(
    ("samples", "windows"),
    [
        (1, 1),
        (25440, 1),  # 160 STFT frames
        (25600, 1),  # 161: the second window would be 62 % full
        (12320 + 19199, 1),
        (12320 + 19200, 2),  # three quarters full
        (2 * 12320 + 19200, 3),
    ],
)
def test_windows_and_the_mostly_empty_last_one(embedder, samples, windows):
    parts = embedder._parts(embedder._mel(torch.ones(samples)), samples)
    assert parts.shape == (windows, 160, 40)


def test_quiet_clips_are_raised_and_loud_ones_kept(embedder):
    quiet = speech(2.0) * 1e-2
    assert torch.allclose(embedder.embed(quiet), embedder.embed(quiet / 3), atol=1e-4)
    loud = speech(2.0)
    assert torch.equal(embedder._mel(loud), embedder._mel(loud.clone()))
    assert not torch.allclose(embedder.embed(loud), embedder.embed(loud / 3), atol=1e-4)


def test_similarity_of_a_clip_with_itself(embedder):
    assert embedder.similarity(speech(2.0), speech(2.0)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", [(0,), (1, 16000)])
def test_waveforms_that_are_refused(embedder, shape):
    with pytest.raises(AudioError, match=r"expected a waveform \(samples,\)"):
        embedder.embed(torch.zeros(shape))


def test_weights_that_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no speaker weights at .*none\.safetensors"):
        SpeakerEmbedder(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="does not hold a GE2E embedder"):
        SpeakerEmbedder(tmp_path / "bad.safetensors")
    safetensors.torch.save_file({"linear.bias": torch.zeros(256)}, tmp_path / "half.safetensors")
    with pytest.raises(ModelError, match="does not hold a GE2E embedder"):
        SpeakerEmbedder(tmp_path / "half.safetensors")


@pytest.mark.shared
def test_cosines_of_known_clips():
    """The values are of an independent implementation with librosa's mel filters."""
    embedder = SpeakerEmbedder(SHARED / "evaluators/ge2e/ge2e.safetensors")
    folder = SHARED / "audio/test/librispeech"
    names = ("ls150/150-126107-0000", "ls1688/1688-142285-0000", "ls1688/1688-142285-0001")
    one, other, same = (embedder.embed(load_audio(folder / f"{name}.flac", sample_rate=16000)[0]) for name in names)
    assert float(other @ same) == pytest.approx(0.9556, abs=1e-3)
    assert float(one @ other) == pytest.approx(0.6232, abs=1e-3)
