"""Tokens to the ids of a language model and back: python examples/language_model_ids.py [CLIP] [--model NAME]."""

import argparse
from pathlib import Path

from unitoken import Tokenizer, lm

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("clip", nargs="?", default=Path(__file__).parent / "audio/lady.flac", help="any audio file")
parser.add_argument("--model", help="a packaged model, a folder, or a Hub repository; default: the packaged one")
args = parser.parse_args()

tok = Tokenizer.from_pretrained(args.model)
bundle = tok.encode(args.clip)

# Which id means what, and how the frames lie: BOS, the voice, then S and P of each frame in turn, EOS.
vocabulary = lm.Vocabulary(tok.info)
layout = lm.Layout(vocabulary, lm.Interleaved())
ids = layout.to_ids(bundle)
print(f"{len(ids)} of {vocabulary.size} ids for {bundle.seconds:.2f} s: {', '.join(map(vocabulary.describe, ids[:4]))} ...")

# Back again. A language model gives ids and no length, so without num_samples the clip ends with its last whole frame.
print(f"the same tokens again: {layout.from_ids(ids, num_samples=bundle.num_samples) == bundle}")

# What a model writes may be wrong: the frames that a wrong id touches are left out, all others stay.
wrong = [*ids[:30], vocabulary.eos, *ids[31:]]
read, report = layout.from_ids(wrong, strict=False)
print(f"{len(read)} of {len(bundle)} frames read; {report}")

# Or what may come next is known, at each place, and nothing else is chosen from.
reader = lm.Reader(layout)
frames = sum(len(reader.push(id)) for id in ids[:40])
allowed = layout.allowed(reader.place).nonzero().flatten()
print(f"after 40 ids, {frames} frames: ids from {vocabulary.describe(int(allowed[0]))} to {vocabulary.describe(int(allowed[-1]))} may follow")
