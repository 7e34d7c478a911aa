"""Tokens to the ids of a language model and back, by hand: python examples/language_model_ids.py [CLIP] [--model NAME]."""

import argparse
from pathlib import Path

import torch

from unitoken import TokenBundle, Tokenizer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("clip", nargs="?", default=Path(__file__).parent / "audio/lady.flac", help="any audio file")
parser.add_argument("--model", help="a packaged model, a folder, or a Hub repository; default: the packaged one")
args = parser.parse_args()

tok = Tokenizer.from_pretrained(args.model)
bundle = tok.encode(args.clip)
info = bundle.info

# One range of ids for each codebook, after the special ids: G has `num_g` codebooks, S and P have one each.
PAD, BOS, EOS = 0, 1, 2
first_g = 3 + torch.arange(info.num_g) * info.g_size
first_s = 3 + info.num_g * info.g_size
first_p = first_s + info.s.codebook_size
size = first_p + info.p.codebook_size
print(f"vocabulary of {size}: specials 0-2, G {3}-{first_s - 1}, S {first_s}-{first_p - 1}, P {first_p}-{size - 1}")

# BOS, the voice, then S and P of each frame in turn, EOS.
frames = torch.stack([bundle.s + first_s, bundle.p + first_p], dim=1).flatten()
ids = torch.cat([torch.tensor([BOS]), bundle.g + first_g, frames, torch.tensor([EOS])])
print(f"{len(ids)} ids for {bundle.seconds:.2f} s: {ids[:6].tolist()} ...")

# Back again. A language model gives ids and no length, so the clip ends with its last whole frame.
g = ids[1 : 1 + info.num_g] - first_g
s, p = (ids[1 + info.num_g : -1].view(-1, 2) - torch.tensor([first_s, first_p])).unbind(1)
back = TokenBundle(s=s, p=p, g=g, num_samples=len(s) * info.hop, info=tok.info)
same = all(torch.equal(getattr(back, name), getattr(bundle, name)) for name in "gsp")
print(f"the same tokens again: {same}; decoded: {len(tok.decode(back)) / tok.sample_rate:.2f} s")
