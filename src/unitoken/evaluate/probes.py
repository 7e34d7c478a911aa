"""Linear probes: what can be read from a stream's frozen codewords, phones by frame, speakers by frame and clip, emotions by clip.

A probe is one linear layer on standardised features, trained by AdamW with one cycle of the learning rate, and tested on other speakers
(phones, emotions) or other utterances (speakers).
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError

SILENCE = "SIL"
LABEL_SECONDS = 0.01
SPEAKER_CLIPS = 6
"""How many of a speaker's clips train the speaker probe; the others test it."""
SPEAKER_FRAMES = 60000
"""Most frames that train the speaker probe."""


@dataclass(frozen=True)
class Probe:
    """How a linear layer is trained.

    Attributes:
        epochs: over the training rows.
        learning_rate: the highest.
        decay: of the weights.
        batch: rows a step.
    """

    epochs: int = 10
    learning_rate: float = 2e-3
    decay: float = 1e-4
    batch: int = 512

    def correct(self, train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, classes: int, *, seed: int = 0) -> Tensor:
        """Train on some rows and return which of the others are labelled right.

        Args:
            train: float32 `(rows, dim)`.
            labels: int64 `(rows,)`, below `classes`.
            test: float32 `(other rows, dim)`.
            test_labels: int64 `(other rows,)`.
            classes: how many there are.
            seed: of the order.

        Returns:
            bool `(other rows,)`.
        """
        mean, std = train.mean(0), train.std(0) + 1e-4
        train, test = (train - mean) / std, (test - mean) / std
        generator = torch.Generator().manual_seed(seed)
        layer = nn.Linear(train.shape[1], classes)
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)  # convex: where it starts is no matter
        optimizer = torch.optim.AdamW(layer.parameters(), lr=self.learning_rate, weight_decay=self.decay)
        steps = self.epochs * -(-len(train) // self.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=max(2, steps))
        for _ in range(self.epochs):
            for rows in torch.randperm(len(train), generator=generator).split(self.batch):
                optimizer.zero_grad()
                F.cross_entropy(layer(train[rows]), labels[rows]).backward()
                optimizer.step()
                schedule.step()
        with torch.no_grad():
            return layer(test).argmax(1) == test_labels


def read_phones(path: str | os.PathLike[str], frame_seconds: float = 0.04) -> dict[str, list[str]]:
    """Read phone labels: a TSV of path and runs `PHONE:COUNT` of 10 ms, with a header.

    Args:
        path: the file.
        frame_seconds: length of a token's frame, a multiple of 10 ms; it gets the label a quarter of its length in.

    Returns:
        Path -> one label a frame.

    Raises:
        ConfigError: if a row cannot be read.
    """
    step = round(frame_seconds / LABEL_SECONDS)
    found = dict[str, list[str]]()
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines()[1:], 2):
        try:
            name, runs = line.split("\t")
            pairs = [run.rsplit(":", 1) for run in runs.split()]
            labels = [phone for phone, count in pairs for _ in range(int(count))]
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: expected a path and runs PHONE:COUNT, got {line[:60]!r}") from error
        found[name] = labels[step // 4 :: step]
    return found


@dataclass(frozen=True)
class LabelledClip:
    """A clip whose frames have labels.

    Attributes:
        name: its path.
        speaker: who speaks.
        features: float32 `(frames, dim)`.
        phones: one label a frame, at least as many or fewer; the longer of the two is cut.
    """

    name: str
    speaker: str
    features: NDArray[np.float32]
    phones: Sequence[str]


@dataclass(frozen=True)
class PhoneScores:
    """Accuracy of the phone probe on unseen speakers.

    Attributes:
        all_frames: of all frames.
        speech_frames: of those that are no silence.
        speakers: how many unseen speakers.
    """

    all_frames: float
    speech_frames: float
    speakers: int


@dataclass(frozen=True)
class SpeakerScores:
    """Accuracy of the speaker probe on other clips of the speakers that it learnt.

    Attributes:
        frame: by one speech frame.
        clip: by the mean over a clip's speech frames.
        chance: of a guess.
    """

    frame: float
    clip: float
    chance: float


def probe_phones(clips: Sequence[LabelledClip], unseen: set[str]) -> PhoneScores:
    """Train a phone probe on the frames of most speakers and test it on those of the others.

    Args:
        clips: labelled clips.
        unseen: the speakers to test on.

    Raises:
        ConfigError: if either part has no clips.
    """
    train, test = ([clip for clip in clips if (clip.speaker in unseen) == held] for held in (False, True))
    if not train or not test:
        raise ConfigError(
            f"a phone probe needs clips to train and to test on, got {len(train)} and {len(test)}; are the unseen speakers in the list?"
        )
    names = sorted({phone for clip in clips for phone in clip.phones})
    number = {phone: index for index, phone in enumerate(names)}
    (x, y), (xt, yt) = (_frames(part, number) for part in (train, test))
    right = Probe().correct(x, y, xt, yt, len(names))
    speech = yt != number.get(SILENCE, -1)
    return PhoneScores(_share(right), _share(right[speech]), len({clip.speaker for clip in test}))


def probe_speakers(clips: Sequence[LabelledClip]) -> SpeakerScores:
    """Train a speaker probe on each speaker's first clips, by name, and test it on the others; only frames of speech count.

    Raises:
        ConfigError: if no speaker has more than `SPEAKER_CLIPS` clips.
    """
    number = {speaker: index for index, speaker in enumerate(sorted({clip.speaker for clip in clips}))}
    seen, train, test = Counter[str](), list[LabelledClip](), list[LabelledClip]()
    for clip in sorted(clips, key=lambda clip: clip.name):
        (train if seen[clip.speaker] < SPEAKER_CLIPS else test).append(clip)
        seen[clip.speaker] += 1
    if not test:
        raise ConfigError(f"a speaker probe needs speakers of more than {SPEAKER_CLIPS} clips, the list has none")
    (x, y), (xt, yt) = (_speech(part, number) for part in (train, test))
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:SPEAKER_FRAMES]
    frame = Probe(epochs=5).correct(x[chosen], y[chosen], xt, yt, len(number))
    means = [_means(part, number) for part in (train, test)]
    whole = Probe(epochs=150, learning_rate=5e-3, decay=1e-2, batch=128).correct(*means[0], *means[1], len(number))
    return SpeakerScores(_share(frame), _share(whole), 1 / len(number))


def probe_clips(features: Tensor, labels: Sequence[str], speakers: Sequence[str]) -> tuple[float, float]:
    """Train a probe of whole clips on all speakers but one, test it on that one, and so for each.

    Args:
        features: float32 `(clips, dim)`.
        labels: one a clip.
        speakers: one a clip.

    Returns:
        The share of all clips that are labelled right, and that of the commonest label.

    Raises:
        ConfigError: with fewer than two speakers or labels.
    """
    names, people = sorted(set(labels)), sorted(set(speakers))
    if len(names) < 2 or len(people) < 2:
        raise ConfigError(f"a probe of clips needs two labels and two speakers, got {len(names)} and {len(people)}")
    y = torch.tensor([names.index(label) for label in labels])
    who = torch.tensor([people.index(speaker) for speaker in speakers])
    probe = Probe(epochs=100, learning_rate=5e-3, decay=1e-2, batch=64)
    right = [probe.correct(features[who != held], y[who != held], features[who == held], y[who == held], len(names)) for held in range(len(people))]
    return _share(torch.cat(right)), max(Counter(labels).values()) / len(labels)


def _share(right: Tensor) -> float:
    return float(right.double().mean())


def _frames(clips: Sequence[LabelledClip], number: Mapping[str, int]) -> tuple[Tensor, Tensor]:
    """Return the features and phone numbers of all frames."""
    x, y = list[Tensor](), list[Tensor]()
    for clip in clips:
        count = min(len(clip.features), len(clip.phones))
        x.append(torch.from_numpy(np.asarray(clip.features[:count], np.float32)))
        y.append(torch.tensor([number[phone] for phone in clip.phones[:count]], dtype=torch.int64))
    return torch.cat(x), torch.cat(y)


def _spoken(clip: LabelledClip) -> Tensor:
    count = min(len(clip.features), len(clip.phones))
    spoken = np.array([phone != SILENCE for phone in clip.phones[:count]], bool)
    return torch.from_numpy(np.asarray(clip.features[:count], np.float32)[spoken])


def _speech(clips: Sequence[LabelledClip], number: Mapping[str, int]) -> tuple[Tensor, Tensor]:
    parts = [_spoken(clip) for clip in clips]
    return torch.cat(parts), torch.cat([torch.full((len(part),), number[clip.speaker]) for part, clip in zip(parts, clips, strict=True)])


def _means(clips: Sequence[LabelledClip], number: Mapping[str, int]) -> tuple[Tensor, Tensor]:
    kept = [(part.mean(0), number[clip.speaker]) for clip in clips if len(part := _spoken(clip))]
    return torch.stack([mean for mean, _ in kept]), torch.tensor([who for _, who in kept])
