"""A stored model still makes the stored tokens and samples. If this fails, tokens have changed: that breaks every corpus made before.

Meant changes need a new format version, `python tests/golden/make.py` and a changelog fragment.
"""

from pathlib import Path

import pytest
import safetensors
import torch

from models import RATE, TINY
from unitoken import Tokenizer

FOLDER = Path(__file__).parent / "golden"
FINGERPRINT = "029d600a02aacea1a8b8c70061a9fe67"


@pytest.fixture(scope="module")
def golden():
    with safetensors.safe_open(FOLDER / "tiny.safetensors", "pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping


@pytest.fixture(scope="module")
def tok():
    return Tokenizer.from_pretrained(FOLDER / "tiny")


def test_the_fingerprint_is_the_one_that_bundles_carry(tok, golden):
    assert tok.fingerprint == golden[0]["fingerprint"] == FINGERPRINT


def test_the_stored_configuration_is_still_tiny(tok):
    assert tok.config == TINY


def test_tokens_are_the_stored_ones(tok, golden):
    bundle = tok.encode(golden[1]["clip"], sample_rate=RATE)
    assert {name: getattr(bundle, name).tolist() for name in "spg"} == {name: golden[1][name].tolist() for name in "spg"}


def test_samples_are_the_stored_ones(tok, golden):
    waveform = tok.decode(tok.encode(golden[1]["clip"], sample_rate=RATE))
    torch.testing.assert_close(waveform, golden[1]["waveform"], rtol=0, atol=1e-5)


def test_the_stored_tokens_have_room_for_rounding(tok, golden):
    """The nearest other codeword is clearly farther, so another processor's rounding gives the same tokens."""
    bundle = tok.encode(golden[1]["clip"], sample_rate=RATE, latents=True)
    for name in "sp":
        latent, table = bundle.latents[name].double(), tok.codewords(name)[0].double()
        distances, _ = torch.cdist(latent, table).topk(2, largest=False)
        assert (distances[:, 1] - distances[:, 0]).min() > 1e-4


def test_all_files_together_are_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts) <= 260_000
