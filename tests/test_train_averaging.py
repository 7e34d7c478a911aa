"""The mean of several codecs' weights."""

import dataclasses

import pytest
import torch

from trainset import make_codec
from unitoken.errors import TrainError
from unitoken.model.codec import Codec
from unitoken.train.averaging import mean_codec


def trained_on(codec, change):
    """Return a codec whose decoder has gone elsewhere."""
    made = Codec(dataclasses.replace(codec.config, name="other"))
    made.load_state_dict(codec.state_dict())
    with torch.no_grad():
        for weight in made.decoder.parameters():
            weight += change
    return made


def test_weights_are_means_and_what_is_equal_stays_bit_for_bit():
    first = make_codec()
    made = mean_codec([first, trained_on(first, 0.5), trained_on(first, 1.0)])
    assert made.config == first.config
    assert not made.training
    for name, value in first.state_dict().items():
        got = made.state_dict()[name]
        if name in {f"decoder.{part}" for part, _ in first.decoder.named_parameters()}:
            torch.testing.assert_close(got, value + 0.5)
        else:
            assert torch.equal(got, value), name


def test_codecs_are_not_changed():
    first = make_codec()
    before = {name: value.clone() for name, value in first.state_dict().items()}
    mean_codec([first, trained_on(first, 1.0)])
    assert all(torch.equal(value, before[name]) for name, value in first.state_dict().items())


def test_one_codec_has_no_mean():
    with pytest.raises(TrainError, match="two codecs or more, got 1"):
        mean_codec([make_codec()])


def test_configurations_must_be_one():
    first = make_codec()
    config = dataclasses.replace(first.config, decoder=dataclasses.replace(first.config.decoder, subframes=2, n_fft=first.config.decoder.n_fft // 2))
    with pytest.raises(TrainError, match="different configurations"):
        mean_codec([first, Codec(config)])
