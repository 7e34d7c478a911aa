"""Unit to unit: tokens of noisy speech become those that the same speech has without the noise.

usage: python examples/lm/clean_tokens.py TOKENS --held-out SPEAKERS.tsv -o RUN --audio TRAIN.tar... --noise NOISE.tar [--hours 6] [--minutes 20]
           [--asr WHISPER]

TOKENS is a folder that `unitoken corpus encode` wrote, with the columns source, speaker, language and transcript, of the recordings in TRAIN.tar.
Noise of 0 to 10 dB is added to some hours of them, once, and they are encoded again; a transformer that sees a whole utterance learns to tell S and P
of the clean one, frame by frame. Speakers of SPEAKERS.tsv and a fifth of the noises are held out. Decodes their clips from the tokens of noisy
speech, cleaned or not, and from the clean ones, prints what they share with the clean ones, and writes the first three as WAV files into RUN.
"""

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformer import arguments, both_ways, descend, recordings, see, split, standard

from unitoken import Tokenizer, corpus, save_audio
from unitoken.evaluate.signal import mel_distance
from unitoken.evaluate.words import count_errors, load_whisper, pool_errors
from unitoken.train.noise import NoiseBank

BATCH, FRAMES = 24, 100  # utterances in a step, and the most frames of each


class Cleaner(nn.Module):
    """A transformer over codewords of S and P, both ways in time; it tells tokens by what is nearest to their codewords."""

    def __init__(self, tables, width, depth):
        super().__init__()
        tables = [standard(table) for table in tables]
        self.tables = nn.ModuleList(nn.Embedding.from_pretrained(table) for table in tables)
        self.stem = nn.Linear(sum(table.shape[1] for table in tables), width)
        self.body = both_ways(width, depth)
        self.heads = nn.ModuleList(nn.Linear(width, table.shape[1]) for table in tables)
        self.frequencies = nn.ParameterList(torch.zeros(len(table)) for table in tables)

    def forward(self, tokens, lengths):
        """Return logits `(batch, frames, codewords)` of each stream for tokens `(batch, frames, streams)`."""
        x = self.stem(torch.cat([table(tokens[..., at]) for at, table in enumerate(self.tables)], -1))
        x = see(self.body, x, lengths)
        return [head(x) @ table.weight.T + often for head, table, often in zip(self.heads, self.tables, self.frequencies, strict=True)]


def streams_of(bundle):
    """Return S and P as `(frames, 2)`."""
    return torch.stack([bundle.s, bundle.p], 1)


def in_noise(wave, noises, generator):
    """Return a waveform with noise from a random place on, 0 to 10 dB below it."""
    place, level = torch.rand(2, generator=generator).tolist()
    noise = noises[int(place * (len(noises) - len(wave))) :][: len(wave)]
    return wave + noise * 10 ** (-level / 2) * (wave.square().sum() / (noise.square().sum() + 1e-9)).sqrt()


def degraded(tok, rows, waves, noises):
    """Return the bundle of each row with noise."""
    generator = torch.Generator().manual_seed(0)
    loud = [in_noise(waves[row.id], noises, generator) for row in rows]
    return [bundle for start in range(0, len(loud), 200) for bundle in tok.encode(loud[start : start + 200], sample_rate=tok.sample_rate)]


def pairs_to_learn(tok, rows, waves, noises, path):
    """Return tokens in noise and clean ones, `(frames, 2)` each; those in noise are kept in a file."""
    if not path.exists():
        heard = [streams_of(bundle) for bundle in degraded(tok, rows, waves, noises)]
        save_file({str(number): tokens.short() for number, tokens in enumerate(heard)}, path)
    kept = load_file(path)
    return [(kept[str(number)].long(), streams_of(row.bundle)) for number, row in enumerate(rows)]


def piece(noisy, clean):
    """Return the same frames of both, from a random one on."""
    start = int(torch.randint(max(1, len(noisy) - FRAMES + 1), ()))
    return noisy[start : start + FRAMES], clean[start : start + FRAMES]


def learn(net, pairs, minutes):
    """Train for some minutes."""

    def loss_of(noisy, clean):
        noisy, clean = zip(*map(piece, noisy, clean), strict=True)
        told = net(pad_sequence(noisy, batch_first=True), torch.tensor([len(tokens) for tokens in noisy]))
        wanted = pad_sequence(clean, batch_first=True, padding_value=-100)
        return sum(F.cross_entropy(logits.transpose(1, 2), wanted[..., at]) for at, logits in enumerate(told))

    descend(net, pairs, loss_of, minutes, batch=BATCH, rate=1e-3, warmup=100, every=50, betas=(0.9, 0.98), weight_decay=0.05)


@torch.no_grad()
def cleaned(net, bundle):
    """Return a bundle with the likeliest clean tokens, and its own G."""
    s, p = (logits[0].argmax(-1) for logits in net(streams_of(bundle)[None], torch.tensor([len(bundle.s)])))
    return bundle.replace(s=s, p=p)


def main():
    """Encode with noise, train, compare."""
    parser = arguments(__doc__, depth=6, minutes=20)
    parser.add_argument("--audio", nargs="+", required=True, help="tar files with the recordings")
    parser.add_argument("--noise", required=True, help="tar of recordings of noise")
    parser.add_argument("--hours", type=float, default=6, help="of speech to learn from")
    parser.add_argument("--clips", type=int, default=80, help="of held-out speakers, to be measured")
    parser.add_argument("--asr", help="Whisper model in CTranslate2's format")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    tok, noises = Tokenizer.from_pretrained(args.model), NoiseBank(args.noise).noises
    learnt, held = split(corpus.open(args.tokens), args.held_out)
    learnt = learnt.select(range(0, len(learnt), max(1, round(learnt.seconds / 3600 / args.hours))))
    held = [row for row in held if row["language"] in ("en", "de") and row["transcript"] and row["transcript"][0] != "["]
    held = held[:: max(1, len(held) // args.clips)][: args.clips]
    waves = recordings(args.audio, {row.id for row in (*learnt, *held)})
    fifth = len(noises) // 5
    pairs = pairs_to_learn(tok, learnt, waves, noises[fifth:], args.output / "noisy.safetensors")
    torch.manual_seed(0)
    net = Cleaner([tok.codewords(name)[0] for name in "sp"], args.width, args.depth)
    print(f"{len(learnt)} clips learnt, {learnt.seconds / 3600:.2f} h; {len(held)} of other speakers held out", flush=True)
    learn(net, pairs, args.minutes)
    measure(net.eval(), tok, held, degraded(tok, held, waves, noises[:fifth]), args)


def measure(net, tok, held, noisy, args):
    """Print what tokens and decoded speech share with those of the clean recordings."""
    asr = load_whisper(args.asr) if args.asr else None
    same, errors, mels = {}, {}, {}
    for index, (row, heard) in enumerate(zip(held, noisy, strict=True)):
        wanted, clean = tok.decode(row.bundle), streams_of(row.bundle)
        for name, bundle in {"in noise": heard, "in noise, cleaned": cleaned(net, heard), "clean": row.bundle}.items():
            wave = tok.decode(bundle)
            same.setdefault(name, []).append((streams_of(bundle) == clean).float())
            mels.setdefault(name, []).append(mel_distance(wanted, wave))
            if asr:
                errors.setdefault(name, []).append(count_errors(row["transcript"], asr.transcribe(wave, row["language"]), "word"))
            if index < 3:
                save_audio(args.output / f"{index} {name}.wav", wave, tok.sample_rate)
    print("\n| tokens | S as without noise | P as without noise | mel dB | WER |\n|---|---:|---:|---:|---:|")
    for name, shares in same.items():
        s, p = torch.cat(shares).mean(0).tolist()
        print(f"| {name} | {s:.3f} | {p:.3f} | {sum(mels[name]) / len(mels[name]):.2f} | {f'{pool_errors(errors[name]):.3f}' if asr else '-'} |")


if __name__ == "__main__":
    main()
