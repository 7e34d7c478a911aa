"""Training at other levels than the recordings': what the encoders hear, and at which level what is decoded is compared."""

from dataclasses import replace

import pytest
import torch

from trainset import TINY, make_codec, make_pitch, make_pool, make_tokens
from unitoken.errors import TrainError
from unitoken.train.examples import ExampleMaker, ReconstructionSettings
from unitoken.train.reconstruction import Reconstructor

SETTINGS = ReconstructionSettings(batch=12, seconds=0.4, reference_seconds=0.4, voices=3, drop_p=0.0, drop_g=0.0, true_f0=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    pool = make_pool(root, 3, 2)
    return pool, make_tokens(make_codec(), pool, root / "tokens"), make_pitch(pool, root / "pitch")


def made(data, low, high, step=0):
    pool, tokens, pitch = data
    return ExampleMaker(pool, pool.utterances, tokens, pitch, TINY, replace(SETTINGS, gain_db=(low, high)), None, 0).make(step)


def test_half_of_the_utterances_are_heard_at_another_level_and_compared_at_their_own(data):
    gains = []
    for step in range(20):
        plain, changed = made(data, 0.0, 0.0, step), made(data, -36.0, -6.0, step)
        assert torch.equal(plain.gain, torch.ones(12, 1))
        assert torch.equal(changed.clean, plain.clean)
        torch.testing.assert_close(changed.degraded, plain.degraded * changed.gain)
        torch.testing.assert_close(changed.reference, plain.reference * changed.gain)
        gains.append(changed.gain)
    gains = torch.cat(gains)
    assert 0.4 < (gains == 1).float().mean() < 0.6
    others = 20 * gains[gains != 1].log10()
    assert -36.001 <= others.min() < -33
    assert -9 < others.max() <= -5.999


def test_nothing_is_made_louder_than_full_scale(data):
    plain, loud = made(data, 0.0, 0.0), made(data, 60.0, 60.0)
    peaks = torch.maximum(loud.degraded.abs().amax(1), loud.reference.abs().amax(1))
    louder = loud.gain[:, 0] > 1
    assert louder.any()
    assert (~louder).any()
    torch.testing.assert_close(peaks[louder], torch.ones(int(louder.sum())))
    assert torch.equal(loud.degraded[~louder], plain.degraded[~louder])


def test_what_is_decoded_is_compared_at_the_recordings_level_and_the_other_voice_heard_as_it_is_decoded(data, monkeypatch):
    example = made(data, 0.0, 0.0)
    heard = []
    for gain in (1.0, 0.25):
        module = Reconstructor(make_codec(), SETTINGS, autocast=False).eval()
        waves, front_end = [], module.codec.front_end.forward

        def listened(wave, waves=waves, front_end=front_end):
            waves.append(wave)
            return front_end(wave)

        monkeypatch.setattr(module.codec.front_end, "forward", listened)
        _, decoded, _ = module(replace(example, gain=torch.full((12, 1), gain)), torch.Generator().manual_seed(0))
        heard.append((decoded, waves[-1]))
    (plain, voice), (scaled, same) = heard
    torch.testing.assert_close(scaled, plain / 0.25)
    torch.testing.assert_close(same, voice)


@pytest.mark.parametrize("gains", [(6.0, -36.0), (-36.0,)])
def test_gains_that_are_no_range_are_refused(gains):
    with pytest.raises(TrainError, match="lowest and the highest"):
        ReconstructionSettings(gain_db=gains)
