"""Print how much memory a corpus job has held after each hour of audio: short files, and one recording of many hours, as a Markdown table."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import CLIP, print_machine
from memory import RATE, speech

import unitoken

WORK = f"""
import json
import sys
import torch

sys.path.insert(0, {str(Path(__file__).parent)!r})
from machine import peak_mib
from unitoken import corpus
from unitoken.corpus.run import keep_few_kernels

torch.set_num_threads(1)
keep_few_kernels()  # as `unitoken corpus encode` does
place, model, inputs, archives = json.loads(sys.argv[1])
plan = corpus.make_plan(inputs, archives=archives)
print(0, peak_mib(), flush=True)
told = 0

def watch(progress, report):
    global told
    if progress.seconds // 3600 > told:
        told = progress.seconds // 3600
        print(told, peak_mib(), flush=True)

done = corpus.encode_corpus(place, plan, corpus.Settings(model=model or None), watch=watch)
assert not done.failures
print(done.seconds / 3600, peak_mib(), flush=True)
"""


def peaks(inputs, archives, model):
    """Yield hours of audio done, and the most MiB that the job has held until then."""
    with tempfile.TemporaryDirectory() as place:
        what = json.dumps([f"{place}/tokens", model, inputs, archives])
        with subprocess.Popen([sys.executable, "-c", WORK, what], stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                hours, peak = line.split()
                yield float(hours), float(peak)
        if process.returncode:
            raise SystemExit(f"the job failed with {process.returncode}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", nargs="+", help="folders, manifests or archives of short recordings")
    parser.add_argument("--archive", action="append", default=[], help="tar file whose members the manifest names")
    parser.add_argument("--hours", type=float, default=8, help="length of the long recording, a clip over and over")
    parser.add_argument("--model", default="", help="a packaged model, a folder, or a Hub repository; default: the packaged one")
    args = parser.parse_args()
    print_machine(args.model or "packaged model", 1)
    print("\n| recordings | hours done | peak MiB |\n|---|---:|---:|")
    for hours, peak in peaks(args.inputs, args.archive, args.model):
        print(f"| short | {hours:.2f} | {peak:.0f} |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        unitoken.save_audio(Path(folder) / "long.flac", speech(CLIP, 3600 * args.hours), RATE)
        for hours, peak in peaks([folder], [], args.model):
            print(f"| one of {args.hours:g} h | {hours:.2f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
