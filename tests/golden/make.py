"""Write the golden model and what it makes of one clip; run this only when tokens are meant to change, and say so in the changelog.

Usage: python tests/golden/make.py
"""

import sys
from pathlib import Path

import safetensors.torch
import torch

from unitoken import Tokenizer
from unitoken.hub import save_stored

FOLDER = Path(__file__).parent
SAMPLES = 4321

sys.path.insert(0, str(FOLDER.parent))
from models import RATE, TINY, clip, codec  # noqa: E402 - the tests' folder is no package


def main():
    """Write the folder `tiny` (weights as float16) and `tiny.safetensors`: the clip as int16, its tokens, and the samples decoded from them."""
    fingerprint = save_stored(FOLDER / "tiny", TINY, codec().state_dict())
    tok = Tokenizer.from_pretrained(FOLDER / "tiny")
    audio = (clip(SAMPLES, 5).clamp(-1, 1) * 32767).round().to(torch.int16)
    bundle = tok.encode(audio, sample_rate=RATE)
    tensors = {"clip": audio, "s": bundle.s, "p": bundle.p, "g": bundle.g, "waveform": tok.decode(bundle)}
    (FOLDER / "tiny.safetensors").write_bytes(safetensors.torch.save(tensors, {"fingerprint": fingerprint}))
    print(f"model {fingerprint}: {len(bundle.s)} frames, s {bundle.s.tolist()}, p {bundle.p.tolist()}, g {bundle.g.tolist()}")


if __name__ == "__main__":
    main()
