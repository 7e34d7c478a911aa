"""The language-model side: tokens as ids of a model, in layouts that cannot be misread, and ids as tokens again.

>>> from unitoken import Tokenizer, lm
>>> tok = Tokenizer.from_pretrained()
>>> layout = lm.Layout(lm.Vocabulary(tok.info), lm.Interleaved())
>>> layout.streams, layout.vocabulary.size
('gsp', 24586)
"""

from .batches import block_mask, collate, pack
from .bodies import Body, Interleaved, Runs, Semantic, Sequential
from .constraint import Constraint
from .grammar import Grammar, Place
from .layout import Layout, Span
from .models import add_strings, resize_embeddings
from .parallel import Parallel, Step
from .pieces import Pieces, train_pieces
from .reader import Reader
from .report import Repair, Report
from .speaking import ids_before_sound, speak
from .vocabulary import Vocabulary

__all__ = [
    "Body",
    "Constraint",
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
    "add_strings",
    "block_mask",
    "collate",
    "ids_before_sound",
    "pack",
    "resize_embeddings",
    "speak",
    "train_pieces",
]
