"""A decoder with several frames of the inverse STFT in each of its own."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from models import TOGETHER, at_once
from trainset import TINY, make_codec
from unitoken.config import DecoderConfig
from unitoken.errors import ConfigError, TrainError
from unitoken.hub import Stored
from unitoken.model.codec import Codec
from unitoken.model.pitch import Source
from unitoken.nn.blocks import DepthwiseConv
from unitoken.nn.flow import Rows
from unitoken.nn.noise import noise_spectrum
from unitoken.tokenizer import Tokenizer
from unitoken.train.decoders import with_lookahead, with_noise, with_subframes
from unitoken.train.examples import ReconstructionSettings
from unitoken.train.reconstruction import Reconstructor


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


@pytest.mark.parametrize(("subframes", "hz"), [(2, None), (4, None), (2, 1000.0)])
def test_windows_of_a_long_clip_join_without_a_seam(subframes, hz):
    """A clip longer than a window is what its parts are: in windows of half the size it sounds the same, up to rounding."""
    codec = audible(with_subframes(audible(make_codec()), subframes))
    codec = codec if hz is None else with_noise(codec, hz)
    long = make_bundles(codec, [16000 * 11])[0]
    one = decode(codec, long)
    assert one.shape == (16000 * 11,)
    assert float(one.abs().max()) > 1e-3
    for together in TOGETHER:
        with at_once(together, 100):
            torch.testing.assert_close(decode(codec, long), one, rtol=0, atol=1e-5)


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


def test_what_is_not_harmonic_becomes_noise():
    """Below the frequency nothing changes; an octave above it phases are those of noise, and the mean logarithm of the spectrum stays."""
    codec = make_codec()
    noisy, random, frames = with_noise(codec, 2000.0), torch.Generator().manual_seed(0), 200
    source = Source(torch.full((1, frames), 100.0), torch.zeros(1, frames), torch.zeros(1, frames, dtype=torch.float64), torch.tensor([7]))
    local, condition = torch.randn(1, frames, TINY.decoder.dim, generator=random), torch.zeros(1, TINY.decoder.condition_dim)
    with torch.no_grad():
        before, after = (each.decoder.spectrum(each.decoder.heads(local, Rows(), condition), Rows(), source)[0] for each in (codec, noisy))
    low, high = slice(0, 161), slice(320, 641)  # bins are 12.5 Hz apart
    torch.testing.assert_close(after[:, low], before[:, low])
    assert float(after[:, high].abs().log().mean()) == pytest.approx(float(before[:, high].abs().log().mean()), abs=0.01)
    turned = after[:, high] / noise_spectrum(torch.tensor([7]), frames, 1280)[0, :, high]
    assert float(turned.angle().abs().max()) < 1e-3


def test_noise_is_added_once():
    noisy = with_noise(make_codec(), 1500.0)
    assert noisy.config.decoder == dataclasses.replace(TINY.decoder, noise_hz=1500.0)
    with pytest.raises(TrainError, match=r"has noise from 1500\.0 Hz on already"):
        with_noise(noisy, 2000.0)
    with pytest.raises(ConfigError, match="noise_hz must be a positive frequency, or null for no noise, got -1"):
        with_noise(make_codec(), -1)


def test_the_same_tokens_sound_the_same_twice_and_alone():
    codec = with_noise(audible(make_codec()), 500.0)
    bundles = make_bundles(codec, [9000, 24000, 16000])
    together = decode(codec, bundles)
    assert all(torch.equal(decode(codec, bundle), wave) for bundle, wave in zip(bundles, together, strict=True))


def test_training_hears_other_noise_each_time(monkeypatch):
    """Else discriminators and decoder would learn one noise by heart."""
    codec, seen = with_noise(make_codec(), 500.0), []
    spectrum = codec.decoder.spectrum
    monkeypatch.setattr(codec.decoder, "spectrum", lambda heads, rows, source: seen.append(source.start) or spectrum(heads, rows, source))
    module = Reconstructor(codec, ReconstructionSettings())
    s, p, g = torch.randn(2, 8, 16), torch.randn(2, 8, 8), torch.randn(2, 4)
    example = SimpleNamespace(
        clean=torch.zeros(2, 8 * 640), samples=torch.tensor([5120, 5120]), pitch=torch.full((2, 16), 5.0), gain=torch.ones(2, 1)
    )
    for seed in (0, 1):
        module._decode(example, s, p, g, torch.Generator().manual_seed(seed))
    assert len(set(torch.cat(seen).tolist())) == 4


def convolutions(codec):
    return {name: module for name, module in codec.named_modules() if isinstance(module, DepthwiseConv)}


@pytest.mark.parametrize("frames", [0, 1])
def test_a_decoder_that_hears_less_far_ahead_takes_the_future_to_be_like_the_present(frames):
    """Each convolution says the same of frames that change no more after the last one that it hears; what comes before counts as it did."""
    config = dataclasses.replace(TINY, decoder=dataclasses.replace(TINY.decoder, kernel=7, blocks=4))
    codec = audible(Codec(config))
    made = with_lookahead(codec, frames)
    assert made.config.decoder == dataclasses.replace(config.decoder, lookahead_frames=frames)
    assert made.decoder.lag < codec.decoder.lag
    for name, conv in convolutions(made).items():
        old = convolutions(codec)[name]
        x = torch.randn(1, 13, old.weight.shape[0])
        x[:, 7 + conv.future :] = x[:, 6 + conv.future : 7 + conv.future]  # frame 6, and what it still hears
        with torch.no_grad():
            before, after = old(x[:, 6 - old.past : 7 + old.future]), conv(x[:, 6 - conv.past : 7 + conv.future])
        torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
    bundles = make_bundles(codec, [24000])
    assert make_bundles(made, [24000]) == bundles
    assert not torch.allclose(decode(made, bundles)[0], decode(codec, bundles)[0], atol=1e-3)


def test_a_decoder_hears_no_farther_than_it_did():
    codec = with_lookahead(make_codec(), 0)
    for frames in (0, 2):
        with pytest.raises(TrainError, match=f"hears 0 frames ahead, {frames} frames of lookahead are"):
            with_lookahead(codec, frames)
    with pytest.raises(ConfigError, match="lookahead_frames must be 0 or more"):
        with_lookahead(make_codec(), -1)
