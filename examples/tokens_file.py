"""Keep tokens in files, cut them and join them: python examples/tokens_file.py [CLIP ...] [--model NAME]."""

import argparse
from pathlib import Path

from unitoken import TokenBundle, Tokenizer

audio = Path(__file__).parent / "audio"
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("clips", nargs="*", default=[audio / "lady.flac", audio / "patience.flac"], help="any audio files")
parser.add_argument("--output", type=Path, default=Path("demo/clips.utok"))
parser.add_argument("--model", help="a packaged model, a folder, or a Hub repository; default: the packaged one")
args = parser.parse_args()

tok = Tokenizer.from_pretrained(args.model)
bundles = tok.encode(args.clips)  # a list in, a list out, in the same order

args.output.parent.mkdir(parents=True, exist_ok=True)
TokenBundle.save_many(args.output, bundles)
loaded = TokenBundle.load_many(args.output)
bits = sum(bundle.num_bits for bundle in loaded)
print(f"{args.output}: {args.output.stat().st_size} bytes for {len(loaded)} clips, of which {-(-bits // 8)} are tokens")
print(f"the same after loading: {loaded == bundles}")

bundle = loaded[0]
half = len(bundle) // 2
start, rest = bundle[:half], bundle[half:]  # frames of 40 ms; `g` goes with each piece
print(f"{bundle!r}\n{start!r}\n{rest!r}")
print(f"the same after joining: {TokenBundle.concat([start, rest]) == bundle}")
print(f"first piece decoded: {len(tok.decode(start)) / tok.sample_rate:.2f} s")
