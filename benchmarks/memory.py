"""Print how much memory encoding and decoding take for clips of several lengths, each in a fresh process, file to file, as a Markdown table."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import CLIP, print_machine

import unitoken

RATE = 16000
WORK = f"""
import sys
import torch

sys.path.insert(0, {str(Path(__file__).parent)!r})
from machine import peak_mib
from unitoken import TokenBundle, Tokenizer, save_audio

torch.set_num_threads(1)
work, source, target, model = sys.argv[1:]
tok = Tokenizer.from_pretrained(model or None)
if work == "encode":
    tok.encode(source).save(target)
elif work == "decode":
    save_audio(target, tok.decode_blocks(TokenBundle.load(source)), tok.sample_rate)
print(peak_mib())
"""


def peak(*arguments):
    """Return the most memory that a process held, in MiB."""
    done = subprocess.run([sys.executable, "-c", WORK, *map(str, arguments)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def speech(clip, seconds):
    """Yield the samples of a clip, over and over, until there are so many seconds."""
    wave, left = unitoken.load_audio(clip, sample_rate=RATE)[0], round(seconds * RATE)
    while left > 0:
        yield wave[:left]
        left -= len(wave)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", type=Path, default=CLIP, help="speech that is repeated")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60])
    parser.add_argument("--model", default="", help="a packaged model, a folder, or a Hub repository; default: the packaged one")
    args = parser.parse_args()
    print_machine(args.model or "packaged model", 1)
    print(f"file to file; loading the model alone: {peak('load', '', '', args.model):.0f} MiB\n")
    print("| minutes of audio | encode, peak MiB | decode, peak MiB | encode, of the first | decode, of the first |\n|---:|---:|---:|---:|---:|")
    first = None
    for minutes in args.minutes:
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("speech.flac", "speech.utok", "decoded.wav")]
            unitoken.save_audio(files[0], speech(args.clip, 60 * minutes), RATE)
            found = [peak(work, *files[at : at + 2], args.model) for at, work in enumerate(("encode", "decode"))]
        first = first or found
        shares = " | ".join(f"{value / one:.2f}" for value, one in zip(found, first, strict=True))
        print(f"| {minutes:g} | {found[0]:.0f} | {found[1]:.0f} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
