"""Which frames a word or a phone is spoken in: a recogniser that hears nothing but S, and the likeliest way through what it hears."""

import numpy as np
import torch
from word_recognition import Recogniser, learn


def likeliest_path(scores, labels):
    """Return the first and the last frame of each label, int64 `(labels, 2)`, on the likeliest path of connectionist temporal classification.

    None if there are too few frames. `scores` are log-probabilities `(frames, classes)`, class 0 is none of the labels.
    """
    states = np.zeros(2 * len(labels) + 1, np.int64)
    states[1::2] = labels
    leaps = np.zeros(len(states), bool)  # over the gap between two labels, if they differ
    leaps[3::2] = states[3::2] != states[1:-2:2]
    best, came = np.full(len(states), -np.inf), np.zeros((len(scores), len(states)), np.int64)
    best[:2] = scores[0, states[:2]]
    for frame in range(1, len(scores)):
        one, two = (np.concatenate([np.full(back, -np.inf), best[:-back]])[: len(states)] for back in (1, 2))
        choices = np.stack([best, one, np.where(leaps, two, -np.inf)])
        came[frame] = choices.argmax(0)
        best = choices.max(0) + scores[frame, states]
    state = len(states) - 1 if best[-1] >= best[-2] else len(states) - 2
    if best[state] == -np.inf:
        return None
    path = [state]
    for frame in range(len(scores) - 1, 0, -1):
        path.append(path[-1] - came[frame, path[-1]])
    path = np.array(path[::-1])
    return np.array([[np.flatnonzero(path == state)[0], np.flatnonzero(path == state)[-1]] for state in range(1, len(states), 2)])


def joined(units, gap=()):
    """Return the labels of all units in a row, those of `gap` between them."""
    return [label for number, unit in enumerate(units) for label in (*(gap if number else ()), *unit)]


def frames_of_units(scores, units, gap=()):
    """Return how many frames each of the units lasts, which together are all of them; None if there are too few.

    A unit is a list of labels, such as the characters of a word; between two units are the labels of `gap`, such as a space.
    """
    path = likeliest_path(scores, joined(units, gap))
    if path is None:
        return None
    firsts = np.cumsum([0, *(len(unit) + len(gap) for unit in units[:-1])])
    lasts = firsts + [len(unit) - 1 for unit in units]
    borders = [int(path[last, 1] + path[first, 0] + 1) // 2 for last, first in zip(lasts[:-1], firsts[1:], strict=True)]  # halfway
    return np.diff([0, *borders, len(scores)]).tolist()


@torch.no_grad()
def unit_frames(tok, rows, texts, minutes, gap=()):
    """Return the frames of each unit of each text, None where it cannot be spoken in so few; learns to recognise the units' labels first.

    Texts are lists of units, units are sequences of labels, labels are strings.
    """
    numbers = {label: number for number, label in enumerate(sorted({label for text in texts for unit in (*text, gap) for label in unit}), 1)}
    told = [[[numbers[label] for label in unit] for unit in text] for text in texts]
    between = [numbers[label] for label in gap]
    torch.manual_seed(0)
    net = Recogniser([tok.codewords("s")[0]], len(numbers))
    clips = [(row.bundle.s[:, None], torch.tensor(joined(units, between))) for row, units in zip(rows, told, strict=True)]
    with torch.enable_grad():
        learn(net.train(), clips, minutes)
    net.eval()
    scores = [net(tokens[None], torch.tensor([len(tokens)]))[:, 0].numpy() for tokens, _ in clips]
    return [frames_of_units(score, units, between) for score, units in zip(scores, told, strict=True)]
