"""Print what streams cost: the delay, the time of a step alone and in a batch, as a Markdown table.

A step is one frame of every stream (40 ms of audio with the packaged model), pushed as soon as it is there.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from machine import CLIP, print_machine

import unitoken


def percentile(times, share):
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def row(name, streams, delay, times, step):
    """Print a row: delay in samples, seconds of each step, seconds of audio of a step."""
    median, late = statistics.median(times), percentile(times, 0.99)
    rate = streams * step / statistics.mean(times)
    print(f"| {name} | {streams} | {delay} | {1000 * median:.1f} | {1000 * late:.1f} | {rate:.1f} | {rate / streams:.1f} |", flush=True)


def decode(tok, bundle, streams, warm):
    """Return the seconds of each step after the first ones."""
    with tok.stream_decode_batch(streams) as batch:
        slots = [batch.open(bundle.g) for _ in range(streams)]
        steps = []
        for at in range(len(bundle)):
            part = bundle[at : at + 1]
            steps.append({slot: (part.s, part.p) for slot in slots})
        return [timed(lambda tokens=tokens: batch.push(tokens)) for tokens in steps][warm:], batch.lag_samples


def encode(tok, wave, streams, warm):
    with tok.stream_encode_batch(streams) as batch:
        slots = [batch.open() for _ in range(streams)]
        steps = [dict.fromkeys(slots, piece) for piece in wave.split(tok.hop)]
        return [timed(lambda pieces=pieces: batch.push(pieces)) for pieces in steps][warm:], batch.lookahead_samples


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a packaged model, a folder, or a Hub repository; default: the packaged one")
    parser.add_argument("--clip", type=Path, default=CLIP, help="speech that is repeated")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)  # noqa: TID251 - a benchmark must say how many threads it used
    tok = unitoken.Tokenizer.from_pretrained(args.model)
    wave = unitoken.load_audio(args.clip, sample_rate=tok.sample_rate)[0]
    wave = wave.repeat(-(-round(args.seconds * tok.sample_rate) // len(wave)))[: round(args.seconds * tok.sample_rate)]
    bundle, step, warm = tok.encode(wave, sample_rate=tok.sample_rate), tok.hop / tok.sample_rate, 75
    print_machine(tok.config.name, args.threads)
    print(f"{args.seconds:g} s of speech a stream, a step is {1000 * step:g} ms\n")
    print("| | streams | delay (samples) | step, median (ms) | step, 99 % (ms) | x real time, all | each |\n|---|---:|---:|---:|---:|---:|---:|")
    for streams in args.streams:
        times, delay = encode(tok, wave, streams, warm)
        row("encode", streams, delay, times, step)
    for streams in args.streams:
        times, delay = decode(tok, bundle, streams, warm)
        row("decode", streams, delay, times, step)


if __name__ == "__main__":
    main()
