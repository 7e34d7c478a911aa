"""Print what the language-model side costs: tokens to ids and back, reading id by id, and which ids may come next, as a Markdown table.

usage: python benchmarks/lm.py [--frames 1500] [--threads 1]
"""

import argparse
import statistics
import time

import machine
import torch

from unitoken import TokenBundle, Tokenizer, lm

ROUNDS = 200


def median(call, rounds=ROUNDS):
    """Return the median microseconds of a call, after one to warm up."""
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)


def walk(layout, ids):
    """Return the median microseconds of a step of the grammar with its mask, over a whole sequence."""
    times, place = [], layout.grammar.start
    for id in ids:
        start = time.perf_counter()
        layout.allowed(place)
        place = layout.grammar.step(place, id)
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)


def pushes(layout, ids):
    """Return the median microseconds of reading one id."""
    times, reader = [], lm.Reader(layout)
    for id in ids:
        start = time.perf_counter()
        reader.push(id)
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)


def constrained(layout, ids):
    """Return the median microseconds that logits of one sequence take, over its last 200 ids."""
    constraint, row = lm.Constraint(layout), torch.tensor([ids])
    scores, times = torch.zeros(1, layout.vocabulary.size), []
    for length in range(len(ids) - 200, len(ids)):
        start = time.perf_counter()
        constraint(row[:, :length], scores)
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)


def main():
    """Measure all layouts with random tokens of the packaged model's sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1500, help="frames of S and of P in a sequence")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)  # noqa: TID251 - a benchmark must say how many threads it used
    torch.manual_seed(0)
    info = Tokenizer.from_pretrained().info
    vocabulary = lm.Vocabulary(info, longest_run=16, text_size=32000)
    s, p = (torch.randint(0, size, (args.frames,)) for size in (info.s.codebook_size, info.p.codebook_size))
    bundle = TokenBundle(s, p, torch.randint(0, info.g_size, (info.num_g,)), args.frames * info.hop, info)
    machine.print_machine("random tokens", args.threads)
    print(f"{args.frames} frames, a vocabulary of {vocabulary.size} ids; medians, microseconds")
    print()
    columns = ("ids", "to_ids", "from_ids", "from_ids, tolerant", "push, an id", "mask and step, an id", "logits, a step")
    print("|", " | ".join(["layout", *columns]), "|")
    print("|---|" + "---:|" * len(columns))
    for body in (lm.Semantic(), lm.Sequential(), lm.Interleaved(), lm.Interleaved(4), lm.Runs()):
        layout = lm.Layout(vocabulary, body)
        array = layout.to_ids(bundle)
        ids = array.tolist()
        figures = [
            len(ids),
            median(lambda layout=layout: layout.to_ids(bundle)),
            median(lambda layout=layout, array=array: layout.from_ids(array), 30),
            median(lambda layout=layout, array=array: layout.from_ids(array, strict=False), 30),
            pushes(layout, ids),
            walk(layout, ids),
            constrained(layout, ids),
        ]
        print(f"| {body} | {figures[0]} | " + " | ".join(f"{value:.1f}" for value in figures[1:]) + " |")


if __name__ == "__main__":
    main()
