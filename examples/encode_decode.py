"""Encode a clip, decode its tokens, and say what the tokens cost: python examples/encode_decode.py [CLIP] [FOLDER] [--model NAME]."""

import argparse
from pathlib import Path

from unitoken import Tokenizer, load_audio, save_audio
from unitoken.units import bits_for

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("clip", nargs="?", default=Path(__file__).parent / "audio/lady.flac", help="any audio file")
parser.add_argument("folder", nargs="?", type=Path, default=Path("demo"), help="where the two WAV files go")
parser.add_argument("--model", help="a packaged model, a folder, or a Hub repository; default: the packaged one")
args = parser.parse_args()

tok = Tokenizer.from_pretrained(args.model)
bundle = tok.encode(args.clip)
decoded = tok.decode(bundle)  # as many samples as went in, at 16 kHz

args.folder.mkdir(parents=True, exist_ok=True)
original = args.folder / "original.wav"
save_audio(original, load_audio(args.clip, sample_rate=tok.sample_rate)[0], tok.sample_rate)
save_audio(args.folder / "decoded.wav", decoded, tok.sample_rate)


def row(stream, tokens, rate):
    bits = tokens.numel() * bits_for(bundle.info.sizes[stream])
    print(f"| {stream} | {tokens.numel()} | {rate} | {bits} | {bits / (bundle.seconds or 1):.0f} |")


print(tok)
print(f"{args.clip}: {bundle.seconds:.2f} s")
print("| stream | tokens | Hz | bits | b/s |\n|---|---|---|---|---|")
row("s", bundle.s, bundle.frame_rates["s"])
row("p", bundle.p, bundle.frame_rates["p"])
row("g", bundle.g, "once")
print(f"original: {original}")
print(f"decoded:  {args.folder / 'decoded.wav'}")
