"""How sure error rates are."""

import json

import numpy as np
import pytest

from unitoken.evaluate.confidence import LEAST_CLIPS, intervals
from unitoken.evaluate.summary import Report, Row
from unitoken.evaluate.words import Errors


def counts(rate, clips, seed=0, length=10):
    return [Errors(int(wrong), length) for wrong in np.random.default_rng(seed).binomial(length, rate, clips)]


def test_intervals_are_as_wide_as_chance_makes_them():
    covered, widths = 0, []
    for seed in range(100):
        low, high = intervals({"a": counts(0.3, 50, seed)}, "a")["a"].rate
        covered += low <= 0.3 <= high
        widths.append(high - low)
    assert 88 <= covered <= 99
    assert np.mean(widths) == pytest.approx(2 * 1.96 * (0.3 * 0.7 / 500) ** 0.5, rel=0.1)


def test_a_difference_is_surer_than_what_it_is_of():
    """Clips that are hard for one are hard for the other: one more error in every tenth clip is certain, though the rates are not."""
    one = [Errors(number % 9, 10) for number in range(100)]
    two = [Errors(errors.errors + (number % 10 == 0), 10) for number, errors in enumerate(one)]
    found = intervals({"one": one, "two": two}, "one")
    assert found["one"].difference is None
    low, high = found["two"].difference
    assert 0 < low < 0.01 < high < 0.02
    assert found["two"].rate[0] < found["one"].rate[1]


def test_what_has_no_words_is_left_out():
    few = counts(0.3, LEAST_CLIPS - 1)
    assert intervals({"a": few}, "a") == {}
    assert intervals({"a": [*few, None], "b": [*few, Errors(1, 2)]}, "a") == {}
    known = [*few, Errors(1, 10)]
    assert intervals({"a": [*known, None], "b": [*known, None]}, "a") == intervals({"a": known, "b": known}, "a")
    assert intervals({"a": [*known, Errors(0, 0)]}, "a") == intervals({"a": known}, "a")


def rows(name, rate):
    clips = enumerate(counts(rate, 30))
    return [Row(name, f"{at}.wav", "x", "en", 1.0, None, 0, 0.0, 0.0, {}, {"wer": each, "self_cer": None}, None, None) for at, each in clips]


def test_reports_say_how_sure_they_are():
    context = {
        "clips": 30,
        "sources": ["x"],
        "asr": "none",
        "unitoken": "1",
        "torch": "2",
        "torch_threads": 1,
        "machine": "x",
        "jobs": 1,
        "absent": {},
    }
    names = ("original", "a", "b")
    report = Report(context, list(names), [row for name, rate in zip(names, (0.1, 0.3, 0.9), strict=True) for row in rows(name, rate)], {})
    text = report.markdown()
    assert "| codec | WER | WER less that of a |" in text
    line = next(line for line in text.splitlines() if line.startswith("| a |") and " to " in line)
    assert line.endswith("| - |")
    assert "less that of a" not in Report(context, ["a"], rows("a", 0.3)[:3], {}).markdown()
    kept = json.loads(report.to_json())["confidence"]
    assert set(kept) == {"wer"}
    assert kept["wer"]["original"]["difference"][1] < 0 < kept["wer"]["b"]["difference"][0]
