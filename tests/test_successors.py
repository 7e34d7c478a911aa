"""Models that differ from another one in nothing but the decoder decode its bundles; all others do not."""

import dataclasses
import json

import pytest
import torch
from typer.testing import CliRunner

from models import RATE, TINY, clip, codec
from unitoken import TokenBundle, Tokenizer, lm
from unitoken.cli import app
from unitoken.config import QuantizerConfig
from unitoken.errors import LayoutError, ModelError, TokenError
from unitoken.hub import CONFIG, Stored, load_stored, save_stored
from unitoken.train.export import export_codec
from unitoken.train.successors import decodes

NEXT = dataclasses.replace(TINY, name="tiny-2", code_licence=TINY.code_licence, decoder=dataclasses.replace(TINY.decoder, blocks=1))


def with_decoder(seed=1, **changes):
    """Return weights with the decoder of another seed."""
    new = codec(seed=seed).state_dict()
    return {name: new[name] if name.startswith("decoder.") else value for name, value in codec().state_dict().items()} | changes


@pytest.fixture
def old(tmp_path):
    """The model that is there."""
    save_stored(tmp_path / "old", TINY, codec().state_dict())
    return load_stored(tmp_path / "old")


@pytest.fixture
def new(tmp_path, old):
    """Its successor, in a folder."""
    config = dataclasses.replace(TINY, name="tiny-2")
    save_stored(tmp_path / "new", config, with_decoder(), decodes=decodes(old, config, load_like(with_decoder())))
    return tmp_path / "new"


def load_like(state):
    """Return weights as they are after they were stored in float16."""
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


def test_a_successor_decodes_what_its_predecessors_do(old):
    state = load_like(with_decoder())
    assert decodes(old, dataclasses.replace(TINY, name="tiny-2"), state) == (old.fingerprint,)
    assert decodes(dataclasses.replace(old, decodes=("ab", "cd")), TINY, state) == (old.fingerprint, "ab", "cd")


def test_another_encoder_is_no_successor(old):
    for name in ("semantic.stem.weight", "quantizer_p.codebook"):
        moved = with_decoder(**{name: codec().state_dict()[name] + 0.01})
        with pytest.raises(ModelError, match=rf"1 weights of encoders and codebooks differ, the first is {name}; only what was trained with its"):
            decodes(old, TINY, load_like(moved))
    unrounded = pytest.raises(ModelError, match="and is stored in the same data type")
    with unrounded:
        decodes(old, TINY, with_decoder())


def test_another_configuration_is_no_successor(old):
    wider = dataclasses.replace(TINY, semantic=dataclasses.replace(TINY.semantic, quantizer=QuantizerConfig("vq", 16, 1, 128)))
    with pytest.raises(ModelError, match="does not make the tokens of tiny: its configuration differs in more than the decoder"):
        decodes(old, dataclasses.replace(wider, name="tiny-2"), old.state)
    with pytest.raises(ModelError, match="differs in more than the decoder"):
        decodes(old, TINY, {name: value for name, value in old.state.items() if name != "quantizer_p.codebook"})
    assert decodes(old, NEXT, old.state) == (old.fingerprint,)


def test_old_bundles_are_decoded_by_the_new_decoder(tmp_path, old, new):
    before, after = Tokenizer(old), Tokenizer.from_pretrained(new)
    bundle = before.encode(clip(9000), sample_rate=RATE)
    assert after.decodes == (after.fingerprint, before.fingerprint)
    assert before.decodes == (before.fingerprint,)
    again = after.encode(clip(9000), sample_rate=RATE)
    assert torch.equal(after.decode(bundle), after.decode(again))
    assert not torch.equal(after.decode(bundle), before.decode(bundle))
    with pytest.raises(TokenError, match="its tokens mean something else here"):
        before.decode(again)
    after.save_pretrained(tmp_path / "copy")
    copy = Tokenizer.from_pretrained(tmp_path / "copy")
    assert (copy.fingerprint, copy.decodes) == (after.fingerprint, after.decodes)


def test_what_it_decodes_is_no_part_of_its_fingerprint(tmp_path, new):
    kept = load_stored(new)
    layout = json.loads((new / CONFIG).read_text())
    del layout["decodes"]
    (new / CONFIG).write_text(json.dumps(layout))
    assert load_stored(new).fingerprint == kept.fingerprint
    assert load_stored(new).decodes == ()
    save_stored(tmp_path / "plain", TINY, with_decoder())
    assert "decodes" not in json.loads((tmp_path / "plain" / CONFIG).read_text())


@pytest.mark.parametrize("wrong", ["abc", ["XYZ"], [1], [""], {"ab": 1}])
def test_what_is_no_fingerprint_is_refused(new, wrong):
    layout = json.loads((new / CONFIG).read_text()) | {"decodes": wrong}
    (new / CONFIG).write_text(json.dumps(layout))
    with pytest.raises(ModelError, match="must list fingerprints in lower-case hex digits as decodes, got"):
        load_stored(new)


def test_language_models_of_the_old_tokens_speak_by_the_new_decoder(old, new):
    before, after = Tokenizer(old), Tokenizer.from_pretrained(new)
    layout = lm.Layout(lm.Vocabulary(before.info), lm.Interleaved())
    bundle = before.encode(clip(9000), sample_rate=RATE)
    whole = bundle.replace(num_samples=len(bundle.s) * before.hop)
    spoken = torch.cat(list(lm.speak(after, layout, layout.to_ids(bundle).tolist())))
    assert torch.allclose(spoken, after.decode(whole), atol=1e-5)
    theirs = lm.Layout(lm.Vocabulary(after.info), lm.Interleaved())
    with pytest.raises(LayoutError, match="build a vocabulary from its info"):
        next(lm.speak(before, theirs, [0]))


def test_the_command_line_decodes_them_too(tmp_path, old, new):
    bundle = Tokenizer(old).encode(clip(9000), sample_rate=RATE)
    bundle.save(tmp_path / "a.utok")
    runner = CliRunner()
    result = runner.invoke(app, ["decode", str(tmp_path / "a.utok"), "-o", str(tmp_path / "a.wav"), "--model", str(new)])
    assert result.exit_code == 0, result.output
    Tokenizer.from_pretrained(new).encode(clip(9000), sample_rate=RATE).save(tmp_path / "b.utok")
    result = runner.invoke(app, ["decode", str(tmp_path / "b.utok"), "-o", str(tmp_path / "b.wav"), "--model", str(tmp_path / "old")])
    assert result.exit_code != 0
    assert not (tmp_path / "b.wav").exists()
    assert json.loads(runner.invoke(app, ["info", str(new), "--json"]).stdout)["decodes"] == [old.fingerprint]


def test_export_says_so_if_it_is_true(tmp_path, old):
    moved = codec(seed=1)
    with pytest.raises(ModelError, match="does not make the tokens of tiny"):
        export_codec(moved, tmp_path / "no", name="tiny-2", same_tokens_as=old)
    assert not (tmp_path / "no").exists()
    export_codec(codec(), tmp_path / "yes", name="tiny-2", same_tokens_as=old)
    assert load_stored(tmp_path / "yes").decodes == (old.fingerprint,)
    golden = TokenBundle.load(tmp_path / "yes" / "golden.utok")
    assert Tokenizer(Stored(TINY, old.state, golden.info.fingerprint)).decode(golden).shape == (golden.num_samples,)
