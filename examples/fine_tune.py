"""Teach the decoder your own recordings and leave the tokens as they are (extra [train]): python examples/fine_tune.py FOLDER OUTPUT."""

import argparse
import tarfile
from dataclasses import replace
from pathlib import Path

import torch

from unitoken.hub import load_into, load_stored, save_stored
from unitoken.model.codec import Codec
from unitoken.train import loop, pitch, pool, reconstruction, semantic_tokens

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path, help="one folder of audio files for each speaker, and nothing else")
parser.add_argument("output", type=Path, help="the new model, and a folder `data` of what it learnt from")
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--model", help="what to start from; default: the packaged model")
args = parser.parse_args()
data = args.output / "data"
data.mkdir(parents=True, exist_ok=True)
with tarfile.open(data / "audio.tar", "w") as tar:
    tar.add(args.folder, "own")
rows = [f"own/{path.parent.name}/{path.name}\town\t{path.parent.name}\tund\t\n" for path in args.folder.glob("*/*")]
(data / "manifest.tsv").write_text("path\tsource\tspeaker\tlanguage\ttranscript\n" + "".join(rows), encoding="utf-8")
stored = load_stored(args.model)
codec = Codec(stored.config).requires_grad_(False)  # encoders and codebooks stay: the new model decodes the old tokens with force=True
load_into(codec, stored)
own = pool.build_pool(data / "manifest.tsv", [data / "audio.tar"], data)
semantic_tokens.tokenize_pool(codec, codec.quantizer_s.codebook, own, data)
pitch.compute_pitch(own, data)
tokens, f0 = semantic_tokens.SemanticTokens(data, own, codec.config.hop_s), pitch.PitchCache(data, own)
settings = reconstruction.ReconstructionSettings(batch=4)
maker = reconstruction.ExampleMaker(own, own.utterances, tokens, f0, codec.config, settings, noise=None, seed=0)
learner = reconstruction.Reconstructor(codec, settings, autocast=False).eval().requires_grad_(False)  # eval: the codebooks do not move
optimizer = torch.optim.AdamW(codec.decoder.requires_grad_(True).parameters(), lr=1e-4)
for step in range(args.steps):
    losses, _, _ = learner(maker.make(step), torch.Generator().manual_seed(step))
    loop.descend(optimizer, learner.total(losses), step)
    print(f"step {step + 1}: mel {losses['mel']:.3f}, magnitude {losses['magnitude']:.3f}")
save_stored(args.output, replace(codec.config, name=f"{codec.config.name}-tuned"), codec.state_dict())
