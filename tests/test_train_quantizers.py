import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainset import buzz
from unitoken.config import QuantizerConfig
from unitoken.errors import TrainError
from unitoken.nn.codebook import nearest
from unitoken.nn.quantize import build_quantizer
from unitoken.train.examples import ReconstructionSettings
from unitoken.train.losses import EnvelopeLoss, SpectralLoss, voiced_loss
from unitoken.train.quantizers import Averages, GumbelTrainer, build_trainer, kmeans, masked_mean

CONFIGS = {
    "vq": QuantizerConfig("vq", 8, 1, 32),
    "rvq": QuantizerConfig("rvq", 8, 2, 16),
    "gumbel": QuantizerConfig("gumbel", 8, 2, 16),
    "fsq": QuantizerConfig("fsq", 4, 2, 16, (4, 4)),
}


def make_trainer(kind, seed=0):
    torch.manual_seed(seed)
    return build_trainer(build_quantizer(CONFIGS[kind]))


def clusters(count, dim, seed=0):
    """Return latents around 8 centres far from the codebooks' start."""
    generator = torch.Generator().manual_seed(seed)
    centres = 3 + 2 * torch.randn(8, dim, generator=generator)
    return centres[torch.randint(8, (1, count), generator=generator)] + 0.1 * torch.randn(1, count, dim, generator=generator)


@pytest.mark.parametrize("kind", ["vq", "rvq"])
def test_averages_lower_the_error(kind):
    trainer, latent, mask = make_trainer(kind), clusters(256, 8), torch.ones(1, 256, 1)
    first = float(trainer(latent, mask).commitment)
    for _ in range(20):
        trainer(latent, mask)
    trainer.eval()
    assert float(trainer(latent, mask).commitment) < 0.1 * first


def test_gumbel_codebooks_learn_by_gradient():
    trainer, latent, mask = make_trainer("gumbel"), clusters(256, 8) / 4, torch.ones(1, 256, 1)
    optimizer = torch.optim.Adam(trainer.parameters(), lr=0.1)

    def error():
        return float((trainer.quantizer.quantize(latent)[1] - latent).detach().square().mean())

    first = error()
    for _ in range(20):
        loss = (trainer(latent, mask).codewords - latent).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert error() < 0.7 * first


def test_an_encoder_learns_through_rounding():
    torch.manual_seed(0)
    trainer, encoder = make_trainer("fsq"), torch.nn.Linear(3, 4)
    source, mask = torch.randn(1, 128, 3), torch.ones(1, 128, 1)
    target = torch.tanh(source @ torch.randn(3, 4))
    optimizer = torch.optim.Adam(encoder.parameters(), lr=0.1)
    errors = []
    for _ in range(20):
        error = (trainer(encoder(source), mask).codewords - target).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.5 * errors[0]


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_training_and_inference_agree_without_noise(kind):
    trainer, latent = make_trainer(kind).eval(), torch.randn(2, 5, CONFIGS[kind].dim)
    result = trainer(latent, torch.ones(2, 5, 1))
    tokens, codewords = trainer.quantizer.quantize(latent)
    assert torch.equal(result.tokens, tokens)
    assert torch.allclose(result.codewords, codewords, atol=1e-6)


@pytest.mark.parametrize("kind", ["vq", "rvq"])
def test_gradients_pass_straight_through(kind):
    trainer = make_trainer(kind).eval()
    latent = torch.randn(1, 6, 8, requires_grad=True)
    weights = torch.randn(1, 6, 8)
    (trainer(latent, torch.ones(1, 6, 1)).codewords * weights).sum().backward()
    assert torch.allclose(latent.grad, weights)


@pytest.mark.parametrize("kind", ["gumbel", "fsq"])
def test_gradients_reach_the_latent(kind):
    latent = torch.randn(1, 6, CONFIGS[kind].dim, requires_grad=True)
    make_trainer(kind)(latent, torch.ones(1, 6, 1)).codewords.square().sum().backward()
    assert (latent.grad.abs().sum(-1) > 0).all()


def test_dead_codewords_start_anew_at_latents():
    averages, codebook = Averages(16, 2), torch.full((16, 2), 100.0)
    codebook[0] = 0
    torch.manual_seed(0)
    latents = torch.randn(64, 2)
    for _ in range(30):
        averages.update(codebook, latents, nearest(latents, codebook))
    assert codebook.abs().max() < 5
    assert nearest(latents, codebook).unique().numel() == 16


def test_frames_outside_the_mask_change_nothing():
    mask = (torch.arange(12) < 6).float()[None, :, None]
    latent = torch.randn(1, 12, 8, generator=torch.Generator().manual_seed(1))
    results = []
    for scale in (1, 50):
        trainer = make_trainer("vq")
        torch.manual_seed(2)
        loss = trainer(torch.where(mask > 0, latent, latent * scale), mask).commitment
        results.append((float(loss), trainer.quantizer.codebook.clone()))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize(("bits", "offset"), [(1.0, 0.0), (3.5, 1.5)])
def test_rate_control_moves_the_entropy_to_its_target(bits, offset):
    quantizer = build_quantizer(CONFIGS["gumbel"])
    torch.manual_seed(0)
    trainer = GumbelTrainer(quantizer, bits / 4)
    latent = torch.nn.Parameter(offset + 0.5 * torch.randn(1, 128, 8))
    optimizer = torch.optim.Adam([latent, quantizer.codebook], lr=0.05)
    losses = []
    for _ in range(40):
        loss = trainer(latent, torch.ones(1, 128, 1)).entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))  # bits off the target, both codebooks
    assert losses[0] > 0.5
    assert losses[-1] < 0.3 * losses[0]


def test_the_temperature_falls_to_one_half():
    trainer = GumbelTrainer(build_quantizer(CONFIGS["gumbel"]), temperature_decay=0.5)
    for expected in (1.0, 0.5, 0.5):
        trainer(torch.zeros(1, 1, 8), torch.ones(1, 1, 1))
        assert float(trainer.temperature) == expected


def test_an_unknown_quantizer_is_refused():
    with pytest.raises(TypeError, match="no way is known to train a Linear"):
        build_trainer(torch.nn.Linear(1, 1))


def test_kmeans_finds_the_centres():
    points = clusters(400, 4)[0]
    centres = kmeans(points, 8, rounds=10, seed=3)
    error = (points - centres[nearest(points, centres)]).square().mean()
    assert error < 0.5 * (points - points.mean(0)).square().mean()
    assert torch.equal(centres, kmeans(points, 8, rounds=10, seed=3))
    index = nearest(points, kmeans(points, 1))
    assert not index.any()
    assert torch.allclose(kmeans(points, 1)[0], points.mean(0), atol=1e-4)


@given(st.integers(1, 6), st.integers(0, 6))
def test_masked_mean_is_the_mean_of_valid_frames(valid, padding):
    value = torch.randn(1, valid + padding, 3)
    mask = (torch.arange(valid + padding) < valid).float()[None, :, None]
    assert math.isclose(float(masked_mean(value, mask)), float(value[:, :valid].mean()), abs_tol=1e-5)


@pytest.fixture(scope="module")
def spectral():
    return SpectralLoss()


def wave(hertz=200):
    return torch.from_numpy(buzz(0.5, hertz))[None]


def test_equal_signals_have_no_loss(spectral):
    losses = spectral(wave(), wave(), torch.ones(1, 8000), torch.tensor([8000.0]))
    assert {name: float(value) for name, value in losses.items()} == {"mel": 0.0, "magnitude": 0.0}


def courses(seed=0, seconds=1.5, rate=16000):
    """Return noise whose loudness goes its own way in each of two bands."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.fft.rfft(torch.randn(int(seconds * rate), generator=generator))
    frequencies = torch.fft.rfftfreq(int(seconds * rate), 1 / rate)
    time = torch.arange(int(seconds * rate)) / rate
    low, high = (torch.fft.irfft(spectrum * band) for band in (frequencies < 1000, (frequencies > 1500) & (frequencies < 5000)))
    return (0.05 * (low * (1 + torch.sin(2 * torch.pi * 4 * time)) + high * (1 + torch.cos(2 * torch.pi * 5 * time))))[None]


def test_the_course_of_loudness_is_heard_and_its_level_is_not():
    envelope, everywhere, top = EnvelopeLoss(), torch.ones(1, 24000), torch.tensor([8000.0])
    one = courses()
    assert float(envelope(0.1 * one, one, everywhere, top)) == pytest.approx(0, abs=2e-3)
    steady = 0.05 * torch.randn(1, 24000, generator=torch.Generator().manual_seed(5))
    assert float(envelope(steady, one, everywhere, top)) > 0.7
    assert 0.02 < float(envelope(courses(1), one, everywhere, top)) < 0.5  # other noise, the same course
    assert float(envelope(-one.roll(1600, 1), one, everywhere, top)) > 0.3


def test_courses_are_compared_inside_the_utterance_and_below_its_limit():
    envelope, one, top = EnvelopeLoss(), courses(), torch.tensor([8000.0])
    early = (torch.arange(24000) < 12000).float()[None]
    other = torch.where(early > 0, one, 0.05 * torch.randn(1, 24000, generator=torch.Generator().manual_seed(5)))
    assert float(envelope(other, one, early, top)) == pytest.approx(0, abs=1e-6)
    assert float(envelope(other, one, torch.ones(1, 24000), top)) > 0.1
    spectrum = torch.fft.rfft(one)
    low = torch.fft.irfft(spectrum * (torch.fft.rfftfreq(24000, 1 / 16000) < 1100))
    assert float(envelope(low, one, torch.ones(1, 24000), torch.tensor([900.0]))) == pytest.approx(0, abs=1e-3)
    assert float(envelope(low, one, torch.ones(1, 24000), top)) > 0.1


def test_a_quiet_stretch_does_not_count_and_a_short_row_neither():
    envelope, top = EnvelopeLoss(), torch.tensor([8000.0])
    loud = torch.ones(24000)
    loud[12000:] = 0.01
    one = courses() * loud
    other = one.clone()
    other[:, 13000:] = 0.0005 * torch.randn(1, 11000, generator=torch.Generator().manual_seed(5))
    assert float(envelope(other, one, torch.ones(1, 24000), top)) < 0.02
    short = one[:, :6000].clone().requires_grad_()
    assert float(envelope(short, one[:, :6000], torch.ones(1, 6000), top)) == 0


def test_silence_has_a_loss_and_a_gradient():
    envelope, one = EnvelopeLoss(), courses()
    silent = torch.zeros_like(one).requires_grad_()
    loss = envelope(silent, one, torch.ones(1, 24000), torch.tensor([8000.0]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1, abs=1e-3)
    assert bool(silent.grad.isfinite().all())
    assert float(envelope(one, torch.zeros_like(one), torch.ones(1, 24000), torch.tensor([8000.0]))) == 0


def test_ten_times_the_level_is_one_in_log_mel(spectral):
    noise = 0.05 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    losses = spectral(noise * 10, noise, torch.ones(1, 8000), torch.tensor([8000.0]))
    assert float(losses["mel"]) == pytest.approx(1, abs=0.02)


def test_nothing_above_the_limit_counts(spectral):
    time = torch.arange(8000) / 16000
    high = 0.1 * torch.sin(2 * torch.pi * 6000 * time)[None] * torch.hann_window(8000)
    open_, closed = (spectral(wave() + high, wave(), torch.ones(1, 8000), torch.tensor([limit])) for limit in (8000.0, 4000.0))
    for name in ("mel", "magnitude"):
        assert float(open_[name]) > 0.0005
        assert float(closed[name]) < 0.05 * float(open_[name])


def test_magnitudes_are_compared_in_each_window(spectral):
    """768 is no window of mel bands, 512 is."""
    one, other, everywhere, top = courses(), courses(1), torch.ones(1, 24000), torch.tensor([8000.0])
    alone = {window: SpectralLoss(compressed=(window,))(other, one, everywhere, top) for window in (2048, 768, 512)}
    both = SpectralLoss(compressed=(2048, 768, 512))(other, one, everywhere, top)
    assert float(both["magnitude"]) == pytest.approx(sum(float(losses["magnitude"]) for losses in alone.values()) / 3, rel=1e-5)
    assert len({round(float(losses["magnitude"]), 5) for losses in alone.values()}) == 3
    assert all(torch.equal(losses["mel"], spectral(other, one, everywhere, top)["mel"]) for losses in (both, *alone.values()))
    assert torch.equal(alone[2048]["magnitude"], spectral(other, one, everywhere, top)["magnitude"])


@pytest.mark.parametrize("windows", [(), (2048, 770), (32,)])
def test_windows_of_magnitudes_can_be_cut_into_quarters(windows):
    with pytest.raises(TrainError, match="magnitudes must be windows of 64 samples or more, divisible by 4, at least one, got"):
        ReconstructionSettings(magnitudes=windows)


def test_nothing_behind_the_end_counts(spectral):
    mask = (torch.arange(8000) < 5000).float()[None]
    clean = wave() * mask
    wild = clean + torch.randn(1, 8000) * (1 - mask)
    assert float(spectral(wild, clean, mask, torch.tensor([8000.0]))["mel"]) == 0


def test_the_pitch_loss_rewards_the_truth_and_ignores_the_unvoiced_and_the_padding():
    target, mask = torch.tensor([[4.6, np.nan, 5.3, np.nan]]), torch.tensor([[1.0, 1, 1, 0]])
    voice, right = torch.tensor([[20.0, -20, 20, 20]]), torch.tensor([[4.6, 9.0, 5.3, 9.0]])
    assert float(voiced_loss(voice, right, target, mask)) < 1e-6
    assert float(voiced_loss(voice, right + torch.tensor([[0.3, 0, 0, 0]]), target, mask)) == pytest.approx((0.3 - 0.01) / 2, abs=1e-5)
    small = voiced_loss(voice, right + torch.tensor([[0.01, 0, 0, 0]]), target, mask)
    assert float(small) == pytest.approx(0.01**2 / (2 * 0.02) / 2, abs=1e-5)
    assert float(voiced_loss(-voice, right, target, mask)) == pytest.approx(0.1 * 20, abs=1e-5)
    assert float(voiced_loss(voice, right, target, torch.ones(1, 4))) == pytest.approx(0.1 * 20 / 4, abs=1e-5)
    unvoiced = torch.full((1, 4), float("nan"))
    assert torch.isfinite(voiced_loss(voice, right, unvoiced, torch.zeros(1, 4)))
