import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unitoken.errors import MissingDependencyError
from unitoken.evaluate.words import CachedTranscriber, Errors, WhisperTranscriber, count_errors, load_whisper, normalise, pool_errors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("  two\t words\n", "two words"),
        ("Don't 'quote' me, it's O\u2019Brien's", "don't quote me it's o'brien's"),
        ("rock 'n' roll", "rock n roll"),
        ("the dogs' bowl", "the dogs bowl"),
        ("well-known -- dash", "well known dash"),
        ("\uff21\uff22 \ufb01ne", "ab fine"),
        ("cafe\u0301 Stra\u00dfe \u00dcBER", "caf\u00e9 stra\u00dfe \u00fcber"),
        ("Room 42, at 7 o'clock", "room 42 at 7 o'clock"),
        ("5 % of $10", "5 of 10"),
        ("...", ""),
        ("", ""),
    ],
)
def test_normalisation(text, expected):
    assert normalise(text) == expected


@given(st.text(max_size=30))
def test_normalisation_is_done_once(text):
    once = normalise(text)
    assert normalise(once) == once


@pytest.mark.parametrize(
    ("reference", "hypothesis", "unit", "expected"),
    [
        ("the cat sat", "The cat sat.", "word", Errors(0, 3)),
        ("the cat sat", "the bat sat down", "word", Errors(2, 3)),
        ("the cat sat", "", "word", Errors(3, 3)),
        ("the cat sat", "no " * 50, "word", Errors(3, 3)),
        ("the cat sat", "the cat sat " + "the cat sat " * 50, "word", Errors(3, 3)),
        ("cat", "cart", "char", Errors(1, 3)),
        ("a cat", "acat", "char", Errors(1, 5)),
        ("cat", "dogdogdog", "char", Errors(3, 3)),
    ],
)
def test_errors_and_their_cap(reference, hypothesis, unit, expected):
    assert count_errors(reference, hypothesis, unit) == expected


@pytest.mark.parametrize("reference", ["", " ", "?!"])
def test_no_reference_no_count(reference):
    assert count_errors(reference, "something", "word") is None
    assert count_errors(reference, "", "char") is None


def _edits(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8), st.lists(st.sampled_from("abc"), max_size=12))
def test_errors_are_the_capped_edit_distance(reference, hypothesis):
    expected = Errors(min(_edits(reference, hypothesis), len(reference)), len(reference))
    assert count_errors(" ".join(reference), " ".join(hypothesis), "word") == expected
    assert count_errors("".join(reference), "".join(hypothesis), "char") == expected


def test_the_corpus_figure_weighs_by_length():
    assert pool_errors([Errors(1, 1), Errors(0, 9)]) == pytest.approx(0.1)
    assert pool_errors([]) is None
    assert Errors(1, 4).rate == 0.25


class FakeWhisper:
    """Stands for `faster_whisper.WhisperModel`; says how long each window's sound is."""

    supported_languages = ("en", "de")

    def __init__(self):
        self.calls = []

    def transcribe(self, audio, **options):
        self.calls.append((audio, options))
        return iter([SimpleNamespace(text=f" {np.count_nonzero(audio)}")]), None


@pytest.mark.parametrize(("samples", "text"), [(16000, "16000"), (480000, "480000"), (480001, "480000 1"), (0, "")])
def test_whisper_hears_windows_of_thirty_seconds(samples, text):
    model = FakeWhisper()
    assert WhisperTranscriber(model, "fake").transcribe(torch.ones(samples), "de") == text
    for audio, options in model.calls:
        assert audio.shape == (480000,)
        assert audio.dtype == np.float32
        assert options["language"] == "de"
        assert options["beam_size"] == 1
        assert options["temperature"] == 0.0
        assert options["condition_on_previous_text"] is False


def test_whisper_knows_the_languages_of_its_model():
    whisper = CachedTranscriber(WhisperTranscriber(FakeWhisper(), "fake"))
    assert [whisper.knows(language) for language in ("en", "de", "hsb", "")] == [True, True, False, False]


def test_load_whisper_asks_for_int8_and_threads(monkeypatch, tmp_path):
    asked = []
    model = SimpleNamespace(WhisperModel=lambda name, **options: asked.append((name, options)))
    monkeypatch.setitem(sys.modules, "faster_whisper", model)
    assert load_whisper(tmp_path / "base", threads=2).name == "base"
    assert asked == [(str(tmp_path / "base"), {"device": "cpu", "compute_type": "int8", "cpu_threads": 2})]


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(MissingDependencyError, match=r"transcription .*'unitoken-speech\[evaluate\]"):
        load_whisper("base")
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(MissingDependencyError, match=r"error rates .*'unitoken-speech\[evaluate\]"):
        count_errors("a", "b", "word")


class Counting:
    name = "counting"

    def __init__(self):
        self.heard = 0

    def transcribe(self, waveform, language):
        self.heard += 1
        return f"{language} {self.heard}"


def test_an_original_is_heard_once():
    inner = Counting()
    cached = CachedTranscriber(inner)
    original = torch.rand(10)
    assert cached.remember(original, "en") == "en 1"
    assert cached.transcribe(original.clone(), "en") == "en 1"
    assert cached.transcribe(original.clone(), "de") == "de 2"
    assert cached.transcribe(original + 1, "en") == "en 3"
    assert cached.transcribe(original, "en") == "en 1"
    assert cached.remember(original + 2, "en") == "en 4"
    assert inner.heard == 4
