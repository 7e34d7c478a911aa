"""Say the words of one clip in the voice of another: python examples/voice_swap.py [WORDS] [VOICE ...] [--model NAME]."""

import argparse
from pathlib import Path

from unitoken import Tokenizer, save_audio

audio = Path(__file__).parent / "audio"
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("words", nargs="?", default=audio / "lady.flac", help="the clip that S and P are taken from")
parser.add_argument("voice", nargs="*", default=[audio / "patience.flac"], help="one clip of the voice, or several of the same voice")
parser.add_argument("--output", type=Path, default=Path("demo/swapped.wav"))
parser.add_argument("--model", help="a packaged model, a folder, or a Hub repository; default: the packaged one")
args = parser.parse_args()

tok = Tokenizer.from_pretrained(args.model)
bundle = tok.encode(args.words)
voice = tok.encode_global(args.voice)  # several clips make one voice, heard one after the other
swapped = tok.decode(bundle.replace(g=voice))

args.output.parent.mkdir(parents=True, exist_ok=True)
save_audio(args.output, swapped, tok.sample_rate)
print(f"{args.words} in the voice of {', '.join(map(str, args.voice))}: {args.output}")
print(f"global tokens before: {bundle.g.tolist()}")
print(f"global tokens after:  {voice.tolist()}")
