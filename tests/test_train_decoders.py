"""A decoder with several frames of the inverse STFT in each of its own."""

import dataclasses

import pytest
import torch

from trainset import TINY, make_codec
from unitoken.config import DecoderConfig
from unitoken.errors import ConfigError, TrainError
from unitoken.hub import Stored
from unitoken.model.codec import Codec
from unitoken.tokenizer import Tokenizer
from unitoken.train.subframes import with_subframes


def audible(codec):
    """Give an untrained decoder a level at which harmonics are heard."""
    with torch.no_grad():
        codec.decoder.head.bias += 2.0
        codec.decoder.pitch.out.bias[1] += 3.0
    return codec.eval()


def decode(codec, bundles):
    return Tokenizer(Stored(codec.config, codec.state_dict(), "f" * 32)).decode(bundles, force=True)


def make_bundles(codec, lengths):
    random = torch.Generator().manual_seed(1)
    return Tokenizer(Stored(codec.config, codec.state_dict(), "f" * 32)).encode(
        [0.1 * torch.randn(length, generator=random) for length in lengths], sample_rate=16000
    )


@pytest.mark.parametrize("subframes", [2, 4])
def test_windows_of_a_long_clip_join_without_a_seam(subframes):
    """A clip longer than a window is what its parts are: with a grid of half the size it sounds the same, up to rounding."""
    codec = audible(with_subframes(audible(make_codec()), subframes))
    long = make_bundles(codec, [16000 * 11])[0]
    grid = dataclasses.replace(codec.config.grid, core=100, quantum=50)
    other = Codec(dataclasses.replace(codec.config, grid=grid))
    other.load_state_dict(codec.state_dict())
    one, two = decode(codec, long), decode(other.eval(), long)
    assert one.shape == two.shape == (16000 * 11,)
    assert float(one.abs().max()) > 1e-3
    assert float((one - two).abs().max()) < 2e-4 * float(one.abs().max())


def test_the_level_stays_when_a_decoder_is_cut():
    codec = audible(make_codec())
    bundles = make_bundles(codec, [24000])
    before, after = decode(codec, bundles)[0], decode(with_subframes(codec, 2), bundles)[0]
    assert before.shape == after.shape
    assert float(after.std() / before.std()) == pytest.approx(1, abs=0.15)


def test_harmonics_keep_their_level_and_phase():
    """With the free part silent, what is left are harmonics: nearly the same signal at twice the rate of frames."""
    codec = audible(make_codec())
    bins = codec.decoder.bins
    with torch.no_grad():
        codec.decoder.head.weight.zero_()
        codec.decoder.head.bias[:bins] = -20.0
        codec.decoder.head.bias[2 * bins :] = 1.0
        codec.decoder.pitch.out.weight.zero_()
        codec.decoder.pitch.out.bias.copy_(torch.tensor([-0.5, 9.0]))
    bundles = make_bundles(codec, [24000])
    before, after = decode(codec, bundles)[0][2000:-2000], decode(with_subframes(codec, 2), bundles)[0][2000:-2000]
    assert float((before - after).square().mean() / before.square().mean()) < 0.02


def test_a_decoder_is_cut_once():
    codec = make_codec()
    cut = with_subframes(codec, 2)
    assert cut.config.decoder == dataclasses.replace(TINY.decoder, n_fft=640, subframes=2)
    with pytest.raises(TrainError, match="has 2 subframes a frame; a codec with 1 can be given 2 or more, got 2"):
        with_subframes(cut, 2)
    with pytest.raises(TrainError, match="got 1"):
        with_subframes(codec, 1)
    with pytest.raises(ConfigError, match="cannot be cut into 3 subframes"):
        with_subframes(codec, 3)


def test_configurations_that_do_not_fit():
    with pytest.raises(ConfigError, match="n_fft must be 4 \\* hop / subframes = 640, got 1280"):
        DecoderConfig(subframes=2)
    with pytest.raises(ConfigError, match="cannot be cut into 0"):
        DecoderConfig(subframes=0)
