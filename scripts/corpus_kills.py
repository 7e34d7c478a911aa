"""Does a corpus job that is killed again and again make the same bytes as one that is left alone?

usage: python scripts/corpus_kills.py IN... [--kills 100] [--seed 0] [--rows 16] [--workers 1] [--model MODEL] [--limit 200]

Encodes the first utterances of the inputs (folders, manifests, tars) once undisturbed, then kills (SIGKILL, the whole process group) the same job at
random moments until it was hit so often; whenever it comes to its end the corpus is thrown away. After each kill every shard there is compared.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from unitoken import corpus


def job(place, listed, args):
    return [
        *(sys.executable, "-m", "unitoken", "corpus", "encode", str(listed), "-o", str(place), "--rows", str(args.rows)),
        *("--workers", str(args.workers), *(("--model", args.model) if args.model else ()), "--json"),
    ]


def shards(place):
    return {path.name: path.read_bytes() for path in place.iterdir() if not path.name.startswith(".")} if place.exists() else {}


def write_list(args, path):
    """Write a manifest of the first utterances; where they lie in archives, of copies of them."""
    plan = corpus.make_plan(args.inputs)
    rows = corpus.plan.rows_of(plan.table.slice(0, args.limit))
    with path.open("w", encoding="utf-8") as file:
        file.write("id\tpath\n")
        for number, row in enumerate(rows):
            audio = path.parent / f"{number}{Path(row.id).suffix}"
            source = corpus.media.fetch(row).source
            audio.write_bytes(source if isinstance(source, bytes) else Path(source).read_bytes())
            file.write(f"{row.id}\t{audio.name}\n")
    return len(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--model")
    args = parser.parse_args()
    rng = random.Random(args.seed)  # noqa: S311, moments are no secret
    with tempfile.TemporaryDirectory() as folder:
        whole, place, listed = Path(folder) / "whole", Path(folder) / "tokens", Path(folder) / "list.tsv"
        count = write_list(args, listed)
        began = time.monotonic()
        subprocess.run(job(whole, listed, args), check=True, stdout=subprocess.DEVNULL)
        needed, expected = time.monotonic() - began, shards(whole)
        kills = runs = finished = compared = most = 0
        while kills < args.kills:
            runs += 1
            with subprocess.Popen(job(place, listed, args), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as process:
                try:
                    process.wait(rng.uniform(0.2, 0.8) * needed)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
            kills += process.returncode == -signal.SIGKILL
            assert process.returncode in {0, -signal.SIGKILL}, process.returncode
            found = shards(place)
            assert all(expected[name] == data for name, data in found.items()), [name for name, data in found.items() if expected[name] != data]
            compared, most = compared + len(found), max(most, len(found))
            if process.returncode == 0:
                assert found == expected
                finished += 1
                shutil.rmtree(place)
        subprocess.run(job(place, listed, args), check=True, stdout=subprocess.DEVNULL)
        assert shards(place) == expected
        ids = corpus.open(place).ids
        assert len(ids) == len(set(ids)) == count
    print(f"{kills} kills in {runs} runs of a job of {count} utterances in {-(-count // args.rows)} shards, {args.workers} worker(s);")
    print(f"{finished + 1} came to their end; {compared} files compared after them, all the bytes of the undisturbed run;")
    print("no utterance lost, none twice")


if __name__ == "__main__":
    main()
