"""Write docs/samples: the clips in examples/audio as they are, decoded, without P, and each in the voice of the other.

usage: python scripts/samples.py [--model NAME] [--output FOLDER]
"""

import argparse
from pathlib import Path

from unitoken import Tokenizer, load_audio, save_audio

CLIPS = sorted((Path(__file__).parents[1] / "examples" / "audio").glob("*.flac"))

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", help="a packaged model, a folder, or a Hub repository; default: the packaged one")
parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs" / "samples")
args = parser.parse_args()
args.output.mkdir(parents=True, exist_ok=True)
tok = Tokenizer.from_pretrained(args.model)
bundles = tok.encode(CLIPS)
lines = ["| clip | original | decoded, 600 b/s | without P, 300 b/s | voice of the other |", "|---|---|---|---|---|"]
for path, own, other in zip(CLIPS, bundles, reversed(bundles), strict=True):
    kinds = {"original": load_audio(path, sample_rate=tok.sample_rate)[0], "decoded": tok.decode(own)}
    kinds |= {"no-p": tok.decode(own.replace(p=None)), "converted": tok.decode(own.replace(g=other.g))}
    for kind, waveform in kinds.items():
        save_audio(args.output / f"{path.stem}-{kind}.flac", waveform, tok.sample_rate)
    lines.append(f"| {path.stem} | " + " | ".join(f"[listen]({path.stem}-{kind}.flac)" for kind in kinds) + " |")
text = f"""# Samples of {tok.config.name}

Written by `python scripts/samples.py` with the model {tok.fingerprint[:8]}; the speakers are in no part of its training data.
Who speaks, and under which licences: [credits](../../examples/audio/CREDITS.md).

{chr(10).join(lines)}
"""
(args.output / "README.md").write_text(text, encoding="utf-8")
print(args.output)
