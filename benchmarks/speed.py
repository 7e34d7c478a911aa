"""Print how fast the packaged model and other codecs encode and decode, as Markdown tables: all in one run, one call of each in turn.

Others have their published sizes and random weights (`benchmarks/peers.py`). A system that cannot be built is left out, and why is printed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from machine import CLIP, peak_mib, print_machine, product_gflops, speech
from peers import PEERS, System
from torch.utils.flop_counter import FlopCounterMode

from unitoken.hub import DEFAULT_MODEL

OURS = "unitoken", "unitoken, compiled", "unitoken, ONNX", "unitoken, ONNX int8"
IMPORTS = {  # of the others torchaudio is missing
    **dict.fromkeys(OURS[:2], "import unitoken"),
    **dict.fromkeys(OURS[2:], "import numpy, onnxruntime"),
    "EnCodec": "from transformers import EncodecModel",
    "DAC": "from transformers import DacModel",
    "Mimi": "from transformers import MimiModel",
    "X-codec": "from transformers import XcodecModel",
    "SNAC": "from snac import SNAC",
}


def ours(name, folder, threads):
    """Build one of our own ways to compute."""
    import unitoken

    if "ONNX" not in name:
        tok = unitoken.Tokenizer.from_pretrained(compile="compiled" in name)
        codec = tok._codec
        return System(tok.sample_rate, [codec], lambda waves: tok.encode(list(waves), sample_rate=tok.sample_rate), tok.decode)
    from unitoken.onnx.runner import Runner

    runner = Runner(folder / name, threads)

    def encode(waves):
        return [(runner.encode(wave.numpy()), len(wave)) for wave in waves]

    return System(runner.config["sample_rate"], [], encode, lambda found: [runner.decode(**tokens, samples=samples) for tokens, samples in found])


def export(folder):
    """Write the ONNX graphs."""
    from unitoken.hub import build_codec, load_stored
    from unitoken.onnx import export_onnx

    stored = load_stored()
    for name, int8 in zip(OURS[2:], ((), ("encode", "decode")), strict=True):
        export_onnx(build_codec(stored).eval().requires_grad_(False), folder / name, stored.fingerprint, int8=int8)


def import_seconds(statement):
    """Return how long a fresh interpreter takes to import a package, torch included."""
    program = f"import time\nstart = time.perf_counter()\n{statement}\nprint(time.perf_counter() - start)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def build(name, folder, threads):
    return ours(name, folder, threads) if name in OURS else PEERS[name]()


def calls(system, seconds, batch):
    """Return what encodes a batch and what decodes it, None for what the system does not do; each has been called once."""
    waves = speech(system.sample_rate, seconds, batch)
    if system.encode is None:
        made = {"encode": None, "decode": lambda: system.decode(seconds, batch)}
    else:
        codes = system.encode(waves)
        made = {"encode": lambda: system.encode(waves), "decode": system.decode and (lambda: system.decode(codes))}
    if made["decode"]:
        made["decode"]()
    return made


def interleaved(works, rounds, budget):
    """Return the median seconds of each call, all called in turn; a slow one, after `budget` seconds of its own, no more than twice."""
    times = {key: [] for key in works}
    for _ in range(rounds):
        for key, work in works.items():
            if len(times[key]) < 2 or sum(times[key]) < budget:
                start = time.perf_counter()
                work()
                times[key].append(time.perf_counter() - start)
    return {key: statistics.median(found) for key, found in times.items()}


def alone(name, folder, seconds):
    """Print what a process of its own tells of a system, as JSON."""
    with torch.no_grad():
        start = time.perf_counter()
        system = build(name, folder, 1)
        loaded = time.perf_counter() - start
        made = calls(system, seconds, 1)
        found = {"load": loaded, "peak": peak_mib()}
        if system.modules:
            found["parameters"] = sum(value.numel() for module in system.modules for value in module.parameters())
            for what, work in made.items():
                found[what] = macs(work) / seconds if work else None
    print(json.dumps(found))


def macs(work):
    """Return the multiply-accumulates of a call, in products and convolutions."""

    def linear(x, weight, *_, out_shape=None, **__):
        rows = 1
        for size in x[:-1]:
            rows *= size
        return 2 * rows * weight[0] * weight[1]

    with FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: linear}) as counter:
        work()
    return counter.get_total_flops() / 2


def described(names, folder, seconds):
    """Return what a process of its own told of each system, and for those that cannot be built the last line of their error."""
    found, errors = {}, {}
    for name in names:
        command = [sys.executable, __file__, "--alone", name, "--folder", str(folder), "--seconds", str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
        if done.returncode:
            errors[name] = done.stderr.strip().splitlines()[-1]
        else:
            found[name] = json.loads(done.stdout.strip().splitlines()[-1]) | {"import": import_seconds(IMPORTS[name]) if name in IMPORTS else None}
    return found, errors


def print_speeds(names, folder, args):
    """Print how many times real time each system is, by threads and batch; return the first of these settings' by system."""
    columns = [(threads, batch) for threads in args.threads for batch in args.batch]
    speeds = {name: {} for name in names}
    for threads, batch in columns:
        torch.set_num_threads(threads)  # noqa: TID251 - a benchmark must say how many threads it used
        works = {}
        for name in names:
            for what, work in calls(build(name, folder, threads), args.seconds, batch).items():
                if work:
                    works[name, what] = work
        for (name, what), seconds in interleaved(works, args.rounds, args.budget).items():
            speeds[name][what, threads, batch] = batch * args.seconds / seconds
    print(
        "| x real time | " + " | ".join(f"{what}, {t} thread{'s' * (t > 1)}, batch {b}" for t, b in columns for what in ("encode", "decode")) + " |"
    )
    print("|---|" + "---:|" * 2 * len(columns))
    for name in names:
        cells = (speeds[name].get((what, *column)) for column in columns for what in ("encode", "decode"))
        print(f"| {name} | " + " | ".join("-" if speed is None else f"{speed:.1f}" for speed in cells) + " |")
    return speeds


def number(value, digits, scale=1.0):
    return "-" if value is None else f"{value / scale:.{digits}f}"


def print_sizes(found, speeds, args):
    """Print what each system is, and which share of the fastest matrix product's speed its products have."""
    first = args.threads[0], args.batch[0]
    torch.set_num_threads(first[0])  # noqa: TID251 - as above
    peak = max(product_gflops().values()) * 1e9
    print("\n| | parameters (M) | G MAC a second, encode | decode | of the matrix product, encode | decode | peak MiB | import s | load s |")
    print("|---|" + "---:|" * 8)
    for name, facts in found.items():
        done = {what: facts.get(what) for what in ("encode", "decode")}
        shares = [number(macs and speeds[name][(what, *first)] * 2 * macs, 2, peak) for what, macs in done.items()]
        counts = [number(facts.get("parameters"), 1, 1e6), *(number(macs, 2, 1e9) for macs in done.values())]
        print("| " + " | ".join([name, *counts, *shares, f"{facts['peak']:.0f}", number(facts["import"], 2), number(facts["load"], 2)]) + " |")


def print_agreement(folder, names):
    """Print how far the exported graphs are from the model, on the clips of the examples: tokens that differ, and SNR of the same tokens decoded."""
    import unitoken

    tok = unitoken.Tokenizer.from_pretrained()
    waves = [unitoken.load_audio(path, sample_rate=tok.sample_rate)[0] for path in sorted(CLIP.parent.glob("*.flac"))]
    bundles = tok.encode(waves, sample_rate=tok.sample_rate)
    decoded = torch.cat(tok.decode(bundles))
    total = sum(len(bundle.s) + len(bundle.p) + len(bundle.g) for bundle in bundles)
    for name in names:
        system, differ, others = build(name, folder, 1), 0, []
        for bundle, (tokens, _) in zip(bundles, (system.encode([wave])[0] for wave in waves), strict=True):
            differ += sum(int((tokens[stream] != getattr(bundle, stream).numpy()).sum()) for stream in "spg")
            known = {stream: getattr(bundle, stream).numpy() for stream in "spg"}
            others.append(torch.from_numpy(system.decode([(known, bundle.num_samples)])[0]))
        apart = 10 * torch.log10(decoded.square().sum() / (decoded - torch.cat(others)).square().sum())
        print(f"\n{name}: {differ} of {total} tokens differ from unitoken's; the same tokens decoded: {apart:.1f} dB SNR")


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="length of a clip")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="clips in one call; several numbers give several columns")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="several numbers give several columns")
    parser.add_argument("--rounds", type=int, default=7, help="the median of so many calls counts, each of all systems once")
    parser.add_argument("--budget", type=float, default=20, help="seconds after which a system is called no more, once it was called twice")
    parser.add_argument("--only", nargs="+", choices=[*OURS, *PEERS], default=[*OURS, *PEERS], metavar="NAME", help="systems; default: all")
    parser.add_argument("--folder", type=Path, help="where ONNX graphs are, or are written; default: a temporary folder")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    """Measure and print."""
    args = arguments()
    if args.alone:
        alone(args.alone, args.folder, args.seconds)
        return
    with tempfile.TemporaryDirectory() as temporary, torch.inference_mode():
        folder = args.folder or Path(temporary)
        if any("ONNX" in name for name in args.only) and not (folder / OURS[2]).is_dir():
            with torch.inference_mode(mode=False):
                export(folder)
        found, errors = described(args.only, folder, args.seconds)
        torch.set_num_threads(args.threads[0])  # noqa: TID251 - as above
        print_machine(f"{DEFAULT_MODEL} and others", args.threads[0])
        print(f"clips of {args.seconds:g} s of speech, one call of each system in turn, median of {args.rounds}; other systems with random weights\n")
        speeds = print_speeds(list(found), folder, args)
        print_sizes(found, speeds, args)
        print_agreement(folder, [name for name in found if "ONNX" in name])
        for name, error in errors.items():
            print(f"\nleft out: {name}: {error}")


if __name__ == "__main__":
    main()
