"""Decoding with another utterance's G in training: whose height F0 has, whose voice is heard, and who learns of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from trainset import TINY, make_codec, make_pool, make_tokens
from unitoken.errors import TrainError
from unitoken.train.examples import ExampleMaker, ReconstructionSettings
from unitoken.train.listening import only_listening, voice_error
from unitoken.train.pitch import DATA, PitchCache
from unitoken.train.reconstruction import Reconstructor
from unitoken.train.store import mark

SETTINGS = ReconstructionSettings(batch=4, seconds=0.4, reference_seconds=0.4, voices=3, drop_p=0.0, drop_g=0.0, true_f0=0.0)
HEIGHTS = [4.5, 4.75, 5.0, 5.25, 5.5]  # of the first five utterances; the sixth has no voice


@pytest.fixture(scope="module")
def maker(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    pool = make_pool(root, 3, 2)
    (root / "pitch").mkdir()
    logs = []
    for utterance, height in zip(pool.utterances, [*HEIGHTS, 0], strict=True):
        frames = np.full(-(-utterance.samples // 320), height, "<f2")
        frames[:9:3] = 0  # no voice
        logs.append(frames)
    np.concatenate(logs).tofile(root / "pitch" / DATA)
    mark(root / "pitch" / DATA, pool)
    pitch = PitchCache(root / "pitch", pool)
    return ExampleMaker(pool, pool.utterances, make_tokens(make_codec(), pool, root / "tokens"), pitch, TINY, SETTINGS, None, 0)


def test_an_utterances_height_is_the_median_of_its_voiced_frames(maker):
    heights = maker._height(maker.sampler.utterances)
    assert heights[:5].tolist() == HEIGHTS
    assert math.isnan(heights[5])
    example = maker.make(0)
    for pitch, height in zip(example.pitch, example.height, strict=True):
        voiced = pitch[torch.isfinite(pitch)]
        assert torch.equal(voiced, height.expand(len(voiced)))


def test_f0_keeps_its_course_at_the_height_of_g_and_the_decoder_alone_learns(maker, monkeypatch):
    module = Reconstructor(make_codec(), SETTINGS, autocast=False)
    example = next(made for made in map(maker.make, range(99)) if made.height[:3].isfinite().all() and len(made.height[:3].unique()) == 3)
    course = torch.linspace(-0.1, 0.1, example.pitch.shape[1])
    example = replace(example, pitch=example.pitch + course)
    decoded, compared, decode = [], [], module._decode

    def watched(part, s, p, g, generator):
        decoded.append((part, s, p, g))
        return decode(part, s, p, g, generator)

    monkeypatch.setattr(module, "_decode", watched)
    monkeypatch.setattr("unitoken.train.reconstruction.voice_error", lambda *given: compared.append(given) or voice_error(*given))
    losses, _, _ = module(example, torch.Generator().manual_seed(0))
    (_, s, p, g), (part, s_swapped, p_swapped, g_swapped) = decoded
    other = [2, 0, 1]
    assert torch.equal(s_swapped, s[:3])
    assert torch.equal(p_swapped, p[:3])
    assert torch.equal(g_swapped, g[other])
    voiced = torch.isfinite(example.pitch[:3])
    assert torch.equal(torch.isfinite(part.pitch), voiced)
    torch.testing.assert_close(part.pitch[voiced], (example.height[other][:, None] + course).expand_as(part.pitch)[voiced])
    ((heard, wanted, own),) = compared
    assert torch.equal(wanted, own[other])
    assert len(heard) == 3
    (losses["height"] + losses["voice"]).backward()
    learns = {name.split(".")[1] for name, weight in module.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert learns == {"decoder"}
    assert all(weight.requires_grad for weight in module.codec.global_encoder.parameters())


def test_an_utterance_keeps_its_height_where_it_or_the_other_has_none_or_nearly_the_same(maker, monkeypatch):
    module, example = Reconstructor(make_codec(), replace(SETTINGS, voices=4), autocast=False), maker.make(0)
    example = replace(example, height=torch.tensor([5.0, math.nan, 5.0, 5.19]), pitch=torch.full_like(example.pitch, 5.0))
    decoded, decode = [], module._decode
    monkeypatch.setattr(module, "_decode", lambda part, *rest: decoded.append(part) or decode(part, *rest))
    losses, _, _ = module(example, torch.Generator().manual_seed(0))
    assert torch.equal(decoded[1].pitch, example.pitch)
    assert torch.isfinite(losses["height"])
    assert torch.isfinite(losses["voice"])


def test_the_error_of_a_voice_is_one_at_ones_own():
    own, wanted = torch.zeros(2, 4), torch.tensor([[1.0, 0, 0, 0], [0, 2.0, 0, 0]], requires_grad=True)
    heard = own.clone().requires_grad_()
    error = voice_error(heard, wanted, own)
    assert float(error.detach()) == 1
    assert float(voice_error(wanted, wanted, own).detach()) == 0
    assert float(voice_error(0.5 * wanted, wanted, own).detach()) == 0.25
    error.backward()
    assert heard.grad.any()
    assert wanted.grad is None


def test_only_listening_gives_weights_back_after_an_error():
    layer = torch.nn.Linear(2, 2)
    layer.bias.requires_grad_(False)

    def listen():
        with only_listening(layer):
            assert not layer.weight.requires_grad
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        listen()
    assert layer.weight.requires_grad
    assert not layer.bias.requires_grad


def test_without_voices_nothing_is_decoded_again(maker):
    module = Reconstructor(make_codec(), replace(SETTINGS, voices=0), autocast=False)
    losses, _, _ = module(maker.make(0), torch.Generator().manual_seed(0))
    assert float(losses["height"]) == 0
    assert float(losses["voice"]) == 0


@pytest.mark.parametrize("voices", [1, 5, -1])
def test_a_change_of_voices_needs_two_utterances_of_the_batch(voices):
    with pytest.raises(TrainError, match=f"voices must be 0, or from 2 to the batch of 4, got {voices}"):
        replace(SETTINGS, voices=voices)
