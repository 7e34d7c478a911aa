"""A teacher hears decoded speech: what counts, who learns of it, and that words come from the S that was swapped in."""

from dataclasses import replace

import pytest
import torch

from trainset import RUN, TINY, count_steps, make_codec, make_pitch, make_pool, make_teacher, make_tokens
from unitoken.errors import TrainError
from unitoken.train.adversarial import AdversarialSettings, Adversary
from unitoken.train.examples import ExampleMaker, ReconstructionSettings
from unitoken.train.listening import heard_error
from unitoken.train.rebuild import train_reconstruction
from unitoken.train.reconstruction import Reconstructor
from unitoken.train.teachers import load_teacher

SETTINGS = ReconstructionSettings(batch=4, seconds=0.4, reference_seconds=0.4, swapped=3, drop_p=0.0, drop_g=0.0, true_f0=0.0)
HEARD = replace(SETTINGS, swapped=0, heard=2)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return load_teacher(make_teacher("whisper", tmp_path_factory.mktemp("teacher")))


@pytest.fixture(scope="module")
def maker(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    pool = make_pool(root, 3, 2)
    tokens, pitch = make_tokens(make_codec(), pool, root / "tokens"), make_pitch(pool, root / "pitch")
    return ExampleMaker(pool, pool.utterances, tokens, pitch, TINY, SETTINGS, None, 0)


def logged(folder, name):
    """Return a column of a run's log."""
    lines = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    return [float(line[lines[0].index(name)]) for line in lines[1:]]


def noise(*shape, seed=0):
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Levels:
    """A teacher whose two features are the mean level of 20 ms and ten times that."""

    name, dim, frame_rate = "levels", 2, 50

    def features(self, waveform, padding):
        assert padding == 0
        level = waveform.view(len(waveform), -1, 320).mean(2, keepdim=True)
        return torch.cat([level, 10 * level], 2)


def test_the_error_is_a_share_of_each_features_variance():
    clean, samples = noise(2, 3200), torch.tensor([3200, 3200])
    frames = clean.view(2, 10, 320).mean(2)
    assert float(heard_error(Levels(), clean, clean, samples)) == 0
    mean = frames.mean().expand(2, 3200)
    assert float(heard_error(Levels(), mean, clean, samples)) == pytest.approx(1, abs=1e-4)
    assert float(heard_error(Levels(), 0.5 * (clean + mean), clean, samples)) == pytest.approx(0.25, abs=1e-4)


def test_nothing_behind_the_end_is_heard():
    clean, samples = noise(2, 3200), torch.tensor([1600, 3200])
    wild = clean.clone()
    wild[0, 1600:] += 1
    assert float(heard_error(Levels(), wild, clean, samples)) == 0
    assert float(heard_error(Levels(), wild, clean, torch.tensor([1920, 3200]))) > 1


@pytest.mark.parametrize("kind", ["whisper", "hubert"])
def test_gradients_reach_the_decoded_waveform_and_no_weight(kind, tmp_path):
    teacher = load_teacher(make_teacher(kind, tmp_path))
    decoded, clean = noise(2, 8000).requires_grad_(), noise(2, 8000, seed=1).requires_grad_()
    heard_error(teacher, decoded, clean, torch.tensor([8000, 8000])).backward()
    assert decoded.grad.abs().sum() > 0
    assert clean.grad is None
    model = teacher.encoder if kind == "whisper" else teacher.model
    assert all(weight.grad is None for weight in model.parameters())


def test_words_are_those_of_the_s_that_was_swapped_in_and_the_decoder_alone_learns(maker, teacher, monkeypatch):
    module, example = Reconstructor(make_codec(), SETTINGS, autocast=False, teacher=teacher), maker.make(0)
    decoded, compared, decode = [], [], module._decode

    def watched(part, s, p, g, generator):
        decoded.append((s, p, g))
        return decode(part, s, p, g, generator)

    monkeypatch.setattr(module, "_decode", watched)
    monkeypatch.setattr("unitoken.train.reconstruction.heard_error", lambda *given: compared.append(given) or heard_error(*given))
    losses, _, _ = module(example, torch.Generator().manual_seed(0))
    (s, p, g), (s_swapped, p_swapped, g_swapped) = decoded
    other = [3, 1, 2]
    assert torch.equal(s_swapped, s[other])
    assert torch.equal(p_swapped, p[1:])
    assert torch.equal(g_swapped, g[1:])
    ((_, _, clean, samples),) = compared
    assert samples.tolist() == [min(int(example.samples[a]), int(example.samples[b])) for a, b in zip((1, 2, 3), other, strict=True)]
    for row, (source, length) in enumerate(zip(other, samples.tolist(), strict=True)):
        assert torch.equal(clean[row, :length], example.clean[source, :length])
        assert not clean[row, length:].any()
    losses["swapped"].backward()
    learns = {name.split(".")[1] for name, weight in module.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert learns == {"decoder"}


def test_own_words_are_heard_in_the_first_utterances_and_p_learns_too(maker, teacher):
    module, example = Reconstructor(make_codec(), HEARD, autocast=False, teacher=teacher), maker.make(0)
    example = replace(example, samples=torch.tensor([6400, 4800, 6400, 6400]))  # so the second's is not all its crop
    losses, decoded, mask = module(example, torch.Generator().manual_seed(0))
    expected = heard_error(teacher, (decoded * mask)[:2], (example.clean * mask)[:2], example.samples[:2])
    torch.testing.assert_close(losses["heard"], expected)
    assert float(losses["swapped"]) == 0
    losses["heard"].backward()
    learns = {name.split(".")[1] for name, weight in module.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert learns == {"decoder", "residual", "global_encoder", "pooling", "global_out"}


def test_training_makes_the_teacher_hear_more(maker, teacher, tmp_path, monkeypatch):
    weights = tuple((name, 1.0 if name == "heard" else 0.1 * weight) for name, weight in HEARD.weights)
    count_steps(monkeypatch, 30)
    train_reconstruction(make_codec(), maker, tmp_path, replace(HEARD, weights=weights), RUN, teacher=teacher)
    heard = logged(tmp_path, "heard")
    assert heard[-1] < 0.8 * heard[0]


def test_training_with_swapped_s_makes_the_teacher_hear_it(maker, teacher, tmp_path, monkeypatch):
    weights = tuple((name, 1.0 if name == "swapped" else weight) for name, weight in SETTINGS.weights)
    count_steps(monkeypatch, 30)
    train_reconstruction(make_codec(), maker, tmp_path, replace(SETTINGS, weights=weights), RUN, teacher=teacher)
    swapped = logged(tmp_path, "swapped")
    assert swapped[-1] < 0.8 * swapped[0]


def test_without_swapping_there_is_nothing_to_hear(maker, teacher):
    module = Reconstructor(make_codec(), replace(SETTINGS, swapped=0), autocast=False, teacher=teacher)
    losses, _, _ = module(maker.make(0), torch.Generator().manual_seed(0))
    assert float(losses["swapped"]) == float(losses["heard"]) == 0


@pytest.mark.parametrize("swapped", [1, 5, -1])
def test_a_swap_needs_two_utterances_of_the_batch(swapped):
    with pytest.raises(TrainError, match=f"swapped must be 0, or from 2 to the batch of 4, got {swapped}"):
        replace(SETTINGS, swapped=swapped)


@pytest.mark.parametrize("heard", [5, -1])
def test_no_more_is_heard_than_the_batch(heard):
    with pytest.raises(TrainError, match=f"heard must be from 0 to the batch of 4, got {heard}"):
        replace(SETTINGS, heard=heard)


@pytest.mark.parametrize("settings", [SETTINGS, HEARD])
def test_listening_needs_a_teacher(settings):
    with pytest.raises(TrainError, match="there is no teacher to hear them; give one"):
        Reconstructor(make_codec(), settings)
    with pytest.raises(TrainError, match="there is no teacher to hear them; give one"):
        Adversary(make_codec(), AdversarialSettings(settings))
