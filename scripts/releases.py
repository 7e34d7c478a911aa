"""Decode clips with the packaged model as it was at earlier commits, by the code of each: how far training has come.

usage: python scripts/releases.py CLIPS.tsv COMMIT... -o FOLDER

Writes FOLDER/COMMIT/<clip>.wav; then `unitoken evaluate CLIPS.tsv --decoded FOLDER/COMMIT ...` measures all of them side by side.
"""

import argparse
import csv
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

DECODE = """
import sys
from pathlib import Path
import soundfile
import torch
from unitoken import Tokenizer

torch.set_num_threads(1)
tok = Tokenizer.from_pretrained()
for line in sys.stdin.read().splitlines():
    clip, out = line.split("\\t")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    waveform = tok.decode(tok.encode(clip))
    soundfile.write(out, waveform.numpy(), tok.sample_rate, subtype="PCM_16")
"""


def source_at(commit: str, folder: Path) -> Path:
    """Write the package's source at a commit into a folder, and return where it can be imported from."""
    archive = folder / "source.tar"
    subprocess.run(["git", "archive", "-o", archive, commit, "src"], cwd=ROOT, check=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / "src"


def main() -> None:
    """Decode with every commit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="table with the column path")
    parser.add_argument("commits", nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    with args.clips.open(encoding="utf-8") as file:
        names = [row["path"] for row in csv.DictReader(file, delimiter="\t")]
    for commit in args.commits:
        pairs = [(args.clips.parent / name, args.output / commit / Path(name).with_suffix(".wav")) for name in names]
        wanted = "".join(f"{clip.resolve()}\t{out.resolve()}\n" for clip, out in pairs)
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "PYTHONPATH": str(source_at(commit, Path(folder)))}
            subprocess.run([sys.executable, "-c", DECODE], input=wanted, text=True, env=environment, check=True)
        print(f"{args.output / commit}: {len(pairs)} clips", flush=True)


if __name__ == "__main__":
    main()
