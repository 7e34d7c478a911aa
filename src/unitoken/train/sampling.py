"""Which utterances a step sees: drawn by speaker, each corpus with its weight, in an order that depends on the seed and the step alone."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .pool import Utterance
from .sources import Source


@dataclass(frozen=True)
class Crop:
    """A piece of an utterance.

    Attributes:
        utterance: of which.
        start: first sample, a multiple of the hop.
        samples: how many; fewer than asked for where the utterance is shorter.
    """

    utterance: Utterance
    start: int
    samples: int


class SpeakerSampler:
    """Draws utterances: first a speaker, by corpus weight and how much there is of them (to the power 0.7), then one of their utterances.

    Args:
        utterances: what to draw from.
        sources: what is known about their corpora: `Pool.sources`.
        seed: of the order.
    """

    def __init__(self, utterances: Sequence[Utterance], *, sources: Mapping[str, Source] | None = None, seed: int = 0) -> None:
        self.utterances, self.seed = list(utterances), seed
        seconds, groups = defaultdict[tuple[str, str], float](float), defaultdict[tuple[str, str], list[int]](list)
        for index, utterance in enumerate(self.utterances):
            seconds[utterance.who] += utterance.samples / 16000
            groups[utterance.who].append(index)
        self.chances = np.zeros(len(self.utterances))
        for (source, speaker), members in groups.items():
            known = (sources or {}).get(source, Source())
            people = known.people if speaker == "unk" else 1
            share = known.weight * people * min(seconds[source, speaker] / people, 3000.0) ** 0.7
            lengths = np.array([self.utterances[i].samples for i in members], dtype=float)
            self.chances[members] = share * lengths / lengths.sum()
        self.chances /= self.chances.sum()

    def draw(self, step: int, batch: int, samples: int, hop: int, *, group: int = 4) -> list[Crop]:
        """Return the crops of one step: of similar length, the longest first.

        Args:
            step: number of the step; the same step gives the same crops.
            batch: how many.
            samples: longest crop.
            hop: crops start at multiples of it.
            group: steps whose crops are drawn together and dealt out by length.
        """
        random = np.random.default_rng((self.seed, step // group))
        chosen = random.choice(len(self.utterances), batch * group, p=self.chances)
        crops = [self._crop(self.utterances[i], samples, hop, random) for i in chosen]
        crops.sort(key=lambda crop: -crop.samples)
        part = int(random.permutation(group)[step % group])
        return crops[part * batch : (part + 1) * batch]

    @staticmethod
    def _crop(utterance: Utterance, samples: int, hop: int, random: np.random.Generator) -> Crop:
        spare = max(0, utterance.samples - samples)
        start = int(random.integers(0, spare // hop + 1)) * hop
        return Crop(utterance, start, min(samples, utterance.samples - start))
