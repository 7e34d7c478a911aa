from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitoken import errors
from unitoken.units import bits_for, frame_rate, frames_for, resampled_length

COUNTS = st.integers(0, 10**15)
POSITIVE = st.integers(1, 10**6)


@given(COUNTS, POSITIVE)
def test_frames_cover_every_sample_and_none_is_empty(samples, hop):
    frames = frames_for(samples, hop)
    assert frames * hop >= samples
    assert (frames - 1) * hop < samples or frames == 0


@given(COUNTS, POSITIVE, POSITIVE)
def test_resampled_length_is_the_exact_quotient_rounded_up(samples, source, target):
    exact = Fraction(samples * target, source)
    assert exact <= resampled_length(samples, source, target) < exact + 1


def test_equal_rates_keep_the_length():
    assert [resampled_length(n, 44100, 44100) for n in (0, 1, 7)] == [0, 1, 7]


def test_frame_rate_is_exact():
    assert frame_rate(16000, 1280) == Fraction(25, 2)
    assert frame_rate(44100, 640) == Fraction(2205, 32)


@given(st.integers(1, 2**40))
def test_bits_are_enough_and_no_more(size):
    bits = bits_for(size)
    assert size <= 2**bits
    assert bits == 0 or size > 2 ** (bits - 1)


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (errors.AudioError, (ValueError,)),
        (errors.AudioFileError, (errors.AudioError, OSError)),
        (errors.ConfigError, (ValueError,)),
        (errors.TokenError, (ValueError,)),
        (errors.TokenFileError, (OSError, ValueError)),
        (errors.ModelError, (OSError, ValueError)),
        (errors.TrainError, (ValueError,)),
        (errors.MissingDependencyError, (ImportError,)),
    ],
)
def test_errors_are_also_the_built_in_that_a_caller_expects(error, bases):
    assert all(issubclass(error, base) for base in (errors.UnitokenError, *bases))


def test_a_missing_extra_is_named_with_its_remedy():
    error = errors.missing_extra("the command line", "cli")
    assert isinstance(error, errors.MissingDependencyError)
    assert str(error) == "the command line needs packages that are not installed; run: pip install 'unitoken-speech[cli]'"
