"""Text to speech without a causal model: phones, stretched over the frames they last, and S and P told all at once where they are masked.

A transformer that sees the whole utterance, its phones and G of the voice, tells S and then P in a few rounds: what it is surest of stays, the rest
is told again from that (MaskGIT, arXiv 2202.04200; for speech SoundStorm, 2305.09636), more as the text wants it than as without text
(classifier-free guidance, 2207.12598). How long phones last is learnt from where they are found in S.

usage: python examples/lm/masked_speech.py TOKENS --held-out SPEAKERS.tsv -o RUN --audio TRAIN.tar... --phones PHONES.tsv [--minutes 60]
           [--asr WHISPER] [--speakers GE2E.safetensors] [--voices rhasspy-kathleen rhasspy-kerstin]

Arguments, what is held out, and what is printed: as in `text_to_speech.py`. Trains once; where RUN/net.safetensors is, it only speaks and measures.
"""

import math

import torch
from safetensors.torch import load_file, save_file
from text_to_speech import Phones, data_of, measure, options
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformer import both_ways, descend, see, standard

from unitoken import TokenBundle, Tokenizer

BATCH, FRAMES = 28, 72  # utterances in a step, and the most frames of each
ROUNDS = 12, 6  # for S, for P
UNTOLD, GUIDE = 0.1, 1.0  # share of utterances learnt without text and voice; how far logits go beyond those of without


class Mixing(nn.Module):
    """A convolution over five phones, added."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.conv, self.out = nn.LayerNorm(width), nn.Conv1d(width, width, 5, padding=2), nn.Linear(width, width)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        """Return `(batch, phones, width)`."""
        return x + self.drop(self.out(F.gelu(self.conv(self.norm(x).transpose(1, 2)).transpose(1, 2))))


class Filler(nn.Module):
    """How long phones last, and which tokens of S and P there are where they are masked; a mask is a token more than the codebook has."""

    def __init__(self, phones, tables, voices, width, depth):
        super().__init__()
        tables = [standard(table) for table in tables]
        self.masks = [len(table) for table in tables]
        self.tables = nn.ModuleList(nn.Embedding.from_pretrained(F.pad(table, (0, 0, 0, 1))) for table in tables)
        self.voices = nn.ModuleList(nn.Embedding.from_pretrained(standard(table)) for table in voices)
        self.voice = nn.Linear(sum(table.shape[1] for table in voices), width)
        self.phones = nn.Embedding(phones + 1, width, padding_idx=phones)
        self.mixing = nn.Sequential(*(Mixing(width) for _ in range(3)))
        self.lasting = nn.Linear(width, 1)
        self.stem = nn.Linear(sum(table.shape[1] + 1 for table in tables) + 3, width)
        self.body = both_ways(width, depth, attention_dropout=0.1)
        self.heads = nn.ModuleList(nn.Linear(width, table.shape[1]) for table in tables)
        self.frequencies = nn.ParameterList(torch.zeros(len(table)) for table in tables)

    def read(self, phones, g):
        """Return what is known of each phone `(batch, phones, width)`, and the logarithm of the frames that it lasts `(batch, phones)`."""
        voice = self.voice(torch.cat([table(g[:, at]) for at, table in enumerate(self.voices)], -1))
        known = self.mixing(self.phones(phones) + voice[:, None])
        return known, self.lasting(known)[..., 0]

    def forward(self, known, places, tokens, lengths, stream):
        """Return logits `(batch, frames, codewords)` of a stream.

        `known` is that of each frame's phone, `places` is where in it the frame is, `tokens` are S and P, `(batch, frames, 2)`.
        """
        masked = tokens == torch.tensor(self.masks)
        told = [torch.cat([table(tokens[..., at]), masked[..., at : at + 1]], -1) for at, table in enumerate(self.tables)]
        x = known + self.stem(torch.cat([*told, places], -1))
        x = self.heads[stream](see(self.body, x, lengths))
        return x @ self.tables[stream].weight[:-1].T / x.shape[-1] ** 0.5 + self.frequencies[stream]


def stretched(frames):
    """Return the phone of each frame `(frames,)`, and where in it the frame is: from its beginning, its end, and of its length, `(frames, 3)`."""
    phone = torch.repeat_interleave(torch.arange(len(frames)), frames)
    after, long = torch.arange(len(phone)) - (frames.cumsum(0) - frames)[phone], frames[phone]
    return phone, torch.stack([(after + 0.5) / long, (after + 1.0).log(), (long - after).log()], 1)


def piece(known, frames, tokens):
    """Return the same frames of all, from a random one on."""
    phone, places = stretched(frames)
    start = int(torch.randint(max(1, len(phone) - FRAMES + 1), ()))
    here = slice(start, start + FRAMES)
    return known[phone[here]], places[here], tokens[here]


def learn(net, utterances, minutes):
    """Train for some minutes on phones, frames of each, S and P, and G."""

    def loss_of(phones, frames, tokens, g):
        known, lasting = net.read(pad_sequence(phones, batch_first=True, padding_value=net.phones.padding_idx), torch.stack(g))
        wanted = pad_sequence(frames, batch_first=True)
        known = known * (torch.rand(len(known), 1, 1) > UNTOLD)
        loss = (lasting[wanted > 0] - wanted[wanted > 0].log()).abs().mean()
        pieces = list(zip(*(piece(*one) for one in zip(known, frames, tokens, strict=True)), strict=True))
        lengths = torch.tensor([len(some) for some in pieces[0]])
        known, places, tokens = (pad_sequence(some, batch_first=True) for some in pieces)
        inside = torch.arange(tokens.shape[1]) < lengths[:, None]
        part = len(tokens) * 5 // 8  # learn to tell S, without P; the others P from all of S
        for stream, rows in enumerate((slice(0, part), slice(part, None))):
            if not len(tokens[rows]):
                continue
            share = torch.cos(math.pi / 2 * torch.rand(len(tokens[rows]), 1))
            hidden = (torch.rand(tokens[rows].shape[:2]) < share) & inside[rows]
            given, unseen = tokens[rows].clone(), hidden if stream else torch.ones_like(hidden)
            given[..., stream][hidden], given[..., 1][unseen] = net.masks[stream], net.masks[1]
            logits, wanted = net(known[rows], places[rows], given, lengths[rows], stream)[hidden], tokens[rows][..., stream][hidden]
            loss = loss + F.cross_entropy(logits, wanted, reduction="sum") / max(1, len(wanted)) / (1 + stream)
        return loss

    descend(net, utterances, loss_of, minutes, batch=BATCH, rate=1e-3, warmup=100, every=50, betas=(0.9, 0.98), weight_decay=0.05)


@torch.no_grad()
def tokens_of(net, phones, g):
    """Return S and P `(frames, 2)` of phones in the voice of G."""
    known, lasting = net.read(phones[None], g[None])
    phone, places = stretched(lasting[0].exp().round().clamp_min(1).long())
    known = torch.cat([known[:, phone], torch.zeros_like(known[:, phone])])
    tokens, lengths = torch.tensor(net.masks).repeat(len(phone), 1), torch.tensor([len(phone)] * 2)
    for stream, rounds in enumerate(ROUNDS):
        for turn in range(1, rounds + 1):
            told, untold = net(known, places.expand(2, -1, -1), tokens.expand(2, -1, -1), lengths, stream)
            likely, choice = (told + GUIDE * (told - untold)).log_softmax(-1).max(-1)
            stays = tokens[:, stream] != net.masks[stream]
            count = math.ceil(len(phone) * (1 - math.cos(math.pi / 2 * turn / rounds)))
            surest = torch.where(stays, math.inf, likely).argsort(descending=True)[:count]
            tokens[surest, stream] = torch.where(stays, tokens[:, stream], choice)[surest]
    return tokens


def main():
    """Train, speak, measure."""
    parser = options(__doc__)
    args = parser.parse_args()
    if not args.phones:
        parser.error("--phones is needed: the table that phones.py writes")
    tok, text = Tokenizer.from_pretrained(args.model), Phones(args.phones)
    learnt, frames, pairs = data_of(args, tok, text)
    torch.manual_seed(0)
    net = Filler(text.size, [tok.codewords(name)[0] for name in "sp"], list(tok.codewords("g")), args.width, args.depth)
    print(f"{sum(p.numel() for p in net.parameters() if p.requires_grad) / 1e6:.1f} M parameters that learn", flush=True)

    def phones_of(row):
        return torch.tensor([text.numbers[phone] for (phone,) in text.pieces(row)])

    path = args.output / "net.safetensors"
    if not path.exists():
        known = [(phones_of(row), torch.tensor(frames[row.id]), torch.stack([row.bundle.s, row.bundle.p], 1), row.bundle.g) for row in learnt]
        learn(net, known, args.minutes)
        save_file(net.state_dict(), path)
    net.load_state_dict(load_file(path))
    net.eval()

    def say(row, g, number):
        tokens = tokens_of(net, phones_of(row), g)
        return tok.decode(TokenBundle(tokens[:, 0], tokens[:, 1], g, len(tokens) * tok.hop, tok.info)), True

    measure(say, tok, pairs, args)


if __name__ == "__main__":
    main()
