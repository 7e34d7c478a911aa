"""What another arithmetic flips is counted, and how near to a border it was."""

import json
import re

import pytest
import torch
from typer.testing import CliRunner

from models import RATE, TINY, VARIANTS, clip, codec, tokenizer
from unitoken import Tokenizer, save_audio
from unitoken.cli import app
from unitoken.errors import ConfigError
from unitoken.evaluate.numerics import Backend, Flips, torch_way, verify_numerics
from unitoken.hub import Stored, save_stored

CLIPS = [clip(samples, samples) for samples in (0, 1, 60000, 170000)]
TOKENS = sum(-(-len(one) // 640) for one in CLIPS)


def test_backends_are_devices_and_types():
    assert [Backend.of(text) for text in ("cpu", "cuda:1/float16")] == [Backend("cpu"), Backend("cuda:1", "float16")]
    assert [str(Backend.of(text)) for text in ("cpu", "cuda:1/float16")] == ["cpu", "cuda:1/float16"]
    for text in ("", "/float32", "cpu/", "cpu/int8"):
        with pytest.raises(ConfigError, match=re.escape(f"a backend is a device, or a device and a type such as cpu/bfloat16, got {text!r}")):
            Backend.of(text)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_arithmetic_flips_nothing(variant):
    tok = tokenizer(VARIANTS[variant])
    found = verify_numerics(tok, CLIPS, {text: torch_way(Backend.of(text), tok) for text in ("cpu", "cpu/float32")})
    assert list(found) == ["cpu", "cpu/float32"]
    for streams in found.values():
        assert {flips.flipped for flips in streams.values()} == {0}
        assert max(flips.moved for flips in streams.values()) == 0


def test_half_the_digits_flip_some_tokens_that_were_near_a_border():
    tok = tokenizer(VARIANTS["transformer"])
    s, p, g = verify_numerics(tok, CLIPS, {"half": torch_way(Backend("cpu", "bfloat16"), tok)})["half"].values()
    assert (s.tokens, p.tokens, g.tokens) == (TOKENS, TOKENS, 2 * len(CLIPS))
    assert 0 < s.flipped < s.tokens / 2
    assert 0 < s.margin <= s.moved  # what moves less than its margin stays


def test_a_backend_that_says_something_else_is_found_out():
    """One codeword of S is out of its reach: its frames are flipped, and no others."""
    tok = tokenizer()
    expected = [tok.encode(one, sample_rate=RATE, margins=True) for one in CLIPS]
    token = int(torch.cat([bundle.s for bundle in expected]).mode().values)
    state = {name: value.clone() for name, value in codec().state_dict().items()}
    state["quantizer_s.codebook"][token] = 1e6
    other = Tokenizer(Stored(TINY, state, "cd" * 16))
    flips = verify_numerics(tok, CLIPS, {"other": torch_way(Backend("cpu", "float32"), other)})["other"]
    wrong = [bundle.s == token for bundle in expected]
    largest = max(float(bundle.margins["s"][mask].max()) for bundle, mask in zip(expected, wrong, strict=True) if mask.any())
    assert flips["s"] == Flips(TOKENS, int(sum(mask.sum() for mask in wrong)), largest, 0.0)
    assert flips["p"].flipped == 0


def test_the_command_prints_a_table_or_json(tmp_path):
    save_stored(tmp_path / "model", VARIANTS["tiny"], codec().state_dict())
    save_audio(tmp_path / "a.wav", clip(20000), RATE)
    arguments = ["verify-numerics", str(tmp_path / "a.wav"), "-m", str(tmp_path / "model"), "-b", "cpu", "-b", "cpu/bfloat16"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    head, _, _, _, *rows = done.output.splitlines()
    assert re.match(r"tiny \(\w{8}\), torch \S+, 1 files", head)
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[:3] for row in cells] == [[name, *each] for name in ("cpu", "cpu/bfloat16") for each in (["s", "32"], ["p", "32"], ["g", "2"])]
    assert [row[3:] for row in cells[:3]] == [["0", "0.00%", "0", "0"]] * 3
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert found["cpu/bfloat16"]["s"].keys() == {"tokens", "flipped", "margin", "moved"}
    wrong = CliRunner().invoke(app, [*arguments, "-b", "cpu/int8"])
    assert (wrong.exit_code, "types are float32, bfloat16, float16" in wrong.output) == (1, True)
