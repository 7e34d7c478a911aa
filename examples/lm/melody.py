"""Melody of one reading, words of another: P is carried over along an alignment of S, and G from whoever's voice is wanted.

usage: python examples/lm/melody.py TOKENS --held-out SPEAKERS.tsv --audio TRAIN.tar... -o RUN [--source emodb] [--asr WHISPER]
           [--speakers GE2E.safetensors]

TOKENS is a folder that `unitoken corpus encode` wrote, with the columns source, speaker, language and transcript. Of the clips of a source by
held-out speakers every two that say the same are a pair: A gives the words, B the melody, and C, a clip of another held-out speaker, the voice.
Nothing is trained. Prints how near F0 comes to A's and to B's (carried over along the same alignment), words lost, and how near the voice comes to
A's and to C's; writes the first pair as WAV files.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from transformer import recordings, split

from unitoken import Tokenizer, corpus, save_audio
from unitoken.evaluate.pitch import compare_f0, track_f0
from unitoken.evaluate.speakers import SpeakerEmbedder
from unitoken.evaluate.words import count_errors, load_whisper, normalise, pool_errors

F0_SECONDS = 0.016


def align(ours, theirs):
    """Return, for each frame of ours, the frame of theirs that says the same: the cheapest monotonic path through cosine distances of codewords."""
    ours, theirs = (torch.nn.functional.normalize(x, dim=1) for x in (ours, theirs))
    cost = (1 - ours @ theirs.T).double().numpy()
    total = np.full((len(ours) + 1, len(theirs) + 1), np.inf)
    total[0, 0] = 0
    for i, j in itertools.product(range(len(ours)), range(len(theirs))):
        total[i + 1, j + 1] = cost[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    path, (i, j) = np.zeros(len(ours), np.int64), cost.shape
    while i:
        path[i - 1] = j - 1
        steps = (total[i - 1, j - 1], total[i - 1, j], total[i, j - 1])
        i, j = ((i - 1, j - 1), (i - 1, j), (i, j - 1))[int(np.argmin(steps))]
    return path


def carried_over(f0, path, frame_seconds, count):
    """Return a track of F0 along an alignment of frames: `count` values, 0 where unvoiced."""
    frame, within = np.divmod((np.arange(count) + 0.5) * F0_SECONDS, frame_seconds)
    seconds = path[np.minimum(frame.astype(int), len(path) - 1)] * frame_seconds + within
    return f0[np.minimum((seconds / F0_SECONDS).astype(int), len(f0) - 1)]


def pairs_of(rows):
    """Yield two rows that say the same in another way."""
    for a, b in itertools.permutations(rows, 2):
        if normalise(a["transcript"]) == normalise(b["transcript"]):
            yield a, b


def figure(values):
    """Return a mean of what is there as text."""
    found = [value for value in values if value is not None]
    return f"{sum(found) / len(found):.2f}" if found else "-"


def main():
    """Decode each pair in several ways, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens")
    parser.add_argument("--held-out", required=True)
    parser.add_argument("--audio", nargs="+", required=True, help="tar files with the recordings")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--source", default="emodb")
    parser.add_argument("--pairs", type=int, default=60, help="at most")
    parser.add_argument("--model", help="of the tokens; default: the packaged one")
    parser.add_argument("--asr", help="Whisper model in CTranslate2's format")
    parser.add_argument("--speakers", help="GE2E weights")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    tok = Tokenizer.from_pretrained(args.model)
    _, held = split(corpus.open(args.tokens), args.held_out)
    rows = [row for row in held if row["source"] == args.source and row["transcript"] and row["transcript"][0] != "["]
    others = list({(row["source"], row["speaker"]): row for row in held}.values())
    pairs = [
        (a, b, next(row for row in others[turn % len(others) :] + others if row["speaker"] != a["speaker"]))
        for turn, (a, b) in enumerate(itertools.islice(pairs_of(rows), args.pairs))
    ]
    waves = recordings(args.audio, {row.id for pair in pairs for row in pair})
    asr, embedder = load_whisper(args.asr) if args.asr else None, SpeakerEmbedder(args.speakers) if args.speakers else None
    codewords, found = tok.codewords("s")[0], {}
    for index, (a, b, c) in enumerate(pairs):
        path = align(codewords[a.bundle.s], codewords[b.bundle.s])
        p = b.bundle.p[torch.from_numpy(path)]
        ways = {
            "recording of A": None,
            "A": a.bundle,
            "A without P": a.bundle.replace(p=None),
            "A with B's P": a.bundle.replace(p=p),
            "A with C's G": a.bundle.replace(g=c.bundle.g),
            "A with B's P and C's G": a.bundle.replace(p=p, g=c.bundle.g),
        }
        own = track_f0(waves[a.id])
        melody = carried_over(track_f0(waves[b.id]), path, tok.hop / tok.sample_rate, len(own))
        for name, bundle in ways.items():
            wave = waves[a.id] if bundle is None else tok.decode(bundle)
            f0 = track_f0(wave)
            found.setdefault(name, []).append(
                (
                    compare_f0(own, f0).f0_correlation,
                    compare_f0(melody, f0).f0_correlation,
                    count_errors(a["transcript"], asr.transcribe(wave, a["language"]), "word") if asr else None,
                    *(embedder.similarity(wave, waves[row.id]) if embedder else None for row in (a, c)),
                )
            )
            if not index:
                save_audio(args.output / f"{name}.wav", wave, tok.sample_rate)
    print(f"{len(pairs)} pairs of clips of {args.source} that say the same, of held-out speakers\n")
    print("| decoded | F0 as A's | F0 as B's | WER | voice as A's | voice as C's |\n|---|---:|---:|---:|---:|---:|")
    for name, values in found.items():
        ours, theirs, errors, voices, others = zip(*values, strict=True)
        wer = f"{pool_errors(errors):.3f}" if asr else "-"
        print(f"| {name} | {figure(ours)} | {figure(theirs)} | {wer} | {figure(voices)} | {figure(others)} |")


if __name__ == "__main__":
    main()
