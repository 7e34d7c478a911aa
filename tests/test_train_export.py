import csv
import json
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainset import TINY, buzz, make_codec, make_pool
from unitoken import Tokenizer
from unitoken.errors import MissingDependencyError, ModelError, TrainError
from unitoken.evaluate.signal import mel_distance
from unitoken.hub import Stored
from unitoken.train import export
from unitoken.train.adversarial import AdversarialSettings
from unitoken.train.curves import plot_run, read_log, smoothed
from unitoken.train.export import export_codec, join_parts, split_file
from unitoken.train.overrides import override
from unitoken.train.validate import spread, validate


def test_an_exported_codec_encodes_as_the_rounded_one(tmp_path):
    codec = make_codec()
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    fingerprint = export_codec(codec, tmp_path, name="mine-1")
    loaded = Tokenizer.from_pretrained(tmp_path)
    assert (loaded.fingerprint, loaded.config.name) == (fingerprint, "mine-1")
    rounded = {name: value.half().float() for name, value in before.items()}
    wave = torch.from_numpy(buzz(2, 150))
    expected = Tokenizer(Stored(loaded.config, rounded, fingerprint)).encode(wave, sample_rate=16000)
    assert loaded.encode(wave, sample_rate=16000) == expected
    assert all(torch.equal(value, before[name]) for name, value in codec.state_dict().items())
    assert export_codec(codec, tmp_path / "again", name="mine-1", clip=wave) == fingerprint


def test_the_check_is_made_with_rounded_weights(tmp_path):
    codec = make_codec()
    codec.quantizer_p.codebook.copy_(1 + 1e-5 * torch.randn(64, 8, generator=torch.Generator().manual_seed(0)))  # all equal in float16
    export_codec(codec, tmp_path, name="mine-1")
    assert not Tokenizer.from_pretrained(tmp_path).encode(buzz(1, 150), sample_rate=16000).p.any()


def test_an_export_that_encodes_otherwise_is_refused(tmp_path, monkeypatch):
    class Other(Tokenizer):
        @classmethod
        def from_pretrained(cls, folder):
            loaded = Tokenizer.from_pretrained(folder)
            return cls(Stored(loaded.config, make_codec(1).state_dict(), loaded.fingerprint))

    monkeypatch.setattr(export, "Tokenizer", Other)
    with pytest.raises(ModelError, match="encodes a clip of 48000 samples into other tokens"):
        export_codec(make_codec(), tmp_path, name="mine-1")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    codec = make_codec()
    codec.decoder.head.bias.data[0] = float("nan")
    with pytest.raises(ModelError, match=r"decoder\.head\.bias"):
        export_codec(codec, tmp_path, name="mine-1")
    assert list(tmp_path.iterdir()) == []


@given(st.binary(min_size=0, max_size=300), st.integers(1, 120))
def test_pieces_make_the_file_again(tmp_path_factory, data, limit):
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "model.bin").write_bytes(data)
    listed = split_file(folder / "model.bin", limit / 1e6, folder / "out")
    pieces = sorted(path for path in (folder / "out").iterdir() if path != listed)
    assert len(pieces) == -(-len(data) // limit)
    assert all(0 < path.stat().st_size <= limit for path in pieces)
    assert join_parts(listed) == folder / "out" / "model.bin"
    assert (folder / "out" / "model.bin").read_bytes() == data
    assert (folder / "model.bin").read_bytes() == data


@pytest.fixture
def listed(tmp_path):
    (tmp_path / "model.bin").write_bytes(bytes(range(250)))
    return split_file(tmp_path / "model.bin", 100e-6, tmp_path / "out")


@pytest.mark.parametrize("damage", ["flip", "cut", "missing"])
def test_a_damaged_piece_is_named(listed, damage):
    piece = listed.with_name("model.bin.001")
    data = bytearray(piece.read_bytes())
    data[50] ^= 1
    piece.unlink()
    if damage != "missing":
        piece.write_bytes(data if damage == "flip" else data[:40])
    with pytest.raises(TrainError, match=r"model\.bin\.001 is (damaged|missing)"):
        join_parts(listed)
    assert sorted(path.name for path in listed.parent.iterdir() if path.name != "model.bin.001") == [
        "model.bin.000",
        "model.bin.002",
        "model.bin.pieces.json",
    ]


def test_a_wrong_list_is_refused(listed):
    content = json.loads(listed.read_text())
    listed.write_text(json.dumps(content | {"sha256": "0" * 64}))
    with pytest.raises(TrainError, match="the whole is not"):
        join_parts(listed)
    listed.write_text(json.dumps(content | {"name": "../evil"}))
    with pytest.raises(TrainError, match="outside its folder"):
        join_parts(listed)
    listed.write_text("{}")
    with pytest.raises(TrainError, match="no list of pieces"):
        join_parts(listed)


def test_what_cannot_be_split_is_refused(tmp_path):
    with pytest.raises(TrainError, match="is no file"):
        split_file(tmp_path / "none", 1)
    (tmp_path / "a").write_bytes(b"1")
    with pytest.raises(TrainError, match="max_part_mb=0"):
        split_file(tmp_path / "a", 0)


def test_curves_are_drawn(tmp_path):
    with (tmp_path / "log.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "loss", "norm", "rate", "lr", "time"])
        writer.writeheader()
        writer.writerows({"step": i, "loss": 1 / i, "norm": 1, "rate": 2, "lr": 3, "time": 4} for i in range(1, 20))
    path = plot_run(tmp_path)
    assert path == tmp_path / "curves.png"
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert read_log(tmp_path / "log.csv")["loss"][1] == 0.5
    assert plot_run(tmp_path, tmp_path / "x" / "y.png", smooth=0).is_file()
    with pytest.raises(TrainError, match="below 1, got 1"):
        plot_run(tmp_path, smooth=1)


@pytest.mark.parametrize(
    ("text", "match"), [(None, "is missing"), ("step,loss\n", "no rows"), ("a,b\n1,2\n", "no rows"), ("step,loss\n1,x\n", "else than numbers")]
)
def test_a_log_that_is_none_is_refused(tmp_path, text, match):
    if text is not None:
        (tmp_path / "log.csv").write_text(text)
    with pytest.raises(TrainError, match=match):
        plot_run(tmp_path)


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"unitoken-speech\[train\]"):
        plot_run(tmp_path)


def test_smoothing_is_not_biased():
    assert smoothed([2.0] * 5, 0.9) == pytest.approx([2.0] * 5)
    assert smoothed([1.0, 2.0, 3.0], 0) == [1, 2, 3]
    assert smoothed([0.0, 1.0], 0.5) == pytest.approx([0, 2 / 3])


@dataclass
class Echo:
    """Writes down as many words as the clip has tenths of a second at a level."""

    name: str = "echo"
    heard: list = field(default_factory=list)
    language: str = "en"

    def knows(self, language):
        return language == self.language

    def transcribe(self, waveform, language):
        self.heard.append((len(waveform), language))
        return "word " * (len(waveform) // 1600)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return make_pool(tmp_path_factory.mktemp("data"), 3, 2)


def test_validation_measures_clips_spread_over_the_list(pool):
    asr, codec = Echo(), make_codec()
    result = validate(codec, pool, pool.utterances, limit=3, asr=asr)
    assert spread(pool.utterances, 3) == pool.utterances[::2]
    assert asr.heard == [(u.samples, "en") for u in pool.utterances[::2] for _ in range(2)]
    assert (result["clips"], result["self_cer"]) == (3, 0.0)
    tokenizer = Tokenizer(Stored(TINY, codec.state_dict(), "ab" * 16))
    distances = []
    for utterance in pool.utterances[::2]:
        wave = torch.from_numpy(pool.wave(utterance))
        distances.append(mel_distance(wave, tokenizer.decode(tokenizer.encode(wave, sample_rate=16000))))
    assert result["mel_db"] == pytest.approx(sum(distances) / 3)
    assert validate(tokenizer, pool, pool.utterances, limit=3) == {key: value for key, value in result.items() if key != "self_cer"}


def test_validation_leaves_out_words_of_languages_that_the_recogniser_does_not_know(pool):
    asr = Echo(language="de")
    assert validate(make_codec(), pool, pool.utterances, limit=2, asr=asr)["self_cer"] is None
    assert asr.heard == []


class Perfect(Tokenizer):
    """Decodes to what was encoded."""

    def encode(self, audio, *, sample_rate):
        return audio

    def decode(self, bundle):
        return bundle


def test_a_perfect_codec_scores_as_one(pool):
    result = validate(Perfect(Stored(TINY, make_codec().state_dict(), "ab" * 16)), pool, pool.utterances, limit=2)
    assert result["mel_db"] == 0
    assert result["f0_correlation"] is None or result["f0_correlation"] == pytest.approx(1)


@pytest.mark.parametrize("limit", [0, -1])
def test_validation_needs_a_clip(pool, limit):
    with pytest.raises(TrainError, match="needs a clip"):
        validate(make_codec(), pool, pool.utterances, limit=limit)
    with pytest.raises(TrainError, match="got 0 utterances"):
        spread([], 3)


@given(st.integers(1, 50), st.integers(1, 60))
def test_spread_never_repeats(count, limit):
    chosen = spread(list(range(count)), limit)
    assert len(chosen) == len(set(chosen)) == min(limit, count)
    assert chosen == sorted(chosen)


def test_settings_are_overridden_at_every_depth():
    texts = ["loss=least_squares", "warmup=7", "adversarial=1", "decoder_only=true", "discriminators.windows=256,128", "discriminators.periods=2,3"]
    texts += ["reconstruction.weights.mel=2", "reconstruction.perturbation.pitch=1.5"]
    made = override(AdversarialSettings(), texts)
    assert (made.loss, made.warmup, made.adversarial, made.decoder_only) == ("least_squares", 7, 1.0, True)
    assert (made.discriminators.windows, made.discriminators.periods) == ((256, 128), (2, 3))
    assert dict(made.reconstruction.weights) == dict(AdversarialSettings().reconstruction.weights) | {"mel": 2.0}
    assert made.reconstruction.perturbation.pitch == 1.5
    assert made.reconstruction.perturbation.formants == AdversarialSettings().reconstruction.perturbation.formants


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("warmpu=1", "unknown setting 'warmpu'.*warmup"),
        ("reconstruction.weights.mell=1", "unknown setting.*mel, magnitude"),
        ("warmup", "name=value, got 'warmup'"),
        ("warmup=1.5", "warmup must be a whole number, got '1.5'"),
        ("adversarial=x", "adversarial must be a number, got 'x'"),
        ("adversarial=nan", "must be finite"),
        ("decoder_only=1", "true or false"),
        ("reconstruction=1", "reconstruction has parts"),
        ("reconstruction.weights=1", "has parts"),
        ("warmup.x=1", "goes too deep"),
        ("loss=none", "unknown adversarial loss 'none'"),
    ],
)
def test_wrong_settings_are_refused(text, match):
    with pytest.raises(TrainError, match=match):
        override(AdversarialSettings(), [text])
