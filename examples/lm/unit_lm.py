"""A unit language model, as GSLM (arXiv 2102.01192): a transformer learns to go on with speech tokens, and speaks.

usage: python examples/lm/unit_lm.py TOKENS --held-out SPEAKERS.tsv -o RUN [--minutes 30] [--layout sp|s]

TOKENS is a folder that `unitoken corpus encode` wrote, with the columns source and speaker; SPEAKERS.tsv has the same columns and names those who
are never learnt from. Trains for so many minutes in all, goes on where it was stopped, then prints perplexities beside those of unigrams and bigrams
of the same training data, and writes continuations of held-out clips as WAV files into RUN.
"""

import math

import numpy as np
import torch
from transformer import arguments, build, losses, rows, split, train

from unitoken import Tokenizer, corpus, lm, save_audio

PROMPT, CONTINUED = 75, 200  # frames


class Counts:
    """Unigrams and bigrams of one stream by Witten and Bell's interpolation; a clip's first token follows its end."""

    def __init__(self, size, clips):
        self.size = size + 1  # the end
        pairs = [self.pairs(clip) for clip in clips]
        before, after = (np.concatenate(part) for part in zip(*pairs, strict=True))
        self.single = (np.bincount(after, minlength=self.size) + 1.0) / (len(after) + self.size)
        codes, counts = np.unique(before * self.size + after, return_counts=True)
        self.codes, self.counts = codes, counts
        self.of = np.bincount(before, minlength=self.size)
        self.kinds = np.bincount(codes // self.size, minlength=self.size)

    def pairs(self, clip):
        tokens = np.concatenate([[self.size - 1], clip, [self.size - 1]])
        return tokens[:-1], tokens[1:]

    def nats(self, clips, ends):
        """Return the summed negative log-likelihoods by unigrams and by bigrams, and the number of tokens."""
        before, after = (np.concatenate(part) for part in zip(*(self.pairs(clip) for clip in clips), strict=True))
        if not ends:
            spoken = after < self.size - 1
            before, after = before[spoken], after[spoken]
        code = before * self.size + after
        at = np.minimum(np.searchsorted(self.codes, code), len(self.codes) - 1)
        seen = np.where(self.codes[at] == code, self.counts[at], 0)
        kinds, alone = np.maximum(1, self.kinds[before]), self.single[after]
        return -np.log(alone).sum(), -np.log((seen + kinds * alone) / (self.of[before] + kinds)).sum(), len(after)


def report(model, layout, learnt, held):
    """Print perplexities on held-out speakers."""
    model.eval()
    sums = dict.fromkeys(layout.body.streams, (0.0, 0))
    with torch.no_grad():
        for batch in rows(layout, corpus.Sequences(held, layout, shuffle=False, frames=200)):
            for stream, (total, count) in losses(model, layout, batch).items():
                sums[stream] = sums[stream][0] + float(total), sums[stream][1] + count
    print(f"\n{len(learnt)} utterances learnt, {learnt.seconds / 3600:.2f} h; {len(held)} held out, {held.seconds / 3600:.2f} h\n")
    print("| perplexity | unigram | bigram | model | below the bigram's |\n|---|---:|---:|---:|---:|")
    both = np.zeros(4)
    for stream in layout.body.streams:
        pieces = [
            [piece for row in part for piece in np.split(np.array(row[stream], int), range(200, len(row[stream]), 200))] for part in (learnt, held)
        ]
        counts = Counts(layout.info.sizes[stream], pieces[0])
        one, two, number = counts.nats(pieces[1], stream == "s")
        assert number == sums[stream][1], (number, sums[stream])
        both += one, two, sums[stream][0], number
        line(stream.upper(), one, two, *sums[stream])
    if len(sums) > 1:
        line("all", *both)


def line(name, one, two, own, number):
    """Print one row of the table."""
    figures = [math.exp(nats / number) for nats in (one, two, own)]
    print(f"| {name} | {figures[0]:.0f} | {figures[1]:.0f} | {figures[2]:.0f} | {1 - figures[2] / figures[1]:.0%} |")


def speak(model, layout, tok, held, run, number):
    """Continue held-out clips, under the grammar, and write prompt and continuation as WAV files."""
    long = [row for row in held if len(row.bundle) > PROMPT][:: max(1, len(held) // (4 * number))][:number]
    per_frame = len(layout.body.streams)
    for index, row in enumerate(long):
        prompt = layout.to_ids(row.bundle[:PROMPT])[:-1].tolist()
        torch.manual_seed(index)
        written = model.generate(
            torch.tensor([prompt]),
            do_sample=True,
            top_k=50,
            temperature=0.9,
            max_new_tokens=CONTINUED * per_frame,
            logits_processor=[lm.Constraint(layout)],
        )[0].tolist()
        reader = lm.Reader(layout)
        frames = sum(len(reader.push(id)) for id in written)  # each id is one that may come there, or this raises
        save_audio(run / f"{index}.wav", lm.speak(tok, layout, written), tok.sample_rate)
        end = "ended" if reader.finished else "cut off"
        print(f"{run / f'{index}.wav'}: {PROMPT / 25:.0f} s of {row.id} and {(frames - PROMPT) / 25:.1f} s more, {end}")


def main():
    """Train, measure, speak."""
    parser = arguments(__doc__, depth=6, minutes=30)
    parser.add_argument("--layout", choices=("sp", "s"), default="sp", help="S and P of each frame in turn, or S alone")
    parser.add_argument("--continuations", type=int, default=4)
    args = parser.parse_args()
    tok = Tokenizer.from_pretrained(args.model)
    learnt, held = split(corpus.open(args.tokens), args.held_out)
    layout = lm.Layout(lm.Vocabulary(tok.info), lm.Interleaved() if args.layout == "sp" else lm.Semantic())
    args.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = build(layout, args.width, args.depth)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {layout}")
    train(model, layout, corpus.Sequences(learnt, layout, frames=200), args.output, args.minutes)
    report(model, layout, learnt, held)
    speak(model.eval(), layout, tok, held, args.output, args.continuations)


if __name__ == "__main__":
    main()
