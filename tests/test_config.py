import dataclasses
import json
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import TINY, VARIANTS
from unitoken.config import (
    CodecConfig,
    DecoderConfig,
    EncoderConfig,
    FrontEndConfig,
    QuantizerConfig,
    StreamConfig,
)
from unitoken.errors import ConfigError
from unitoken.presets import PRESETS, preset


def refused(text):
    """Expect a ConfigError whose text holds exactly these words."""
    return pytest.raises(ConfigError, match=re.escape(text))


@pytest.mark.parametrize("config", [*PRESETS.values(), *VARIANTS.values(), CodecConfig()], ids=lambda config: config.name)
def test_json_gives_the_same_configuration_back(config):
    text = config.to_json()
    again = CodecConfig.from_json(text)
    assert again == config
    assert again.to_json() == text
    assert hash(again) == hash(config)


encoders = st.integers(1, 3).flatmap(
    lambda stages: st.builds(
        EncoderConfig,
        st.tuples(*[st.integers(1, 64)] * stages),
        st.tuples(*[st.integers(1, 3)] * stages),
        st.sampled_from([1, 3, 7]),
        st.integers(1, 4),
        st.none() | st.integers(0, 9),
    )
)


@given(encoders, st.floats(1e-9, 1, exclude_min=True), st.text(max_size=9))
def test_json_keeps_any_value(encoder, floor, name):
    config = CodecConfig(name=name, front_end=FrontEndConfig(floor=floor), global_=StreamConfig(encoder))
    assert CodecConfig.from_json(config.to_json()) == config


def test_fields_left_out_keep_their_defaults():
    assert CodecConfig.from_json("{}") == CodecConfig()
    changed = CodecConfig.from_json('{"name": "mine", "decoder": {"blocks": 3}, "front_end": {"floor": 1}}')
    assert changed == CodecConfig(name="mine", decoder=DecoderConfig(blocks=3), front_end=FrontEndConfig(floor=1.0))
    assert type(changed.front_end.floor) is float


def test_rates_and_hops_follow_from_the_stages():
    slow = VARIANTS["slow p"]
    assert (slow.hop_s, slow.hop_p, slow.hop) == (640, 1280, 1280)
    assert (slow.frame_rate_s, slow.frame_rate_p) == (25, Fraction(25, 2))
    assert (TINY.hop_s, TINY.hop_p, TINY.hop) == (640, 640, 640)


def test_bitrate_counts_whole_bits_of_every_codebook():
    assert preset("small").bitrate == 600
    assert preset("small").global_bits == 160
    assert VARIANTS["slow p"].bitrate == 25 * 2 * 5 + Fraction(25, 2) * 6
    assert VARIANTS["slow s"].bitrate == Fraction(25, 2) * 3 * 4 + 50 * 2 * 10


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.name = "other"
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.decoder.dim = 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the configuration is no JSON: "),
        ("{", "the configuration is no JSON: "),
        ("[]", "config must be a JSON object, got []"),
        ("null", "config must be a JSON object, got None"),
        ('{"hopp": 1, "abc": 2}', "config has unknown keys ['abc', 'hopp'] (known: ['code_licence', 'decoder', 'front_end', 'global_', 'name', "),
        ('{"hopp": 1}', "was this saved by a newer unitoken?"),
        ('{"decoder": 5}', "config.decoder must be a JSON object, got 5"),
        ('{"semantic": {"encoder": {"dimms": 1}}}', "config.semantic.encoder has unknown keys ['dimms'] (known: ['blocks', 'dims', "),
        ('{"semantic": {"encoder": {"dim": 1}}}', "a transformer needs an even dim that its heads divide, got dim 1 and 6 heads"),
        ('{"semantic": {"encoder": {"hidden": []}}}', "a transformer needs at least one block"),
        ('{"semantic": {"encoder": {"hidden": [8], "first_position": 750}}}', "first_position must be from 0 to 749, got 750"),
        ('{"semantic": {"encoder": {"hidden": [8], "lookahead_frames": -1}}}', "lookahead_frames must be 0 or more, or null, got -1"),
        ('{"semantic": {"encoder": {"front_end": {"hop": 80}}}}', "both front ends need one hop, got 160 and 80 (semantic) samples"),
        ('{"residual": {"encoder": {"heads": 6}}}', "config.residual.encoder has unknown keys ['heads']"),
        ('{"sample_rate": "16000"}', "config.sample_rate must be int, got '16000'"),
        ('{"sample_rate": 16000.0}', "config.sample_rate must be int, got 16000.0"),
        ('{"sample_rate": true}', "config.sample_rate must be int, got True"),
        ('{"sample_rate": null}', "config.sample_rate must be int, got None"),
        ('{"name": 7}', "config.name must be str, got 7"),
        ('{"front_end": {"floor": false}}', "config.front_end.floor must be float, got False"),
        ('{"front_end": {"floor": "x"}}', "config.front_end.floor must be float, got 'x'"),
        ('{"semantic": {"encoder": {"dims": 5}}}', "config.semantic.encoder.dims must be tuple"),
        ('{"semantic": {"encoder": {"dims": [1, 2.5, 3]}}}', "config.semantic.encoder.dims must be int, got 2.5"),
        ('{"semantic": {"encoder": {"lookahead_frames": 1.5}}}', "config.semantic.encoder.lookahead_frames must be int, got 1.5"),
        ('{"semantic": {"quantizer": {"kind": "pq"}}}', "config.semantic.quantizer.kind must be "),
        ('{"semantic": {"quantizer": {"kind": ["vq"]}}}', "config.semantic.quantizer.kind must be "),
    ],
)
def test_text_that_is_no_configuration_is_refused(text, words):
    with refused(words):
        CodecConfig.from_json(text)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: FrontEndConfig(window=800), "the front end needs 1 <= hop <= window <= n_fft, got hop 160, window 800 and n_fft 640"),
        (lambda: FrontEndConfig(hop=0), "the front end needs 1 <= hop"),
        (lambda: FrontEndConfig(hop=641), "the front end needs 1 <= hop"),
        (lambda: FrontEndConfig(floor=0.0), "the front end needs mels >= 1 and a floor above 0, got 128 and 0.0"),
        (lambda: FrontEndConfig(floor=float("nan")), "the front end needs mels >= 1 and a floor above 0, got 128 and nan"),
        (lambda: FrontEndConfig(mels=0), "the front end needs mels >= 1"),
        (lambda: QuantizerConfig("fsq", 2, 1, 64, (8, 5)), "fsq levels (8, 5) give 40 codewords, codebook_size says 64; make them equal"),
        (lambda: QuantizerConfig("fsq", 2), "fsq levels () give 1 codewords, codebook_size says 4096; make them equal"),
        (lambda: QuantizerConfig("fsq", 3, 1, 40, (8, 5)), "fsq needs dim = num_codebooks * levels = 2, got 3"),
        (lambda: QuantizerConfig("fsq", 2, 1, 8, (8, 1)), "each fsq dimension needs at least 2 levels, got (8, 1)"),
        (lambda: QuantizerConfig("fsq", 2, 1, 8, (-4, -2)), "each fsq dimension needs at least 2 levels, got (-4, -2)"),
        (lambda: QuantizerConfig("vq", levels=(8, 5)), "levels are for fsq only, this quantizer is vq; leave them out"),
        (lambda: dataclasses.replace(TINY, p_hears_s=2), "p_hears_s must be from 0 to the 1 blocks of P's last stage, got 2"),
        (lambda: dataclasses.replace(VARIANTS["slow p"], p_hears_s=1), "P can hear S at one hop only, got hops of 640 (S) and 1280 (P) samples"),
        (lambda: QuantizerConfig("vq", 8, 2), "vq has one codebook, got 2; use rvq or gumbel for several"),
        (lambda: QuantizerConfig("gumbel", 10, 3), "gumbel splits dim evenly over the codebooks; 10 does not divide by 3"),
        (lambda: QuantizerConfig("gumbel", 10, 0), "a quantizer needs dim >= 1, num_codebooks >= 1 and codebook_size >= 2, got QuantizerConfig("),
        (lambda: QuantizerConfig("vq", 0), "a quantizer needs dim >= 1"),
        (lambda: QuantizerConfig("vq", 8, 1, 1), "codebook_size >= 2"),
        (lambda: EncoderConfig((8, 8), (1,)), "an encoder needs one number of blocks a stage, got dims (8, 8) and blocks (1,)"),
        (lambda: EncoderConfig((), ()), "an encoder needs one number of blocks a stage, got dims () and blocks ()"),
        (lambda: EncoderConfig((8,), (0,)), "an encoder needs dims and expansion of at least 1 and at least one block, got EncoderConfig("),
        (lambda: EncoderConfig((8, 0), (1, 1)), "an encoder needs dims and expansion of at least 1"),
        (lambda: EncoderConfig((8, 8), (2, -1)), "an encoder needs dims and expansion of at least 1 and at least one block"),
        (lambda: EncoderConfig(expansion=0), "an encoder needs dims and expansion of at least 1"),
        (lambda: EncoderConfig(kernel=4), "kernel must be odd and positive, got 4"),
        (lambda: EncoderConfig(kernel=-1), "kernel must be odd and positive, got -1"),
        (lambda: EncoderConfig(lookahead_frames=-1), "lookahead_frames must be 0 or more, or null, got -1"),
        (lambda: DecoderConfig(n_fft=1024), "the decoder's n_fft must be 4 * hop / subframes = 1280, got 1024"),
        (lambda: DecoderConfig(kernel=2), "kernel must be odd and positive, got 2"),
        (lambda: DecoderConfig(blocks=0), "a decoder needs dim, blocks, expansion, condition_dim and hop of at least 1, got DecoderConfig("),
        (lambda: DecoderConfig(lookahead_frames=-2), "lookahead_frames must be 0 or more, or null, got -2"),
        (
            lambda: dataclasses.replace(TINY, semantic=StreamConfig(EncoderConfig((8,), (1,)))),
            "the semantic hop of 160 samples is no multiple of the decoder's 320",
        ),
        (
            lambda: dataclasses.replace(TINY, global_=StreamConfig(EncoderConfig((8,) * 4, (1,) * 4))),
            "the global encoder's hop of 1280 samples must divide the codec's 640; give it fewer stages",
        ),
        (lambda: dataclasses.replace(TINY, sample_rate=0), "sample_rate must be positive, got 0"),
        (lambda: preset("huge"), "unknown configuration 'huge'; there are: tiny, small, base"),
    ],
)
def test_parts_that_do_not_fit_are_refused(build, words):
    with refused(words):
        build()


def test_stored_configurations_are_checked_like_built_ones():
    data = json.loads(TINY.to_json())
    data["decoder"]["n_fft"] = 1000
    with refused("the decoder's n_fft must be 4 * hop / subframes = 1280, got 1000"):
        CodecConfig.from_json(json.dumps(data))
