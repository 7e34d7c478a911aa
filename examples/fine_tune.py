"""Teach the decoder your own recordings and leave the tokens as they are (extra [train]): python examples/fine_tune.py FOLDER OUTPUT."""

import argparse

from unitoken.train.fine_tune import fine_tune

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", help="one folder of audio files for each speaker, and nothing else")
parser.add_argument("output", help="the new model, and a folder `data` of what it learnt from")
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--model", help="what to start from; default: the packaged model")
args = parser.parse_args()


def report(step, losses):
    print(f"step {step + 1}: mel {losses['mel']:.3f}, magnitude {losses['magnitude']:.3f}")


print(fine_tune(args.folder, args.output, model=args.model, steps=args.steps, report=report))
