"""Vocabularies, layouts and bundles of many shapes, for the tests of the language-model side."""

import numpy as np
from hypothesis import strategies as st

from unitoken import TokenBundle, lm
from unitoken.tokens import StreamInfo, TokenizerInfo

TEXT = 50


def info_of(hop_s=640, hop_p=640, books_s=1, books_p=1, size=8):
    streams = StreamInfo(hop_s, books_s, size), StreamInfo(hop_p, books_p, size + 1)
    return TokenizerInfo("toy", "0123abcd", 16000, *streams, 3, 5, "Apache-2.0", "Apache-2.0")


SHAPES = [(640, 640, 1, 1), (640, 640, 2, 3), (640, 1280, 1, 2), (1920, 640, 2, 1), (640, 1280, 1, 1), (1280, 640, 1, 1)]
BODIES = [lm.Semantic(), lm.Sequential(), lm.Interleaved(), lm.Interleaved(1), lm.Interleaved(4), lm.Runs(), lm.Pieces()]
MERGES = ((0, 1), (8, 2), (3, 3))


def vocabulary_of(shape=SHAPES[0], body=None, **more):
    info = info_of(*shape)
    single = info.s.num_codebooks == 1
    return lm.Vocabulary(info, **{"longest_run": 3 if single else 0, "merges": MERGES if single else (), "text_size": TEXT, **more})


def bundle_of(info, num_samples, seed=0, *, g=True, p=True):
    random = np.random.default_rng(seed)
    shapes = info.shapes(num_samples)
    draw = {name: random.integers(0, info.sizes[name], shapes[name]) for name in "gsp"}
    return TokenBundle(draw["s"], draw["p"] if p else None, draw["g"] if g else None, num_samples, info)


@st.composite
def layouts(draw, text=("none", "before", "after")):
    body = draw(st.sampled_from(BODIES))
    order = draw(st.sampled_from(text))
    single = body.name in ("runs", "pieces")
    equal = order != "none" and body.streams == "sp"
    fits = [shape for shape in SHAPES if (not single or shape[2] == 1) and (not equal or shape[0] == shape[1])]
    vocabulary = vocabulary_of(draw(st.sampled_from(fits)), text_first=draw(st.booleans()))
    return lm.Layout(vocabulary, body, text=order)


@st.composite
def utterances(draw, layout, most=12):
    """Return a bundle, and spans of text if the layout has text."""
    samples = draw(st.one_of(st.integers(0, most * 640), st.sampled_from([0, 1, 640, 1280, 1920])))
    bundle = bundle_of(layout.info, samples, draw(st.integers(0, 99)), g=draw(st.booleans()))
    if layout.text == "none":
        return bundle, None
    cuts = sorted(draw(st.lists(st.integers(0, len(bundle.s)), max_size=3)))
    sizes = [stop - start for start, stop in zip([0, *cuts], [*cuts, len(bundle.s)], strict=True)]
    words = st.lists(st.integers(0, TEXT - 1), max_size=3).map(tuple)
    return bundle, [lm.Span(draw(words), size) for size in sizes]


def carried(layout, bundle, *, whole=True):
    """Return what a layout carries of a bundle; with `whole` as long as its frames."""
    bundle = bundle if "p" in layout.streams else bundle.replace(p=None)
    if not whole:
        return bundle
    info = layout.info
    frames = len(bundle.s) * info.s.hop
    return bundle.replace(num_samples=frames if bundle.p is None else min(frames, len(bundle.p) * info.p.hop))
