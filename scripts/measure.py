"""Measures that neither `unitoken evaluate` nor `unitoken probe` prints.

usage: python scripts/measure.py codebooks TRAIN.tsv TAR... [--hours 5]        how many S and P codewords speech of the pool uses
       python scripts/measure.py melody MANIFEST [--clips 30]                 how far is the decoder's F0 from the true one, and what does it cost?
       python scripts/measure.py windows MANIFEST [--clips 30]                what is left of speech whose bands are heard through longer windows
       python scripts/measure.py texture MANIFEST [--clips 30]                level and roughness of the decoded spectrum, band by band
       python scripts/measure.py unquantized MANIFEST [--clips 30] [--asr M]  what S's and P's codebooks cost: latents in the place of codewords
       python scripts/measure.py levels MANIFEST [--clips 30]                 what quiet recordings cost, and which stream is to blame
Each takes --model (default: the packaged one) and --threads.
"""

import argparse
import csv
import io
import itertools
import tarfile
from pathlib import Path

import numpy as np
import torch
from swift_f0 import SwiftF0

from unitoken import Tokenizer, load_audio
from unitoken.evaluate import Roundtrip, TokenizerCodec, evaluate
from unitoken.evaluate.changes import peak
from unitoken.evaluate.manifest import read_manifest
from unitoken.evaluate.signal import pesq_wb, stoi
from unitoken.evaluate.usage import CodebookCounter
from unitoken.nn.spectral import mel_filters
from unitoken.train.pitch import track_log_f0


def recordings(archives, names):
    """Yield (name, waveform at 16 kHz) of the members that are asked for."""
    for archive in archives:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.name in names and (file := tar.extractfile(member)) is not None:
                    yield member.name, load_audio(io.BytesIO(file.read()), sample_rate=16000)[0]


def codebooks(args, tok):
    with args.manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    chosen, seconds = set(), 0.0
    for index in np.random.default_rng(args.seed).permutation(len(rows)):
        chosen.add(rows[index]["path"])
        seconds += float(rows[index]["seconds"])
        if seconds >= args.hours * 3600:
            break
    config, seconds = tok.config, 0.0
    counters = {n: CodebookCounter(q.num_codebooks, q.codebook_size) for n, q in (("s", config.semantic.quantizer), ("p", config.residual.quantizer))}
    for _, wave in recordings(args.archives, chosen):
        bundle = tok.encode(wave, sample_rate=16000)
        for name, counter in counters.items():
            counter.add(getattr(bundle, name))
        seconds += bundle.seconds
    for name, counter in counters.items():
        usage = counter.usage()
        print(
            f"{name}: {usage.used / usage.codebook_size:.2%} of {usage.codebook_size} used in {seconds / 3600:.2f} h, perplexity {usage.fraction:.3f}"
        )


def melody(args, tok):
    rows, tracker = read_manifest(args.manifest), SwiftF0(threads=1)
    errors, scores = [], {"its own F0": [], "the true F0": []}
    for row in rows[:: max(1, len(rows) // args.clips)][: args.clips]:
        wave = load_audio(row.path, sample_rate=16000)[0][: 6 * 16000]  # one window of the decoder
        true = torch.from_numpy(track_log_f0(wave.numpy(), tracker)).float()
        bundle, known = tok.encode(wave, sample_rate=16000), torch.isfinite(true)

        def given(module, inputs, outputs, known=known, true=true):
            """Note the error; put the true F0 in the place of the decoder's own."""
            (log_f0, voice), at = outputs, inputs[2][0, :, 0].nonzero()[:, 0]
            errors.append((log_f0[0, at] - true)[known & (voice[0, at] > 0)].abs())
            log_f0[0, at] = torch.where(known, true, log_f0[0, at])
            return log_f0, voice

        for name in scores:
            hook = tok._codec.decoder.pitch.register_forward_hook(given) if name == "the true F0" else None
            decoded = tok.decode(bundle)
            scores[name].append([stoi(wave, decoded), pesq_wb(wave, decoded)])
            if hook is not None:
                hook.remove()
    error = torch.cat(errors)
    print(f"F0 of {len(errors)} clips is off by {error.median():.2%} in the median, {error.mean():.2%} in the mean, where both have voice")
    for name, values in scores.items():
        print("with {}: STOI {:.3f}, PESQ-WB {:.2f}".format(name, *np.nanmean(np.array(values, dtype=float), 0)))


def windows(args, _):
    """Noise with the loudness of 64 mel bands, taken and given back in Hann windows: how fast a decoder with such windows can be."""
    rows = read_manifest(args.manifest)
    rows = rows[:: max(1, len(rows) // args.clips)][: args.clips]
    for size, hop in ((1280, 320), (1024, 256), (640, 160), (320, 80)):
        window, bands = torch.hann_window(size), mel_filters(64, size // 2 + 1, 16000)
        bands = bands / bands.sum(0).clamp_min(1e-9)
        spread = (bands / bands.sum(1, keepdim=True).clamp_min(1e-9)).T
        scores = []
        for row in rows:
            wave = load_audio(row.path, sample_rate=16000)[0]
            noise = torch.randn(len(wave), generator=torch.Generator().manual_seed(0))
            clean, carrier = (torch.stft(each, size, hop, window=window, return_complex=True) for each in (wave, noise))
            gain = torch.sqrt((clean.abs().square().T @ bands @ spread) / carrier.abs().square().mean()).T
            made = torch.istft(carrier * gain, size, hop, window=window, length=len(wave))
            scores.append([stoi(wave, made), stoi(wave, made, extended=True)])
        print("windows of {} ms every {} ms: STOI {:.3f}, ESTOI {:.3f}".format(size // 16, hop // 16, *np.nanmean(np.array(scores, dtype=float), 0)))


BANDS = (0, 300, 1000, 2000, 3000, 4000, 5500, 7000, 8000)


def texture(args, tok):
    """Over the frames within 30 dB of the loudest: the level of what is decoded, and how much a band's bins differ, beside the original's."""
    rows, found = read_manifest(args.manifest), []
    hertz = torch.arange(257) * 31.25
    for row in rows[:: max(1, len(rows) // args.clips)][: args.clips]:
        wave = load_audio(row.path, sample_rate=16000)[0]
        spectra = [
            torch.stft(each, 512, 160, window=torch.hann_window(512), return_complex=True).abs().square().T + 1e-7
            for each in (wave, tok.decode(tok.encode(wave, sample_rate=16000)))
        ]
        level = spectra[0].sum(1).log10()
        clean, made = (spectrum[level > level.max() - 3] for spectrum in spectra)
        for low, high in itertools.pairwise(BANDS):
            inside = (hertz >= low) & (hertz < high)
            rough = [(10 * each[:, inside].log10()).std(1).mean() for each in (clean, made)]
            found.append([10 * torch.log10(made[:, inside].mean() / clean[:, inside].mean()), *rough])
    print("| Hz | level dB | roughness dB | of the original |\n|---|---:|---:|---:|")
    for (low, high), (level, clean, made) in zip(
        itertools.pairwise(BANDS), torch.tensor(found).view(-1, len(BANDS) - 1, 3).mean(0).tolist(), strict=True
    ):
        print(f"| {low} to {high} | {level:.1f} | {made:.1f} | {clean:.1f} |")


class Unquantized(TokenizerCodec):
    """Decodes the latents of some streams in the place of their codewords, by codebooks that hold the clip's own latents."""

    def __init__(self, tok, streams):
        super().__init__(tok, name=f"{' and '.join(streams.upper())} not quantized")
        self.books = {stream: getattr(tok._codec, f"quantizer_{stream}").codebook for stream in streams}

    def roundtrip(self, waveform, clip=""):
        bundle = self.tokenizer.encode(waveform, sample_rate=16000, latents=True)
        kept = {stream: book.clone() for stream, book in self.books.items()}
        for stream, book in self.books.items():
            book[: len(bundle.s)] = bundle.latents[stream]
        decoded = self.tokenizer.decode(bundle.replace(**dict.fromkeys(self.books, torch.arange(len(bundle.s)))))
        for stream, book in kept.items():
            self.books[stream].copy_(book)
        return Roundtrip(decoded, None, None, 0.0, 0.0)


def unquantized(args, tok):
    """Signal and words, decoded from codewords and from latents."""
    codecs = [TokenizerCodec(tok), *(Unquantized(tok, streams) for streams in ("s", "p", "sp"))]
    metrics = ["signal", "pitch", *(["words"] if args.asr else [])]
    print(evaluate(args.manifest, codecs, metrics=metrics, asr=args.asr, limit=args.clips).markdown())


LOUD, QUIET = -6, (-20, -30, -40)


def levels(args, tok):
    """STOI of quiet recordings (peaks in dBFS), and with some streams of the same recording made loud."""
    rows, found = read_manifest(args.manifest), {}
    for row in rows[:: max(1, len(rows) // args.clips)][: args.clips]:
        wave = load_audio(row.path, sample_rate=16000)[0]
        loud, *others = (tok.encode(peak(level).apply(wave, torch.Generator()), sample_rate=16000) for level in (LOUD, *QUIET))
        for level, quiet in zip(QUIET, others, strict=True):
            for streams in ("", "s", "p", "g", "pg", "spg"):
                mixed = quiet.replace(**{stream: getattr(loud, stream) for stream in streams})
                found.setdefault((level, streams), []).append(stoi(wave, tok.decode(mixed)))
    names = ["as it is", *(f"{streams.upper()} of {LOUD} dBFS" for _, streams in list(found)[1:6])]
    print(f"| peak | {' | '.join(names)} |\n|---|{'---:|' * len(names)}")
    for level in QUIET:
        means = [np.nanmean(np.array(values, dtype=float)) for (at, _), values in found.items() if at == level]
        print(f"| {level} dBFS | {' | '.join(f'{mean:.3f}' for mean in means)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for run in (codebooks, melody, windows, texture, unquantized, levels):
        command = commands.add_parser(run.__name__)
        command.set_defaults(run=run)
        command.add_argument("--model")
        command.add_argument("--threads", type=int, default=1)
        command.add_argument("manifest", type=Path)
        if run is not codebooks:
            command.add_argument("--clips", type=int, default=30)
            if run is unquantized:
                command.add_argument("--asr", help="Whisper model in CTranslate2's format, for words")
            continue
        command.add_argument("archives", type=Path, nargs="+")
        command.add_argument("--hours", type=float, default=5.0, help="of clips drawn at random from the manifest")
        command.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)  # noqa: TID251  (a program, not the library)
    args.run(args, Tokenizer.from_pretrained(args.model))


if __name__ == "__main__":
    main()
