"""The weights inside the package, on real speech: they are the ones described, say what was said, and keep every promise about tokens."""

import csv
import io
import re
import tarfile
from pathlib import Path

import pytest
import torch
from pystoi import stoi

from unitoken import Tokenizer, available_models, load_audio
from unitoken.hub import DEFAULT_MODEL, WEIGHTS_ROOT
from unitoken.presets import preset
from unitoken.train.release import check_golden

ROOT = Path(__file__).parents[1]
CLIPS = sorted((ROOT / "examples" / "audio").glob("*.flac"))
SHARED = ROOT.parent / "shared"
RATE = 16000


@pytest.fixture(scope="module")
def tok():
    return Tokenizer.from_pretrained()


def intelligibility(clean, decoded):
    return float(stoi(clean.double().numpy(), decoded.double().numpy(), RATE))


def test_it_is_as_the_card_describes_it(tok):
    assert DEFAULT_MODEL in available_models()
    assert tok.config == preset("small")
    card = (WEIGHTS_ROOT / DEFAULT_MODEL / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\| fingerprint \| `(\w+)` \|", card) == [tok.fingerprint]
    assert f"with the model {tok.fingerprint[:8]};" in (ROOT / "docs" / "samples" / "README.md").read_text(encoding="utf-8")


def test_a_clip_has_the_tokens_that_it_had_when_the_model_was_made():
    changed = check_golden(WEIGHTS_ROOT / DEFAULT_MODEL)
    assert {stream: total for stream, (_, total) in changed.items()} == {"s": 111, "p": 111, "g": 16}


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_speech_comes_back(tok, path):
    clean, _ = load_audio(path, sample_rate=RATE)
    bundle = tok.encode(clean, sample_rate=RATE)
    decoded = tok.decode(bundle)
    full = intelligibility(clean, decoded)
    assert full > 0.75
    assert 0.3 < float(decoded.square().mean().sqrt() / clean.square().mean().sqrt()) < 2
    assert intelligibility(clean, tok.decode(bundle.replace(p=None))) < full - 0.03
    other = bundle.replace(s=bundle.s[torch.randperm(len(bundle.s), generator=torch.Generator().manual_seed(0))])
    assert intelligibility(clean, tok.decode(other)) < full - 0.08


def test_two_voices_have_two_sets_of_global_tokens_and_little_else_in_common(tok):
    one, other = tok.encode([str(path) for path in CLIPS])
    assert (one.g != other.g).sum() >= 8
    again = tok.encode_global([CLIPS[0], CLIPS[0]])
    assert torch.equal(again, one.g)


def test_a_real_clip_has_its_tokens_alone_in_a_batch_and_at_any_place(tok):
    clips = [load_audio(path, sample_rate=RATE)[0] for path in CLIPS]
    clips += [clips[0][:RATE], torch.cat([clips[1], clips[0]]), clips[1][1234:]]
    alone = [tok.encode(clip, sample_rate=RATE) for clip in clips]
    order = [3, 0, 4, 2, 1]
    assert tok.encode([clips[index] for index in order], sample_rate=RATE) == [alone[index] for index in order]
    waves = tok.decode([alone[index] for index in order])
    assert all(torch.equal(wave, tok.decode(alone[index])) for wave, index in zip(waves, order, strict=True))


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.shared
def test_clips_of_speakers_held_out_of_training_decode_intelligibly_in_any_company(tok):
    audio = SHARED / "audio"
    held = {(row["source"], row["speaker"]) for row in rows_of(audio / "valid-speakers.txt")}
    names = {row["path"] for row in rows_of(audio / "train.tsv") if row["source"] == "librispeech" and (row["source"], row["speaker"]) in held}
    clips = list[torch.Tensor]()
    for archive in sorted(audio.glob("train-*.tar")):
        with tarfile.open(archive) as tar:
            members = [member for member in tar if member.name in names]
            clips += [load_audio(io.BytesIO(tar.extractfile(member).read()), sample_rate=RATE)[0] for member in members[:3]]
    assert len(clips) >= 3
    bundles = tok.encode(clips, sample_rate=RATE)
    assert bundles == [tok.encode(clip, sample_rate=RATE) for clip in clips]
    scores = [intelligibility(clip, wave) for clip, wave in zip(clips, tok.decode(bundles), strict=True)]
    assert sum(scores) / len(scores) > 0.75
