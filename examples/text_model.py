"""A text-only causal model of transformers learns to read and write speech: python examples/text_model.py [CLIP] [--model NAME]."""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer as TextTokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM

from unitoken import Tokenizer, lm, save_audio

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("clip", nargs="?", default=Path(__file__).parent / "audio/lady.flac", help="any audio file")
parser.add_argument("--model", help="a packaged model, a folder, or a Hub repository; default: the packaged one")
args = parser.parse_args()
# Any text model and its tokenizer; here one as small as can be, with random weights.
text = TextTokenizer(WordLevel({character: number for number, character in enumerate(map(chr, range(32, 127)))}))
size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=text.get_vocab_size(), **size))

# From here on it is the same for any: ids of speech after those of text, embeddings for them, and text before speech.
tok = Tokenizer.from_pretrained(args.model)
layout = lm.Layout(lm.Vocabulary(tok.info, text_size=text.get_vocab_size()), lm.Interleaved(), text="before")
lm.resize_embeddings(model, layout.vocabulary, {"s": tok.codewords("s"), "p": tok.codewords("p")})

bundle = tok.encode(args.clip)[:25]
words = [text.token_to_id(character) for character in "a young lady"]
batch = lm.collate(layout, [layout.to_ids(bundle, [lm.Span(tuple(words), len(bundle.s))])])
optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
for _ in range(100):
    loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
prompt = torch.from_numpy(layout.prefix(bundle.g, words))[None]
ids = model.generate(prompt, do_sample=False, max_new_tokens=60, logits_processor=[lm.Constraint(layout)], eos_token_id=layout.vocabulary.eos)
save_audio("spoken.wav", lm.speak(tok, layout, ids[0].tolist()), tok.sample_rate)
spoken = layout.from_ids(ids[0], strict=False)[0]
print(f"loss {loss.item():.2f}; {len(spoken)} frames written, {(spoken.s == bundle.s[: len(spoken)]).float().mean():.0%} as learnt: spoken.wav")
