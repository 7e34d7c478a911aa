"""Synthetic clips for the evaluation tests: a buzz that glides in pitch and comes in syllables, so that every measure accepts it as speech."""

import math

import torch

from unitoken.audio import save_audio
from unitoken.tokens import StreamInfo, TokenBundle, TokenizerInfo

INFO = TokenizerInfo("fake", "0f", 16000, StreamInfo(640, 1, 64), StreamInfo(640, 1, 16), 2, 8, "Apache-2.0", "Apache-2.0")


HEADER = "path\tsource\tspeaker\tlanguage\tseconds\ttranscript\textra\n"
CLIPS = [
    ("a.wav", "librispeech", "en", '"the cat said no', 2.0),
    ("b.wav", "words", "ar", "[words: open]", 1.6),
    ("c.wav", "other", "de", "", 0.15),
]
"""Name, source, language, transcript and seconds of the clips that `write_manifest` makes."""


def glide(seconds, low_hz=120.0, high_hz=240.0):
    """Return float32 `(samples,)`: ten harmonics, F0 rising exponentially from low to high."""
    time = torch.arange(round(seconds * 16000), dtype=torch.float64) / 16000
    rate = math.log(high_hz / low_hz) / seconds
    phase = 2 * math.pi * (low_hz * torch.expm1(rate * time) / rate if rate else low_hz * time)
    return (0.3 * sum(torch.sin(k * phase) / k for k in range(1, 11))).float()


def speech(seconds, seed=0, low_hz=120.0):
    """Return a glide in syllables of 0.4 s with pauses, over a little noise."""
    tone = glide(seconds, low_hz, 2 * low_hz)
    time = torch.arange(len(tone)) / 16000
    syllables = torch.sin(2 * math.pi * 1.25 * time).clamp_min(0).sqrt()
    return tone * syllables + 1e-3 * torch.randn(len(tone), generator=torch.Generator().manual_seed(seed))


class FakeTokenizer:
    """Tokens that count up; decoding gives the last waveform back, at half the level without P and a quarter without G."""

    def __init__(self):
        self.decoded = []

    def encode(self, audio, *, sample_rate):
        assert sample_rate == 16000
        self.audio = audio
        frames = -(-len(audio) // 640)
        return TokenBundle(torch.arange(frames) % 64, torch.zeros(frames, dtype=torch.int64), torch.tensor([1, 2]), len(audio), INFO)

    def decode(self, bundle):
        self.decoded.append(bundle)
        return self.audio * (0.5 if bundle.p is None else 1) * (0.25 if bundle.g is None else 1)


class FakeAsr:
    """Hears more wrong words the lower the level."""

    name = "fake-asr"

    def __init__(self):
        self.languages = []

    def knows(self, language):
        return language in {"en", "de", "ar"}

    def transcribe(self, waveform, language):
        self.languages.append(language)
        return "The cat said no." if waveform.abs().max() > 0.3 else "The cat no no no no no no."


class FakeEmbedder:
    def embed(self, waveform):
        return torch.tensor([1.0, 0.0]) if waveform.abs().max() > 0.3 else torch.tensor([0.6, 0.8])


def write_manifest(folder):
    """Write the clips of `CLIPS` and their manifest, and return its path."""
    text = HEADER
    for index, (name, source, language, transcript, seconds) in enumerate(CLIPS):
        save_audio(folder / name, speech(seconds, index, 110 + 20 * index), 16000)
        text += f"{name}\t{source}\tsp{index}\t{language}\t{seconds}\t{transcript}\tx\n"
    (folder / "manifest.tsv").write_text(text, encoding="utf-8")
    return folder / "manifest.tsv"
