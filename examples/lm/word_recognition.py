"""Which words are in which stream: small recognisers of spoken commands that hear nothing but tokens.

usage: python examples/lm/word_recognition.py TOKENS --held-out SPEAKERS.tsv [--source arabic-sc] [--minutes 4]

TOKENS is a folder that `unitoken corpus encode` wrote, with the columns source, speaker and transcript; transcripts such as `[words: stop no]`
name the words of a clip in order. For S, for P and for both a recurrent network learns from frozen codewords to write the words down
(connectionist temporal classification), each for so many minutes, and is tested on the held-out speakers.
"""

import argparse

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from transformer import descend, split, standard

from unitoken import Tokenizer, corpus
from unitoken.evaluate.words import count_errors, pool_errors

BATCH, PREFIX = 32, "[words: "


class Recogniser(nn.Module):
    """A convolution over five frames, two layers of recurrence both ways, and a word, or none, for each frame."""

    def __init__(self, tables, words, width=128):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding.from_pretrained(standard(table)) for table in tables)
        self.stem = nn.Conv1d(sum(table.shape[1] for table in tables), width, 5, padding=2)
        self.drop = nn.Dropout(0.2)
        self.rnn = nn.GRU(width, width, 2, batch_first=True, bidirectional=True, dropout=0.2)
        self.out = nn.Linear(2 * width, 1 + words)

    def forward(self, tokens, lengths):
        """Return log-probabilities `(frames, batch, 1 + words)` of tokens `(batch, frames, streams)`."""
        x = torch.cat([table(tokens[..., at]) for at, table in enumerate(self.tables)], -1)
        x = self.drop(F.gelu(self.stem(x.transpose(1, 2)).transpose(1, 2)))
        x, _ = pad_packed_sequence(self.rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))[0], batch_first=True)
        return self.out(self.drop(x)).log_softmax(-1).transpose(0, 1)


def clips_of(rows, streams, numbers):
    """Return tokens `(frames, streams)` and words `(words,)` of each utterance."""
    stacked = ([torch.stack([getattr(row.bundle, name) for name in streams], 1), row["transcript"]] for row in rows)
    return [(tokens, torch.tensor([numbers[word] for word in said[len(PREFIX) : -1].split()])) for tokens, said in stacked]


def learn(net, clips, minutes):
    """Train for some minutes."""

    def loss_of(tokens, words):
        lengths, sizes = (torch.tensor([len(one) for one in some]) for some in (tokens, words))
        return F.ctc_loss(net(pad_sequence(tokens, batch_first=True), lengths), torch.cat(words), lengths, sizes, zero_infinity=True)

    descend(net, clips, loss_of, minutes, batch=BATCH, rate=2e-3)


def heard(net, tokens):
    """Return the words that are heard, by their numbers: the likeliest of each frame, repetitions and gaps left out."""
    best = torch.unique_consecutive(net(tokens[None], torch.tensor([len(tokens)]))[:, 0].argmax(-1))
    return " ".join(f"w{number}" for number in best.tolist() if number)


def main():
    """Train and test a recogniser for each choice of streams."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens")
    parser.add_argument("--held-out", required=True)
    parser.add_argument("--source", default="arabic-sc")
    parser.add_argument("--minutes", type=float, default=4, help="of training, for each choice of streams")
    parser.add_argument("--model", help="of the tokens; default: the packaged one")
    args = parser.parse_args()
    tok, tokens = Tokenizer.from_pretrained(args.model), corpus.open(args.tokens)
    pairs = zip(tokens.column("source").to_pylist(), tokens.column("transcript").to_pylist(), strict=True)
    rows = tokens.select([number for number, (source, said) in enumerate(pairs) if source == args.source and said.startswith(PREFIX)])
    words = sorted({word for said in rows.column("transcript").to_pylist() for word in said[len(PREFIX) : -1].split()})
    numbers = {word: number for number, word in enumerate(words, 1)}  # 0 is none
    learnt, held = split(rows, args.held_out)
    print(f"{len(words)} words; {len(learnt)} clips learnt, {learnt.seconds / 3600:.2f} h, {len(held)} of other speakers held out\n")
    print("| heard | words wrong, held-out speakers | speakers learnt |\n|---|---:|---:|")
    for streams in ("s", "p", "sp"):
        torch.manual_seed(0)
        net = Recogniser([tok.codewords(name)[0] for name in streams], len(words))
        clips, others = (clips_of(part, streams, numbers) for part in (learnt, held))
        learn(net.train(), clips, args.minutes)
        net.eval()
        with torch.no_grad():
            rates = [
                pool_errors([count_errors(" ".join(f"w{n}" for n in said.tolist()), heard(net, one), "word") for one, said in some])
                for some in (others, clips[:: max(1, len(clips) // 200)])
            ]
        print(f"| {' and '.join(streams.upper())} | {rates[0]:.3f} | {rates[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
