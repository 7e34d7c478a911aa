"""The clips that `small` is chosen by, of speakers who are never trained on: all of LibriSpeech and EmoDB, and 180 of speechocean762.

python scripts/small_valid.py train.tsv train-*.tar --valid-speakers valid-speakers.txt -o valid

Writes the recordings and many.tsv, which `unitoken evaluate` reads; and both.tsv, libri.tsv and so60.tsv, LibriSpeech and 60 of speechocean762,
by which the ablations were measured and which are too few to tell models apart by words.
"""

import argparse
import csv
import random
import tarfile
from pathlib import Path

from unitoken.train.pool import read_speakers

SPEECHOCEAN_CLIPS, MANY = 60, 180


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("archives", type=Path, nargs="+")
    parser.add_argument("--valid-speakers", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()

    held_out = read_speakers(args.valid_speakers)
    with open(args.table, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if (row["source"], row["speaker"]) in held_out]
    libri = [row for row in rows if row["source"] == "librispeech"]
    speechocean = [row for row in rows if row["source"] == "speechocean762"]
    learners = random.Random(0).sample(speechocean, SPEECHOCEAN_CLIPS)  # noqa: S311  (no secret)
    many = [*random.Random(1).sample(speechocean, MANY), *(row for row in rows if row["source"] == "emodb"), *libri]  # noqa: S311  (no secret)
    wanted = {row["path"] for row in many + learners}
    args.output.mkdir(parents=True, exist_ok=True)
    for archive in args.archives:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.name in wanted:
                    tar.extract(member, args.output, filter="data")
                    wanted.remove(member.name)
    if wanted:
        raise SystemExit(f"{len(wanted)} recordings of {args.table} are in none of the archives, such as {min(wanted)}")
    for name, chosen in (("libri", libri), ("so60", learners), ("both", libri + learners), ("many", many)):
        with open(args.output / f"{name}.tsv", "w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, chosen[0], delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")
            table.writeheader()
            table.writerows(chosen)


if __name__ == "__main__":
    main()
