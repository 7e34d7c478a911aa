"""When what an id says begins and ends."""

import numpy as np
from numpy.typing import NDArray

from .bodies import Body, Ids, numbers_of
from .vocabulary import Vocabulary


def times(vocabulary: Vocabulary, body: Body, ids: Ids) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return when what each id says of S or P begins and ends, NaN for others."""
    info = vocabulary.info
    numbers = vocabulary.numbers_of(ids)
    tokens = ids - vocabulary.firsts[numbers]
    of_p = np.isin(numbers, numbers_of(vocabulary, "p")).astype(np.int64)
    starts, ends = (np.full(len(ids), np.nan) for _ in range(2))
    for lengths, stream in ((body.lengths(vocabulary, numbers, tokens), info.s), (of_p, info.p)):
        stop = np.cumsum(lengths)
        frame = stream.hop / info.sample_rate
        said = lengths > 0
        starts[said] = ((stop - lengths) // stream.num_codebooks * frame)[said]
        ends[said] = (-(-stop // stream.num_codebooks) * frame)[said]
    return starts, ends
