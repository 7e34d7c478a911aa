"""What is wrong with decoded speech, in figures that name a cause, and in pictures.

usage: python scripts/diagnose.py MANIFEST -o FOLDER [--model MODEL ...] [--lyra FOLDER] [--limit 40]

For each model, Lyra at 3.2 kb/s and Opus at 6, over the clips of a manifest that `unitoken evaluate` reads:

- bands: mean of decoded less original log-mel spectrum in dB where there is speech (below 0: dull), and mean of its absolute value;
- onsets, steady, pauses: the absolute difference where the original grows by 6 dB in 20 ms, in other speech, and 40 dB below the loudest;
- movement: how much log-mel spectra change in 10 ms, over what the original's do (below 1: smeared);
- period: correlation of a band with itself one period later, voiced frames, less the original's (above 0: buzz, below 0: rush);
- vowels: absolute difference of log-mel spectra of 5 to 20 bands (150 Hz to 2 kHz) less their means, voiced frames;
- jumps: share of frames voiced in both whose F0 is 20 % off.

Prints the table, and writes spectrograms of the clip of each source whose difference is nearest to the median, FOLDER/SOURCE.jpg.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from unitoken import Tokenizer, load_audio
from unitoken.evaluate import Lyra, Opus, Original, TokenizerCodec
from unitoken.evaluate.manifest import read_manifest
from unitoken.evaluate.markdown import lay_out
from unitoken.evaluate.mel import mel_filters
from unitoken.evaluate.pitch import track_f0

RATE, HOP, N_FFT, BANDS, FLOOR = 16000, 160, 512, 80, 1e-4
EDGES = (0, 1000, 2000, 4000, 8000)


def log_mel(waveform):
    """Return log-mel magnitudes in dB of full scale, `(bands, frames)`, one frame every 10 ms."""
    window = torch.hann_window(N_FFT)
    spectrum = torch.stft(waveform, N_FFT, HOP, window=window / window.sum(), pad_mode="constant", return_complex=True).abs()
    filters = mel_filters(BANDS, N_FFT, RATE)
    return 20 * (filters / filters.sum(1, keepdim=True) @ spectrum).clamp_min(FLOOR).log10()


def band_of_mels():
    """Return which of the ranges of `EDGES` each mel band is in, by its loudest frequency."""
    centres = mel_filters(BANDS, N_FFT, RATE).argmax(1) * RATE / N_FFT
    return torch.bucketize(centres, torch.tensor(EDGES[1:-1], dtype=torch.float32), right=True)


def periodicity(waveform, f0, low, high):
    """Return the correlation of a band of each voiced frame (64 ms) with itself one period later, float `(frames,)`, NaN elsewhere."""
    spectrum = torch.fft.rfft(waveform)
    hertz = torch.linspace(0, RATE / 2, len(spectrum))
    band = torch.fft.irfft(spectrum * ((hertz >= low) & (hertz < high)), len(waveform))
    found = torch.full((len(f0),), torch.nan)
    for frame in torch.nonzero(f0 > 0).flatten().tolist():
        period, start = round(RATE / float(f0[frame])), max(0, frame * 256 - 384)
        one, two = band[start : start + 1024], band[start + period : start + period + 1024]
        if len(one) == len(two) == 1024:
            found[frame] = torch.nn.functional.cosine_similarity(one, two, dim=0)
    return found


class Clip:
    """An original, and what is measured against it."""

    def __init__(self, waveform):
        self.mel, self.f0 = log_mel(waveform), track_f0(waveform)
        level = self.mel.exp2().mean(0).log2()  # of the loud bands
        self.speech = level > level.max() - 40
        grows = torch.zeros_like(self.speech)
        grows[2:] = level[2:] - level[:-2] > 6
        self.onset = grows & self.speech
        self.voiced = torch.nn.functional.interpolate((self.f0 > 0).float()[None, None], len(level))[0, 0] > 0.5
        self.periods = [periodicity(waveform, self.f0, *band) for band in ((0, 2000), (2000, 4000))]

    def compare(self, waveform):
        """Return figures of a decoded clip, NaN where there is nothing to measure."""
        mel, f0, found = log_mel(waveform), track_f0(waveform), {}
        apart = mel - self.mel
        for band in range(len(EDGES) - 1):
            part = apart[band_of_mels() == band][:, self.speech]
            name = f"{EDGES[band] / 1000:g} to {EDGES[band + 1] / 1000:g} kHz"
            found |= {f"{name}, mean": part.mean(), f"{name}, absolute": part.abs().mean()}
        for name, frames in (("onsets", self.onset), ("steady", self.speech & ~self.onset), ("pauses", ~self.speech)):
            found[name] = apart[:, frames].abs().mean()
        moves, own = (spectra.diff(dim=1)[:, self.speech[1:]].abs().mean() for spectra in (mel, self.mel))
        found["movement"] = moves / own
        for name, (low, high), own in zip(("below 2 kHz", "2 to 4 kHz"), ((0, 2000), (2000, 4000)), self.periods, strict=True):
            found[f"period, {name}"] = (periodicity(waveform, self.f0, low, high) - own).nanmean()
        shape = apart[5:20][:, self.voiced]
        found["vowels"] = (shape - shape.mean(0)).abs().mean()
        both = (self.f0 > 0) & (f0 > 0)
        found["jumps"] = ((f0[both] / self.f0[both] - 1).abs() > 0.2).float().mean()
        return {name: float(value) for name, value in found.items()}


def picture(path, columns):
    """Write spectrograms, one above the other, with the F0 that is heard in each."""
    figure = Figure((9, 1.9 * len(columns)), layout="constrained")
    for axes, (name, waveform) in zip(figure.subplots(len(columns), 1, sharex=True), columns.items(), strict=True):
        window = torch.hann_window(400)
        spectrum = torch.stft(waveform, 1024, 80, 400, window / window.sum(), return_complex=True).abs().clamp_min(1e-5).log10().mul(20)
        seconds = len(waveform) / RATE
        axes.imshow(spectrum.numpy(), aspect="auto", origin="lower", extent=(0, seconds, 0, 8), vmin=-90, vmax=-30, cmap="magma")
        f0 = track_f0(waveform).numpy()
        axes.plot(np.arange(len(f0)) * 0.016, np.where(f0 > 0, f0 / 100, np.nan), color="cyan", linewidth=1)
        axes.set_ylabel(f"{name}\nkHz, F0 / 100 Hz", fontsize=7)
    figure.savefig(path, dpi=72, pil_kwargs={"quality": 60})


def main():
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", action="append", help="of unitoken; several times to compare; default: the packaged one")
    parser.add_argument("--lyra", help="folder of Lyra's networks (.tflite)")
    parser.add_argument("--limit", type=int, default=40, help="clips, evenly over the manifest")
    args = parser.parse_args()
    codecs = [Original()]
    for name in args.model or [None]:
        tok = Tokenizer.from_pretrained(name)
        codecs.append(TokenizerCodec(tok, name=tok.info.name))
    codecs += [*([Lyra(args.lyra)] if args.lyra else []), *([Opus(6)] if Opus.is_installed() else [])]
    found, kept = {codec.name: [] for codec in codecs[1:]}, {}
    for clip in read_manifest(args.manifest, limit=args.limit):
        waveform, _ = load_audio(clip.path, sample_rate=RATE)
        measured = Clip(waveform)
        decoded = {codec.name: codec.roundtrip(waveform, clip.name).waveform for codec in codecs}
        for name in found:
            found[name].append(measured.compare(decoded[name]))
        kept.setdefault(clip.source, []).append((found[codecs[1].name][-1]["steady"], clip.name, {n: w[: 4 * RATE] for n, w in decoded.items()}))
    figures = {name: {key: np.nanmean([row[key] for row in rows]) for key in rows[0]} for name, rows in found.items()}
    keys = next(iter(figures.values()))
    print(
        lay_out([["", *figures], *([key, *(f"{row[key]:.2f}" if key != "jumps" else f"{row[key]:.3f}" for row in figures.values())] for key in keys)])
    )
    args.output.mkdir(parents=True, exist_ok=True)
    for source, clips in kept.items():
        _, name, decoded = sorted(clips, key=lambda entry: entry[0])[len(clips) // 2]
        picture(args.output / f"{source}.jpg", decoded)
        print(f"{source}.jpg: {name}")


if __name__ == "__main__":
    main()
