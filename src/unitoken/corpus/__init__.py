"""Corpora of tokens (extra `[corpus]`): from a folder of audio to shards that a trainer can read, and out of them again.

>>> from unitoken import corpus
>>> tokens = corpus.open("tokens/")                     # doctest: +SKIP
>>> tokens["talk-7"].bundle                             # doctest: +SKIP
"""

from ..errors import missing_extra

try:
    import pyarrow as _  # noqa: F401
except ImportError as error:
    raise missing_extra("unitoken.corpus", "corpus") from error

from .encode import Settings
from .inputs import make_plan
from .job import begin, finish, make_shard
from .plan import Plan, Row
from .reader import Corpus, Utterance
from .reader import Corpus as open
from .run import Progress, encode_corpus
from .sequences import Sequences, ids_of_rows

__all__ = [
    "Corpus",
    "Plan",
    "Progress",
    "Row",
    "Sequences",
    "Settings",
    "Utterance",
    "begin",
    "encode_corpus",
    "finish",
    "ids_of_rows",
    "make_plan",
    "make_shard",
    "open",
]
