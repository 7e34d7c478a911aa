import pytest
import torch

from trainset import make_codec
from unitoken.errors import TrainError
from unitoken.train.adversarial import AdversarialSettings, Adversary
from unitoken.train.discriminators import (
    Discriminators,
    DiscriminatorSettings,
    discriminator_loss,
    generator_loss,
    limit_band,
    matching_loss,
)
from unitoken.train.examples import Example

SMALL = DiscriminatorSettings(windows=(512, 256), channels=4, periods=(2, 3), period_channels=2)


def noise(rows=2, samples=4000, seed=0):
    return 0.1 * torch.randn(rows, samples, generator=torch.Generator().manual_seed(seed))


def test_every_network_gives_logits_and_features():
    verdict = Discriminators(SMALL)(noise())
    assert len(verdict.logits) == len(verdict.features) == 4
    assert verdict.logits[0].shape == (2, 1, 4000 // 128 + 1, 17)
    assert verdict.logits[2].shape[-1] == 2
    assert [len(features) for features in verdict.features] == [5, 5, 4, 4]
    assert all(logits.shape[0] == 2 and logits.dtype == torch.float32 for logits in verdict.logits)


def test_the_default_is_light_and_has_no_period_networks():
    networks = Discriminators(DiscriminatorSettings()).networks
    assert len(networks) == 3
    assert max(sum(p.numel() for p in network.parameters()) for network in networks) < 300_000


def test_rows_do_not_see_each_other():
    judges, waves = Discriminators(SMALL), noise()
    together, alone = judges(waves), judges(waves[:1])
    for a, b in zip(together.logits, alone.logits, strict=True):
        assert torch.allclose(a[:1], b, atol=1e-5)


def test_silence_gives_finite_gradients():
    wave = torch.zeros(1, 2000, requires_grad=True)
    sum(logits.sum() for logits in Discriminators(SMALL)(wave).logits).backward()
    assert wave.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["hinge", "least_squares"])
def test_losses_of_a_perfect_and_a_fooled_judge(kind):
    high, low = [torch.ones(2, 3)], [-torch.ones(2, 3) if kind == "hinge" else torch.zeros(2, 3)]
    assert float(discriminator_loss(high, low, kind)) == 0
    assert float(discriminator_loss(low, high, kind)) > 1
    assert float(generator_loss(high, kind)) == 0
    assert float(generator_loss(low, kind)) > 0.9


def test_matching_is_a_share_and_leaves_the_recorded_alone():
    real, fake = [[torch.full((2, 3), 2.0, requires_grad=True)]], [[torch.full((2, 3), 3.0, requires_grad=True)]]
    loss = matching_loss(real, fake)
    loss.backward()
    assert loss.item() == 0.5
    assert real[0][0].grad is None
    assert fake[0][0].grad is not None


@pytest.mark.parametrize("kind", ["hinge", "least_squares"])
def test_judges_learn_to_tell_noise_from_tones(kind):
    torch.manual_seed(0)
    judges = Discriminators(SMALL)
    optimizer = torch.optim.Adam(judges.parameters(), lr=1e-2)
    tone = 0.1 * torch.sin(torch.arange(4000) * 0.2).expand(2, -1)
    values = []
    for step in range(20):
        loss = discriminator_loss(judges(tone).logits, judges(noise(seed=step)).logits, kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.6 * values[0]


def test_the_band_is_cut_for_narrow_rows_only():
    waves = noise(2, 8000)
    cut = limit_band(waves, torch.tensor([8000.0, 4000.0]), 16000)
    assert torch.allclose(cut[0], waves[0], atol=1e-6)
    spectrum, before = torch.fft.rfft(cut[1]).abs(), torch.fft.rfft(waves[1]).abs()
    assert spectrum[2001:].max() < 1e-4 * before.max()
    assert torch.allclose(spectrum[:1899], before[:1899], atol=1e-3)


def make_adversary(**settings):
    return Adversary(make_codec(), AdversarialSettings(discriminators=SMALL, seconds=0.2, **settings), autocast=False)


def example(clean, samples, limits):
    empty = torch.zeros(len(clean), 0)
    return Example(clean, clean, torch.tensor(samples), empty, empty, empty, empty, empty, torch.tensor(limits), empty)


def test_both_signals_are_cut_alike():
    module = make_adversary()
    clean, decoded = noise(3, 8000), noise(3, 8000, seed=1)
    mask = (torch.arange(8000)[None] < torch.tensor([8000, 8000, 1000])[:, None]).float()
    given = example(clean, [8000, 8000, 1000], [8000.0, 4000.0, 8000.0])
    real, fake = module.pieces(clean, decoded, given, mask, torch.Generator().manual_seed(0))
    same = module.pieces(clean, clean, given, mask, torch.Generator().manual_seed(0))
    assert real.shape == fake.shape == (3, 3200)
    assert torch.equal(same[0], same[1])
    assert torch.equal(same[0], real)
    assert (clean[0].unfold(0, 3200, 1) - real[0]).abs().amax(1).min() < 1e-6
    for wave in (real, fake):
        assert torch.fft.rfft(wave[1]).abs()[801:].max() < 1e-3
        assert wave[2, 1000:].abs().max() < 1e-6


def test_a_convinced_judge_gets_no_gradient():
    module, fake = make_adversary(), noise().requires_grad_()
    adversarial, matching = module.generator_losses(noise(seed=1), fake)
    (adversarial + matching).backward()
    assert fake.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in module.discriminators.parameters())
    module.discriminate(module.discriminators, noise(seed=1), fake).backward()
    assert all(p.grad is not None for p in module.discriminators.parameters())


def test_weights_grow_after_the_warm_up():
    settings = AdversarialSettings(warmup=10, ramp=4)
    assert [settings.strength(step) for step in (0, 9, 10, 11, 13, 100)] == [0, 0, 0.25, 0.5, 1, 1]
    assert AdversarialSettings(warmup=0, ramp=0).strength(0) == 1


@pytest.mark.parametrize(
    ("settings", "text"), [({"loss": "hing"}, "hinge, least_squares"), ({"warmup": -1}, "0 or more"), ({"seconds": 0.0}, "positive")]
)
def test_wrong_settings_are_refused(settings, text):
    with pytest.raises(TrainError, match=text):
        AdversarialSettings(**settings)


def test_averages_start_from_the_codebook():
    torch.manual_seed(0)
    latent, mask = torch.randn(1, 20, 8), torch.ones(1, 20, 1)
    moved = {}
    for settled in (False, True):
        module = make_adversary()
        trainer, before = module.rebuilder.trainer_p, module.rebuilder.codec.quantizer_p.codebook.clone()
        if settled:
            module.rebuilder.warm_start()
        trainer(latent, mask)
        moved[settled] = float((trainer.quantizer.codebook - before).abs().mean())
    assert moved[True] < 0.1 * moved[False]


def test_the_decoder_alone_can_be_trained():
    module = make_adversary(decoder_only=True)
    names = {name.split(".")[1] for name, p in module.rebuilder.named_parameters() if p.requires_grad and name.startswith("codec.")}
    assert names == {"decoder"}
    before = module.rebuilder.codec.quantizer_p.codebook.clone()
    module.rebuilder.trainer_p(torch.randn(1, 20, 8), torch.ones(1, 20, 1))
    assert torch.equal(module.rebuilder.codec.quantizer_p.codebook, before)


def test_the_state_of_another_configuration_is_refused():
    with pytest.raises(TrainError, match="another configuration than the codec"):
        make_adversary().rebuilder.warm_start({"heads.0.weight": torch.zeros(1)})
