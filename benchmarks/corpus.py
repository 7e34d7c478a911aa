"""Print how fast a corpus is encoded with reading, decoding, resampling and writing, and what of that is the model."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from machine import print_machine

from unitoken import corpus
from unitoken.corpus.encode import encode_rows
from unitoken.corpus.media import fetch, hear
from unitoken.corpus.plan import rows_of
from unitoken.corpus.reader import Corpus


def pinned(core, command):
    """Start a command on one core."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, preexec_fn=lambda: os.sched_setaffinity(0, {core}))


def ranks(args, place, used):
    """Encode with one rank on each of some cores; return the seconds from the first start to the last end, and by each rank's own clock."""
    began = time.monotonic()
    inputs = [*args.inputs, *(text for archive in args.archive for text in ("--archive", archive))]
    running = [
        pinned(
            core,
            [
                *(sys.executable, "-m", "unitoken", "corpus", "encode", *inputs, "-o", str(place), "--rows", str(args.rows), "--workers", "1"),
                *("--readers", str(args.readers), "--shard", f"{index * args.every}/{len(used) * args.every}", "--json"),
            ],
        )
        for index, core in enumerate(used)
    ]
    ends = [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]
    return time.monotonic() - began, max(end["elapsed_s"] for end in ends)


def alone(args, plan, settings):
    """Return the seconds of audio of the first shard, and what reading and decoding it, and encoding what was decoded, takes."""
    tok, rows = settings.load(), rows_of(plan.part(0))
    began = time.perf_counter()
    heard = [hear(fetch(row), tok.sample_rate) for row in rows]
    decoded = time.perf_counter() - began
    waves = [one.waveform for one in heard]
    tok.encode(waves[:16], sample_rate=tok.sample_rate)
    began = time.perf_counter()
    tok.encode(waves, sample_rate=tok.sample_rate)
    return sum(len(wave) for wave in waves) / tok.sample_rate, decoded, time.perf_counter() - began


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", nargs="+", help="folders, manifests or archives")
    parser.add_argument("--archive", action="append", default=[], help="tar file whose members the manifest names")
    parser.add_argument("--rows", type=int, default=256, help="utterances of a shard")
    parser.add_argument("--every", type=int, default=1, help="only every so many shards are encoded")
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    return parser.parse_args()


def main():
    """Measure and print."""
    args = arguments()
    torch.set_num_threads(1)  # noqa: TID251 - a benchmark must say how many threads it used
    used = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, {used[0]})
    settings = corpus.Settings(readers=args.readers)
    plan = corpus.make_plan(args.inputs, archives=args.archive, rows=args.rows)
    print_machine(settings.load().config.name, 1)
    rows = []
    for _ in range(args.repeat):
        seconds, decoded, encoded = alone(args, plan, settings)
        began = time.perf_counter()
        encode_rows(settings.load(), dict(enumerate(rows_of(plan.part(0)))), settings)
        joined = time.perf_counter() - began
        with tempfile.TemporaryDirectory() as folder:
            one, own_one = ranks(args, Path(folder) / "one", used[:1])
            two, own_two = ranks(args, Path(folder) / "two", used)
            whole = Corpus(Path(folder) / "one").seconds
            both = Corpus(Path(folder) / "two").seconds
        rows.append((seconds / decoded, seconds / encoded, joined / (decoded + encoded), whole / own_one, both / own_two, whole / one, both / two))
    middle = [sorted(values)[len(values) // 2] for values in zip(*rows, strict=True)]
    some = "" if args.every == 1 else f", one of {args.every} of them"
    print(f"{whole / 3600:.2f} h of {len(plan.table)} rows, shards of {args.rows}{some}; medians of {args.repeat}\n")
    print("| hours of audio an hour | |\n|---|---:|")
    names = ("reading, decoding, resampling alone", "the model alone", "", "one rank on one core", "two ranks on a core each")
    for name, value in zip(names, middle, strict=False):
        if name:
            print(f"| {name} | {value:.0f} |")
    print(f"| the same with starting Python, torch and the model: one rank | {middle[5]:.0f} |\n| two ranks | {middle[6]:.0f} |")
    print(f"\none rank takes {middle[2]:.2f} times decoding and model alone; two ranks are {middle[4] / middle[3]:.2f} times one")


if __name__ == "__main__":
    main()
