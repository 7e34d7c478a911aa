"""The grammar of a layout: what is before, between and after its frames."""

import functools
from typing import Literal

from .bodies import Body, books
from .grammar import NO_LIMIT, Grammar, GrammarBuilder
from .vocabulary import Vocabulary

TextOrder = Literal["none", "before", "after"]


@functools.lru_cache(32)
def grammar_of(vocabulary: Vocabulary, body: Body, text: TextOrder) -> Grammar:
    """Return the grammar of a layout; equal layouts share it."""
    builder = GrammarBuilder(vocabulary)
    start, opened, voiced, begin, words, end = builder.states(6)
    builder.arc(start, "bos", opened)
    builder.chain(opened, ["global", *books(vocabulary, "g")], voiced)
    exits = body.build(builder, begin)

    def leave(kind: str, target: int) -> None:
        for exit in exits:
            builder.arc(exit.state, kind, target, most=exit.most, add=0 if exit.most == NO_LIMIT else -NO_LIMIT)

    for state in (opened, voiced):
        builder.arc(state, "transcript" if text == "before" else body.marker, words if text == "before" else begin)
        if text != "none":
            builder.arc(state, "eos", end)
    if text != "none":
        builder.arc(words, "text", words)
        builder.arc(words, body.marker, begin)
        leave("transcript", words)
    if text == "after":
        builder.arc(words, "eos", end)
    else:
        leave("eos", end)
    builder.arc(end, "pad", end)
    return Grammar(vocabulary, builder.arcs, start, end)
