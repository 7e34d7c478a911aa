"""Measures of the streams that `unitoken evaluate` does not print yet.

usage: python scripts/measure.py codebooks TRAIN.tsv TAR... [--hours 5]        how many S and P codewords speech of the pool uses
       python scripts/measure.py swap MANIFEST --speakers GE2E [--pairs 50]   is a clip with another clip's G nearer to that one's voice?
       python scripts/measure.py pitch MANIFEST [--pairs 50]                  does the height of the voice follow G?
       python scripts/measure.py melody MANIFEST [--clips 30]                 how far is the decoder's F0 from the true one, and what does it cost?
       python scripts/measure.py codewords PHONES.tsv TAR... -o OUT.npz       S codewords of labelled clips, for a phone and speaker probe
Each takes --model (default: the packaged one) and --threads.
"""

import argparse
import csv
import io
import tarfile
from pathlib import Path

import numpy as np
import torch
from swift_f0 import SwiftF0

from unitoken import Tokenizer, load_audio
from unitoken.evaluate.manifest import read_manifest
from unitoken.evaluate.signal import pesq_wb, stoi
from unitoken.evaluate.speakers import SpeakerEmbedder
from unitoken.evaluate.swap import measure_pitch_swaps, measure_swaps, pitch_slope, voice_pairs
from unitoken.evaluate.usage import CodebookCounter
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


def swap(args, tok):
    pairs = voice_pairs(read_manifest(args.manifest), args.pairs, seed=args.seed)
    swaps = measure_swaps(tok, pairs, SpeakerEmbedder(args.speakers))
    for name, part in (
        ("all", swaps),
        ("across sex", [s for s in swaps if s.pair.across_sex]),
        ("within", [s for s in swaps if not s.pair.across_sex]),
    ):
        gain = np.mean([s.to_target - s.to_source for s in part])
        near = sum(s.nearer_to_target for s in part)
        print(f"{name}: {near} of {len(part)} nearer to the target; cosine to target minus to source {gain:+.3f}")


def pitch(args, tok):
    medians = measure_pitch_swaps(tok, voice_pairs(read_manifest(args.manifest), args.pairs, seed=args.seed))
    slope, correlation = pitch_slope(medians)
    print(f"median F0 of {args.pairs} conversions over the source's: {slope:.2f} of the way to the target's, correlation {correlation:.2f}")


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


def codewords(args, tok):
    names = {line.split("\t")[0] for line in args.phones.read_text(encoding="utf-8").splitlines()[1:]}
    book = tok.codewords("s")[0]
    found = {name: book[tok.encode(wave, sample_rate=16000).s].half().numpy() for name, wave in recordings(args.archives, names)}
    np.savez(args.output, **found)
    print(f"{len(found)} of {len(names)} labelled clips: {args.output}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for run in (codebooks, swap, pitch, melody, codewords):
        command = commands.add_parser(run.__name__)
        command.set_defaults(run=run)
        command.add_argument("--model")
        command.add_argument("--threads", type=int, default=1)
        if run in (swap, pitch):
            command.add_argument("manifest", type=Path)
            if run is swap:
                command.add_argument("--speakers", type=Path, required=True)
            command.add_argument("--pairs", type=int, default=50)
            command.add_argument("--seed", type=int, default=0)
            continue
        if run is melody:
            command.add_argument("manifest", type=Path)
            command.add_argument("--clips", type=int, default=30)
            continue
        command.add_argument("manifest" if run is codebooks else "phones", type=Path)
        command.add_argument("archives", type=Path, nargs="+")
        if run is codebooks:
            command.add_argument("--hours", type=float, default=5.0, help="of clips drawn at random from the manifest")
            command.add_argument("--seed", type=int, default=0)
        else:
            command.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)  # noqa: TID251  (a program, not the library)
    args.run(args, Tokenizer.from_pretrained(args.model))


if __name__ == "__main__":
    main()
