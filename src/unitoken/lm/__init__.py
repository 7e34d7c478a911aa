"""The language-model side: tokens as ids of a model, in layouts that cannot be misread, and ids as tokens again.

>>> from unitoken import Tokenizer, lm
>>> tok = Tokenizer.from_pretrained()
>>> layout = lm.Layout(lm.Vocabulary(tok.info), lm.Interleaved())
>>> layout.streams, layout.vocabulary.size
('gsp', 24586)
"""

from .bodies import Body, Interleaved, Runs, Semantic, Sequential
from .grammar import Grammar, Place
from .layout import Layout, Span
from .parallel import Parallel, Step
from .pieces import Pieces, train_pieces
from .reader import Reader
from .repair import Repair, Report
from .vocabulary import Vocabulary

__all__ = [
    "Body",
    "Grammar",
    "Interleaved",
    "Layout",
    "Parallel",
    "Pieces",
    "Place",
    "Reader",
    "Repair",
    "Report",
    "Runs",
    "Semantic",
    "Sequential",
    "Span",
    "Step",
    "Vocabulary",
    "train_pieces",
]
