"""Which frames a word is spoken in: a recogniser of characters that hears nothing but S, and the likeliest way through what it hears."""

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


def frames_of_words(scores, words, numbers):
    """Return how many frames each of the words lasts, which together are all of them; None if there are too few."""
    path = likeliest_path(scores, [numbers[character] for character in " ".join(words)])
    if path is None:
        return None
    ends = np.cumsum([len(word) + 1 for word in words]) - 1  # of each word in the text: its space, or the end
    borders = [int(path[end - 1, 1] + path[end + 1, 0] + 1) // 2 for end in ends[:-1]]  # in the middle of what is between two words
    return np.diff([0, *borders, len(scores)]).tolist()


@torch.no_grad()
def word_frames(tok, rows, texts, minutes):
    """Return the frames of each word of each text, None where it cannot be spoken in so few; learns to recognise characters first."""
    characters = sorted({character for text in texts for character in text})
    numbers = {character: number for number, character in enumerate(characters, 1)}
    torch.manual_seed(0)
    net = Recogniser([tok.codewords("s")[0]], len(numbers))
    clips = [(row.bundle.s[:, None], torch.tensor([numbers[character] for character in text])) for row, text in zip(rows, texts, strict=True)]
    with torch.enable_grad():
        learn(net.train(), clips, minutes)
    net.eval()
    scores = [net(tokens[None], torch.tensor([len(tokens)]))[:, 0].numpy() for tokens, _ in clips]
    return [frames_of_words(score, text.split(), numbers) for score, text in zip(scores, texts, strict=True)]
