"""Every error that unitoken raises on purpose.

Each also derives from the built-in that a caller would expect, so `except ValueError` and `except OSError` keep working::

    UnitokenError
    ├── AudioError (ValueError)            samples that cannot be encoded: NaN, wrong rank, missing sample rate
    │   └── AudioFileError (OSError)       a file that is missing or that cannot be decoded
    ├── ConfigError (ValueError)           a configuration that cannot be built, or that has unknown keys
    ├── TokenError (ValueError)            tokens out of range, of the wrong shape, or of another tokenizer
    ├── TokenFileError (OSError, ValueError)   a `.utok` file that is damaged, cut short or of another version
    ├── LayoutError (ValueError)           ids of a language model that are not what their layout says, or tokens that it cannot carry
    ├── StreamError (RuntimeError)         a stream that is closed, finished, or not there
    ├── ModelError (OSError, ValueError)   unknown model, missing weights, wrong hash
    ├── CorpusError (ValueError)           a manifest that lists no corpus, or a folder of tokens that is not what it should be
    ├── TrainError (ValueError)            data or settings that a training run cannot use
    └── MissingDependencyError (ImportError)   an optional extra is not installed
"""


class UnitokenError(Exception):
    """Base of every error raised by unitoken."""


class AudioError(UnitokenError, ValueError):
    """Audio that cannot be used: not finite, wrong rank or dtype, or without a sample rate."""


class AudioFileError(AudioError, OSError):
    """An audio file that is missing or that cannot be decoded."""


class ConfigError(UnitokenError, ValueError):
    """A configuration with unknown keys or values that do not fit together."""


class TokenError(UnitokenError, ValueError):
    """Tokens out of range, of the wrong shape, or made by another tokenizer."""


class TokenFileError(UnitokenError, OSError, ValueError):
    """A token file that is damaged, truncated or of a version this release does not know."""


class LayoutError(UnitokenError, ValueError):
    """Ids of a language model that are not what their layout says, or tokens that it cannot carry."""


class StreamError(UnitokenError, RuntimeError):
    """A stream that is closed, finished or not there, or that what comes does not fit."""


class ModelError(UnitokenError, OSError, ValueError):
    """A model that is unknown, incomplete, or whose weights do not match their hash."""


class CorpusError(UnitokenError, ValueError):
    """A manifest that cannot be read, or a folder of tokens that is incomplete, damaged or another tokenizer's."""


class TrainError(UnitokenError, ValueError):
    """Data or settings that a training run cannot use."""


class MissingDependencyError(UnitokenError, ImportError):
    """A feature needs an optional extra that is not installed."""


def missing_extra(feature: str, extra: str) -> MissingDependencyError:
    """Return the error that tells how to install what `feature` needs."""
    return MissingDependencyError(f"{feature} needs packages that are not installed; run: pip install 'unitoken-speech[{extra}]'")
