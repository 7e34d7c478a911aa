"""Do tokens depend on anything but the audio? Every way of computing them is compared with each clip alone on one thread, token by token.

usage: python scripts/exactness.py TAR... [--tokens 1000000] [--model NAME]

Prints how many tokens of S, P and G differ, with and without the frames near a border computed again, and how far float32 latents are from
float64's, as a share of the bound that decides on them.
"""

import argparse
import io
import random
import tarfile
from contextlib import contextmanager
from pathlib import Path

import torch

from unitoken import Tokenizer, load_audio
from unitoken.model import windows
from unitoken.model.encoding import ClipEncoder

STREAMS = ("s", "p", "g")
GROUP = 24
"""Clips that are encoded in one call."""
NEVER, ALWAYS = -1.0, 1e9


@contextmanager
def computed(threads, together):
    """Compute on some threads, and so many windows at once."""
    before = windows.batch_size, torch.get_num_threads()
    windows.batch_size = lambda device: together
    torch.set_num_threads(threads)  # noqa: TID251  (a program, not the library)
    try:
        yield
    finally:
        windows.batch_size = before[0]
        torch.set_num_threads(before[1])  # noqa: TID251


WAYS = {  # threads, windows computed at once, whether clips come together, in another order
    "alone, 2 threads": (2, 1, False),
    "shuffled, short clips in rows that they share": (1, 1, True),
    "shuffled, windows of several clips in one padded batch": (1, 7, True),
    "the same on 2 threads": (2, 7, True),
}


def groups(archives):
    """Yield lists of clips."""
    held = []
    for archive in archives:
        with tarfile.open(archive) as tar:
            for member in tar:
                if (file := tar.extractfile(member)) is not None:
                    held.append(load_audio(io.BytesIO(file.read()), sample_rate=16000)[0])
                if len(held) == GROUP:
                    yield held
                    held = []
    if held:
        yield held


def encoded(encoder, clips, *, together=False):
    """Return the three streams of each clip."""
    found = encoder.encode(clips) if together else [encoder.encode([clip])[0] for clip in clips]
    voices = [encoder.global_tokens([clip], [one.statistics])[0] for clip, one in zip(clips, found, strict=True)]
    return [{"s": one.s, "p": one.p, "g": g} for one, g in zip(found, voices, strict=True)]


def watch(encoder, again, bounds, errors):
    """Count the frames that an encoder computes again, and keep how far off float32 was, as a share of the bound."""
    own = encoder.settle

    def settle(stream, latents, spans, compute):
        def compute_and_watch(number, first, last):
            exact, span = compute(number, first, last), spans[number]
            again[0] += last - first
            errors[stream].append((exact - latents[span.row, span.frames][first:last]).norm(dim=-1).max().item() / bounds[stream])
            return exact

        return own(stream, latents, spans, compute_and_watch)

    encoder.settle = settle


def differing(one, other):
    return torch.tensor([sum((a[stream] != b[stream]).sum().item() for a, b in zip(one, other, strict=True)) for stream in STREAMS])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", type=Path, nargs="+")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--model")
    args = parser.parse_args()
    codec = Tokenizer.from_pretrained(args.model)._codec
    sure, float32, float64 = ClipEncoder(codec), ClipEncoder(codec), ClipEncoder(codec)
    float32.bounds, float64.bounds = dict.fromkeys(STREAMS, NEVER), dict.fromkeys(STREAMS, ALWAYS)
    again, errors = [0], {stream: [0.0] for stream in "sp"}
    for encoder in (sure, float64):
        watch(encoder, again if encoder is sure else [0], sure.bounds, errors)
    total, found, order = torch.zeros(3, dtype=torch.int64), {}, random.Random(0)  # noqa: S311
    with torch.no_grad():
        for clips in groups(args.archives):
            with computed(1, 1):
                alone = encoded(sure, clips)
                rough = encoded(float32, clips)
            total += torch.tensor([sum(one[stream].numel() for one in alone) for stream in STREAMS])
            if "float64" not in found or total.sum() < args.tokens / 20:  # two and a half times as slow
                with computed(1, 1):
                    exact = encoded(float64, clips)
                found["float64"] = found.get("float64", 0) + torch.stack([differing(exact, alone), differing(exact, rough)])
                found["float64 of"] = total.clone()
            for name, (threads, windows_at_once, together) in WAYS.items():
                places = order.sample(range(len(clips)), len(clips)) if together else list(range(len(clips)))
                with computed(threads, windows_at_once):
                    for row, (encoder, expected) in enumerate(((sure, alone), (float32, rough))):
                        other = encoded(encoder, [clips[place] for place in places], together=together)
                        counts = differing(other, [expected[place] for place in places])
                        found.setdefault(name, torch.zeros(2, 3, dtype=torch.int64))[row] += counts
            print(total.tolist(), {name: counts.tolist() for name, counts in found.items()}, flush=True)
            if total.sum() >= args.tokens:
                break
    print(f"{total.sum()} tokens (S {total[0]}, P {total[1]}, G {total[2]}); {again[0]} frames computed again in {1 + len(WAYS)} passes")
    print("largest error of float32, share of the bound:", {stream: round(max(shares), 3) for stream, shares in errors.items()})
    print("| against each clip alone on one thread | S | P | G | S, float32 only | P | G |\n|---|---:|---:|---:|---:|---:|---:|")
    for name in WAYS:
        print(f"| {name} | {' | '.join(str(count) for count in found[name].flatten().tolist())} |")
    print(
        f"| all in float64 (of the first {found['float64 of'].sum()}) | {' | '.join(str(count) for count in found['float64'].flatten().tolist())} |"
    )


if __name__ == "__main__":
    main()
