"""One codec out of several of one training: the mean of their weights, which often is better than each."""

import dataclasses
from collections.abc import Sequence

import torch

from ..errors import TrainError
from ..model.codec import Codec


@torch.no_grad()
def mean_codec(codecs: Sequence[Codec]) -> Codec:
    """Return the codec whose weights are the means of others', after "Model soups" (Wortsman et al., arXiv 2203.05482, uniform soup).

    It holds for codecs that were trained on from one another or from the same one: weights of separate trainings have means that say nothing. What
    was frozen in all of them stays as it is, bit for bit.

    Args:
        codecs: two or more of one configuration; names may differ, the first one's is kept. Not changed.

    Raises:
        TrainError: if there are fewer than two, or their configurations differ.
    """
    if len(codecs) < 2:
        raise TrainError(f"a mean takes two codecs or more, got {len(codecs)}")
    config = codecs[0].config
    if other := [codec.config.name for codec in codecs[1:] if dataclasses.replace(codec.config, name=config.name) != config]:
        raise TrainError(f"{', '.join(other)} and {config.name} are of different configurations; give codecs that were trained on from one another")
    states = [codec.state_dict() for codec in codecs]
    made = Codec(config)
    own = made.state_dict()
    for name, first in states[0].items():
        values = [state[name] for state in states]
        equal = all(torch.equal(first, value) for value in values)
        own[name].copy_(first if equal else torch.stack(values).mean(0))
    return made.eval()
