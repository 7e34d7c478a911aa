"""Print how fast a model encodes and decodes, as a Markdown table, beside the speed of a plain matrix product on the same machine."""

import argparse

import torch
from machine import median_seconds, print_machine, speech

import unitoken
from unitoken.model import windows


def measure(tok, clips, batch, repeat):
    """Return seconds of audio encoded and decoded in a second, so many clips in a call."""
    calls = [clips[first : first + batch] for first in range(0, len(clips), batch)]
    bundles = [tok.encode(call, sample_rate=tok.sample_rate) for call in calls]
    encode = median_seconds(lambda: [tok.encode(call, sample_rate=tok.sample_rate) for call in calls], repeat)
    decode = median_seconds(lambda: [tok.decode(call) for call in bundles], repeat)
    seconds = sum(len(clip) for clip in clips) / tok.sample_rate
    return seconds / encode, seconds / decode


def mixed(sample_rate, count):
    """Return so many clips of 1 to 5 s, each of another length, in no order."""
    whole = speech(sample_rate, 5, 1)[0]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    return [whole[: round(sample_rate * (1 + 4 * number / count))] for number in order]


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a packaged model, a folder, or a Hub repository; default: the packaged one")
    parser.add_argument("--device", default="cpu", help="where the model computes; the matrix product is always the CPU's")
    parser.add_argument("--seconds", type=float, nargs="+", default=[2, 10, 60], help="length of a clip; several numbers give several rows")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="clips in one call; several numbers give several rows")
    parser.add_argument("--mixed", type=int, default=0, help="so many clips of 1 to 5 s, all of other lengths, too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5, help="the median of so many calls counts")
    parser.add_argument("--core", type=int, default=windows.CORE, help="frames of a block: to choose it, see docs/design/0002-exactness.md")
    return parser.parse_args()


def main():
    """Measure and print."""
    args = arguments()
    torch.set_num_threads(args.threads)  # noqa: TID251 - a benchmark must say how many threads it used
    windows.CORE, windows.QUANTUM = args.core, min(args.core, windows.QUANTUM)
    tok = unitoken.Tokenizer.from_pretrained(args.model, device=args.device)
    print_machine(tok.config.name, args.threads)
    print(f"median of {args.repeat} calls after a warm-up; real speech, which is repeated\n")
    print("| model | device | block (frames) | clip (s) | clips in a call | encode (x real time) | decode (x real time) |")
    print("|---|---|---|---|---|---|---|")
    kinds = [(f"{seconds:g}", lambda batch, seconds=seconds: list(speech(tok.sample_rate, seconds, batch))) for seconds in args.seconds]
    if args.mixed:
        kinds.append((f"{args.mixed} of 1 to 5", lambda _: mixed(tok.sample_rate, args.mixed)))
    for name, make in kinds:
        for batch in args.batch:
            encode, decode = measure(tok, make(batch), batch, args.repeat)
            print(f"| {tok.config.name} | {tok.device} | {args.core} | {name} | {batch} | {encode:.1f} | {decode:.1f} |", flush=True)


if __name__ == "__main__":
    main()
