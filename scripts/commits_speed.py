"""Compare how fast two commits encode and decode, call by call, each first in turn, so that what else the machine does befalls both alike.

usage: python scripts/commits_speed.py BEFORE AFTER [--seconds 2 5 20] [--repeat 40]

Prints the median, over pairs of calls one after the other, of how many times as fast the second commit is, one thread, and the quartiles around it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from releases import ROOT, source_at

WORKER = """
import sys, time
import soundfile, torch
from unitoken import Tokenizer

torch.set_num_threads(1)
tok = Tokenizer.from_pretrained()
whole = torch.from_numpy(soundfile.read(sys.argv[1], dtype="float32")[0]).repeat(100)
print("ready", flush=True)
for line in sys.stdin:
    what, samples = line.split()
    wave = whole[: int(samples)]
    bundle = tok.encode(wave, sample_rate=tok.sample_rate) if what == "decode" else None
    begun = time.perf_counter()
    tok.encode(wave, sample_rate=tok.sample_rate) if bundle is None else tok.decode(bundle)
    print(time.perf_counter() - begun, flush=True)
"""


class Worker:
    """A process that encodes and decodes with the package of a commit."""

    def __init__(self, commit: str, folder: Path) -> None:
        folder.mkdir()
        environment = {**os.environ, "PYTHONPATH": str(source_at(commit, folder)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", WORKER, ROOT / "examples" / "audio" / "patience.flac"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self._answer()

    def seconds(self, what: str, samples: int) -> float:
        """Return how long it takes to encode or decode so many samples."""
        self.process.stdin.write(f"{what} {samples}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a commit's process has ended; see above")
        return line

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def ratio(before: Worker, after: Worker, what: str, samples: int, turn: int) -> float:
    """Return how many times as fast the second is in one call; which of them is called first depends on the turn."""
    pair = (before, after) if turn % 2 == 0 else (after, before)
    seconds = {worker: worker.seconds(what, samples) for worker in pair}
    return seconds[before] / seconds[after]


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--seconds", type=float, nargs="+", default=[2, 5, 20])
    parser.add_argument("--repeat", type=int, default=40)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workers = [Worker(commit, Path(folder) / str(number)) for number, commit in enumerate((args.before, args.after))]
        print(f"| clip (s) | {args.after} is as fast as {args.before}, times: encode | quartiles | decode | quartiles |\n|---:|---:|---:|---:|---:|")
        for seconds in args.seconds:
            cells = [f"{seconds:g}"]
            for what in ("encode", "decode"):
                ratios = [ratio(*workers, what, round(16000 * seconds), turn) for turn in range(args.repeat + 4)][4:]
                low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
                cells += [f"{middle:.3f}", f"{low:.3f} to {high:.3f}"]
            print(f"| {' | '.join(cells)} |", flush=True)
        for worker in workers:
            worker.close()


if __name__ == "__main__":
    main()
