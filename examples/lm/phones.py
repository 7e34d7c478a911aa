"""Phones of the transcripts of a table, in the alphabet of the IPA, as `espeak-ng` reads them.

usage: python examples/lm/phones.py TABLE.tsv -o PHONES.tsv [--languages en=en-us de nl]

TABLE has the columns path, language and transcript, the file that is written path and phones: phones separated by spaces, stress left out, and `|`
where a sentence pauses. Transcripts that begin with `[`, which describe and do not say, are left out. Needs the program (`apt install espeak-ng`).
"""

import argparse
import csv
import re
import shutil
import subprocess
from pathlib import Path

from unitoken.files import replacing

STRESS = str.maketrans("", "", "ˈˌ")


def phones_of(said, voice):
    """Return the phones of a sentence."""
    command = ["espeak-ng", "-q", "--ipa", "--sep=_", "-v", voice, "--", said]
    clauses = subprocess.run(command, capture_output=True, check=True, text=True).stdout.translate(STRESS).split("\n")
    marks = "(?"  # (en): the language changes; ??: a phone that it cannot name
    told = [[phone for phone in re.split(r"[_|\s]+", clause) if phone and phone[0] not in marks] for clause in clauses]
    return " | ".join(" ".join(phones) for phones in told if phones)


def main():
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument(
        "--languages", nargs="+", default=["en=en-us", "de", "nl"], help="of the column language; and espeak's voice, if named otherwise"
    )
    args = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        raise SystemExit("there is no program espeak-ng here; install it first: apt install espeak-ng")
    voices = {language: voice or language for language, _, voice in (each.partition("=") for each in args.languages)}
    with args.table.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["transcript"] and row["language"] in voices]
    lines = [f"{row['path']}\t{phones_of(row['transcript'], voices[row['language']])}\n" for row in rows if row["transcript"][0] != "["]
    with replacing(args.output) as temporary:
        temporary.write_text("".join(["path\tphones\n", *lines]), encoding="utf-8")
    print(f"{len(lines)} transcripts: {args.output}")


if __name__ == "__main__":
    main()
