"""Print how fast a model encodes and decodes, as a Markdown table, beside the speed of a plain matrix product on the same machine."""

import argparse
import platform
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

import unitoken
from unitoken.config import GridConfig
from unitoken.hub import load_stored

MATRIX = 1024


def cpu_name():
    """Return the processor's name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    return names[0] if names else platform.processor() or platform.machine()


def median_seconds(work, repeat):
    """Return the median wall time of `repeat` calls, after one that is not counted."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def matmul_gflops(repeat):
    """Return the speed of a float32 product of two square matrices, in 10^9 operations a second."""
    a, b = torch.randn(2, MATRIX, MATRIX, generator=torch.Generator().manual_seed(0))
    return 2 * MATRIX**3 / median_seconds(lambda: a @ b, repeat) / 1e9


def measure(tok, seconds, batch, repeat):
    """Return seconds of audio encoded and decoded in a second."""
    noise = 0.1 * torch.randn(batch, round(seconds * tok.sample_rate), generator=torch.Generator().manual_seed(0))
    clips = list(noise)  # what is said does not matter: every clip of one length takes the same arithmetic
    bundles = tok.encode(clips, sample_rate=tok.sample_rate)
    encode = median_seconds(lambda: tok.encode(clips, sample_rate=tok.sample_rate), repeat)
    decode = median_seconds(lambda: tok.decode(bundles), repeat)
    return batch * seconds / encode, batch * seconds / decode


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a packaged model, a folder, or a Hub repository; default: the packaged one")
    parser.add_argument("--device", default="cpu", help="where the model computes; the matrix product is always the CPU's")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a clip")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="clips in one call; several numbers give several rows")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5, help="the median of so many calls counts")
    parser.add_argument("--core", type=int, default=GridConfig().core, help="frames of a window: to choose it, see docs/design/0002-exactness.md")
    return parser.parse_args()


def main():
    """Measure and print."""
    args = arguments()
    torch.set_num_threads(args.threads)  # noqa: TID251 - a benchmark must say how many threads it used
    stored = load_stored(args.model)
    grid = GridConfig(args.core, min(args.core, stored.config.grid.quantum))
    tok = unitoken.Tokenizer(replace(stored, config=replace(stored.config, grid=grid)), args.device)
    print(f"{cpu_name()}, {args.threads} thread(s), torch {torch.__version__}, unitoken-speech {unitoken.__version__}, float32;")
    print(f"matrix product {MATRIX} x {MATRIX}: {matmul_gflops(args.repeat):.0f} GFLOP/s; median of {args.repeat} calls after a warm-up\n")
    print("| model | device | window (frames) | clip (s) | clips in a call | encode (x real time) | decode (x real time) |")
    print("|---|---|---|---|---|---|---|")
    for batch in args.batch:
        encode, decode = measure(tok, args.seconds, batch, args.repeat)
        print(f"| {tok.config.name} | {tok.device} | {args.core} | {args.seconds:g} | {batch} | {encode:.1f} | {decode:.1f} |")


if __name__ == "__main__":
    main()
