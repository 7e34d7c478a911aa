"""Linear probes on features with a known answer."""

import numpy as np
import pytest
import torch

from models import VARIANTS, tokenizer
from unitoken.errors import ConfigError, TokenError
from unitoken.evaluate.features import BundleFeatures
from unitoken.evaluate.probes import LabelledClip, Probe, probe_clips, probe_phones, probe_speakers, read_phones

PHONES = ["SIL", "AA", "B", "K"]


def rows(count, dim, classes, seed, noise=0.3):
    """Return rows around one corner of a simplex for each class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    return torch.eye(dim)[labels] + noise * torch.randn(count, dim, generator=generator), labels


def test_a_probe_reads_what_is_there_and_guesses_what_is_not():
    (x, y), (xt, yt) = rows(2000, 8, 4, 0), rows(500, 8, 4, 1)
    assert Probe().correct(x, y, xt, yt, 4).double().mean() > 0.9
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(2))]
    assert Probe().correct(x, shuffled, xt, yt, 4).double().mean() < 0.4
    assert torch.equal(Probe().correct(x, y, xt, yt, 4), Probe().correct(x, y, xt, yt, 4))


def test_scales_do_not_matter():
    (x, y), (xt, yt) = rows(2000, 8, 4, 0), rows(500, 8, 4, 1)
    scale = torch.logspace(-3, 3, 8)
    assert Probe().correct(x * scale + 5, y, xt * scale + 5, yt, 4).double().mean() > 0.9


def labelled(speakers, clips, voice):
    """Return clips whose features tell the phone and, so much, the speaker."""
    random, found = np.random.default_rng(0), []
    for speaker in range(speakers):
        for clip in range(clips):
            phones = random.integers(len(PHONES), size=40)
            features = 0.2 * random.standard_normal((40, 4 + speakers))
            features[np.arange(40), phones] += 1
            features[:, 4 + speaker] += voice
            found.append(LabelledClip(f"{speaker}/{clip:02d}", str(speaker), features.astype("f4"), [PHONES[phone] for phone in phones]))
    return found


def test_phones_are_probed_on_unseen_speakers():
    scores = probe_phones(labelled(8, 40, 0.0), {"6", "7"})
    assert scores.speakers == 2
    assert scores.all_frames > 0.95
    assert scores.speech_frames > 0.95
    silent = [LabelledClip(clip.name, clip.speaker, np.zeros_like(clip.features), clip.phones) for clip in labelled(8, 40, 0.0)]
    assert probe_phones(silent, {"6"}).all_frames < 0.4
    with pytest.raises(ConfigError, match="needs clips to train and to test on, got 320 and 0"):
        probe_phones(labelled(8, 40, 0.0), {"nobody"})


def test_silence_does_not_count_as_speech():
    clips = [
        LabelledClip(clip.name, clip.speaker, np.where(np.array(clip.phones)[:, None] == "SIL", clip.features, 0).astype("f4"), clip.phones)
        for clip in labelled(8, 40, 0.0)
    ]  # only silence can be read
    scores = probe_phones(clips, {"6", "7"})
    assert scores.speech_frames < 0.45
    assert scores.all_frames > scores.speech_frames + 0.1


@pytest.mark.parametrize(("voice", "low", "high"), [(1.0, 0.9, 1.01), (0.0, 0.0, 0.3)])
def test_speakers_are_probed_on_their_other_clips(voice, low, high):
    scores = probe_speakers(labelled(8, 40, voice))
    assert scores.chance == 1 / 8
    assert low <= scores.frame < high
    assert low <= scores.clip < high


def test_a_clip_hears_more_of_a_voice_than_a_frame():
    scores = probe_speakers(labelled(8, 40, 0.15))
    assert scores.clip > scores.frame + 0.2


def test_speakers_of_few_clips_are_refused():
    with pytest.raises(ConfigError, match="speakers of more than 6 clips"):
        probe_speakers(labelled(3, 6, 1.0))


def test_clips_are_probed_with_each_speaker_held_out():
    x, y = rows(120, 6, 3, 0)
    labels, speakers = [f"emotion {label}" for label in y.tolist()], [str(index % 4) for index in range(120)]
    right, chance = probe_clips(x, labels, speakers)
    assert right > 0.9
    assert chance == max(labels.count(label) for label in set(labels)) / 120
    voice = torch.eye(4)[torch.arange(120) % 4]  # who speaks tells nothing of speakers never heard
    assert probe_clips(voice, labels, speakers)[0] < 0.5
    with pytest.raises(ConfigError, match="two labels and two speakers, got 3 and 1"):
        probe_clips(x, labels, ["0"] * 120)


def test_phone_labels(tmp_path):
    path = tmp_path / "phones.tsv"
    path.write_text("path\tphones\na.wav\tSIL:5 AA:3 B:1\nb.wav\tK:2\n")
    assert read_phones(path) == {"a.wav": ["SIL", "AA"], "b.wav": ["K"]}  # at 10 and 50 ms
    assert read_phones(path, 0.02)["a.wav"] == ["SIL", "SIL", "SIL", "AA", "B"]
    for line in ("a.wav", "a.wav\tSIL", "a.wav\tSIL:x"):
        path.write_text(f"path\tphones\n{line}\n")
        with pytest.raises(ConfigError, match=r"phones\.tsv, line 2: expected a path and runs"):
            read_phones(path)


def test_features_are_codewords():
    tok = tokenizer()
    books, bundle = BundleFeatures(tok), tok.encode(torch.randn(8000) * 0.1, sample_rate=16000)
    assert torch.equal(books.frames(bundle, "s"), tok.codewords("s")[0][bundle.s])
    assert torch.equal(books.frames(bundle, "p"), tok.codewords("p")[0][bundle.p])
    g = torch.cat([book[token] for book, token in zip(tok.codewords("g"), bundle.g, strict=True)])
    assert torch.equal(books.frames(bundle, "g"), g.expand(len(bundle.s), -1))
    s = books.frames(bundle, "s")
    assert torch.equal(books.clip(bundle, "sg"), torch.cat([s.mean(0), s.std(0, correction=0), g]))
    with pytest.raises(TokenError, match="the bundle has no p"):
        books.frames(bundle.replace(p=None), "p")


@pytest.mark.parametrize(("name", "rates"), [("slow p", {"s": 1, "p": 2}), ("slow s", {"s": 4, "p": 1})])
def test_codewords_of_several_codebooks_are_joined_at_the_finer_rate(name, rates):
    tok = tokenizer(VARIANTS[name])
    books, bundle = BundleFeatures(tok), tok.encode(torch.randn(8100) * 0.1, sample_rate=16000)
    count = max(len(bundle.s), len(bundle.p))
    for stream, repeat in rates.items():
        tokens = getattr(bundle, stream).view(-1, len(tok.codewords(stream)))
        joined = torch.stack([torch.cat([book[token] for book, token in zip(tok.codewords(stream), row, strict=True)]) for row in tokens])
        assert torch.equal(books.frames(bundle, stream), joined.repeat_interleave(repeat, 0)[:count])
