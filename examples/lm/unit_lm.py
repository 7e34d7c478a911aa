"""A unit language model, as GSLM (arXiv 2102.01192): a transformer learns to go on with speech tokens, and speaks.

usage: python examples/lm/unit_lm.py TOKENS --held-out SPEAKERS.tsv -o RUN [--minutes 30] [--layout sp|s]

TOKENS is a folder that `unitoken corpus encode` wrote, with the columns source and speaker; SPEAKERS.tsv has the same columns and names those who
are never learnt from. Trains for so many minutes in all, goes on where it was stopped, then prints perplexities beside those of unigrams and bigrams
of the same training data, and writes continuations of held-out clips as WAV files into RUN.
"""

import argparse
import csv
import itertools
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from unitoken import Tokenizer, corpus, lm, save_audio

ROW, BATCH = 512, 16  # ids in a row, rows in a step
PROMPT, CONTINUED = 75, 200  # frames


def split(tokens, path):
    """Return utterances to learn from, and those of held-out speakers."""
    with open(path, encoding="utf-8") as file:
        held = {(row["source"], row["speaker"]) for row in csv.DictReader(file, delimiter="\t")}
    pairs = zip(tokens.column("source").to_pylist(), tokens.column("speaker").to_pylist(), strict=True)
    out = np.array([pair in held for pair in pairs])
    return tokens.select(np.flatnonzero(~out).tolist()), tokens.select(np.flatnonzero(out).tolist())


def build(layout, width, depth):
    """Return a small decoder-only transformer; tokens begin at random, their embeddings are the output's, too."""
    config = LlamaConfig(
        vocab_size=layout.vocabulary.size,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=depth,
        num_attention_heads=width // 64,
        max_position_embeddings=4 * ROW,
        tie_word_embeddings=True,
        pad_token_id=layout.vocabulary.pad,
        bos_token_id=layout.vocabulary.bos,
        eos_token_id=layout.vocabulary.eos,
    )
    return LlamaForCausalLM(config)


def rows(layout, sequences):
    """Yield batches of packed rows."""
    packed = lm.pack(layout, sequences, ROW)
    while batch := list(itertools.islice(packed, BATCH)):
        yield {name: torch.stack([row[name] for row in batch]) for name in batch[0]}


def losses(model, layout, batch):
    """Return the summed negative log-likelihood and the number of ids for each stream, over what the layout allows where they are."""
    with torch.autocast("cpu", torch.bfloat16, enabled=torch.backends.cpu.get_cpu_capability() == "AVX512"):
        mask = lm.block_mask(batch["sequence_ids"])
        hidden = model.model(batch["input_ids"], attention_mask=mask, position_ids=batch["position_ids"]).last_hidden_state
    hidden, labels, table = hidden[:, :-1].float(), batch["labels"][:, 1:], model.lm_head.weight
    found = {}
    for stream in layout.body.streams:
        kind = layout.vocabulary.kind(f"{stream}0")
        first, stop = kind.first, kind.stop
        ends = stream == "s"  # where S may come, so may the end
        here = ((labels >= first) & (labels < stop)) | (ends & (labels == layout.vocabulary.eos))
        choices = torch.cat([table[first:stop], table[layout.vocabulary.eos :][:1]]) if ends else table[first:stop]
        wanted = torch.where(labels[here] == layout.vocabulary.eos, kind.size, labels[here] - first)
        found[stream] = torch.nn.functional.cross_entropy(hidden[here] @ choices.T, wanted, reduction="sum"), int(here.sum())
    return found


def train(model, layout, learnt, run, minutes):
    """Train, or go on training, until so many minutes are spent; weights and where the data are lie in the run's folder."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1)
    data, state = corpus.Sequences(learnt, layout, frames=200), {"seconds": 0.0, "step": 0}
    if (run / "state.json").exists():
        state = json.loads((run / "state.json").read_text())
        model.load_state_dict(load_file(run / "model.safetensors"), strict=False)  # without the output's share of the embeddings
        optimizer.load_state_dict(torch.load(run / "optimizer.pt", weights_only=True))  # noqa: TID251 - of this run
        data.load_state_dict(state["data"])
    model.train()
    begun, saved, before = time.monotonic(), time.monotonic(), state["seconds"]
    while state["seconds"] < 60 * minutes:
        for batch in rows(layout, data):
            state["seconds"] = before + time.monotonic() - begun
            state["step"] += 1
            spent = min(1.0, state["seconds"] / (60 * minutes))
            rate = 1.5e-3 * min(1.0, state["step"] / 100) * (0.05 + 0.95 * (1 - spent))
            for group in optimizer.param_groups:
                group["lr"] = rate
            found = losses(model, layout, batch)
            loss = sum(total for total, _ in found.values()) / sum(count for _, count in found.values())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if state["step"] % 20 == 0:
                print(f"step {state['step']}  {state['seconds'] / 60:.1f} min  loss {loss.item():.3f}", flush=True)
            if spent == 1 or time.monotonic() - saved > 120:
                saved = time.monotonic()
                save(model, optimizer, run, {**state, "data": data.state_dict()})
            if spent == 1:
                break


def save(model, optimizer, run, state):
    """Write a checkpoint; the state, which says that there is one, last."""
    save_file({name: value.contiguous() for name, value in model.state_dict().items() if name != "lm_head.weight"}, run / "model.safetensors")
    torch.save(optimizer.state_dict(), run / "optimizer.pt")
    (run / "state.json").write_text(json.dumps(state))


class Counts:
    """Unigrams and bigrams of one stream by Witten and Bell's interpolation; a clip's first token follows its end."""

    def __init__(self, size, clips):
        self.size = size + 1  # the end
        pairs = [self.pairs(clip) for clip in clips]
        before, after = (np.concatenate(part) for part in zip(*pairs, strict=True))
        self.single = (np.bincount(after, minlength=self.size) + 1.0) / (len(after) + self.size)
        codes, counts = np.unique(before * self.size + after, return_counts=True)
        self.codes, self.counts = codes, counts
        self.of = np.bincount(before, minlength=self.size)
        self.kinds = np.bincount(codes // self.size, minlength=self.size)

    def pairs(self, clip):
        tokens = np.concatenate([[self.size - 1], clip, [self.size - 1]])
        return tokens[:-1], tokens[1:]

    def nats(self, clips, ends):
        """Return the summed negative log-likelihoods by unigrams and by bigrams, and the number of tokens."""
        before, after = (np.concatenate(part) for part in zip(*(self.pairs(clip) for clip in clips), strict=True))
        if not ends:
            spoken = after < self.size - 1
            before, after = before[spoken], after[spoken]
        code = before * self.size + after
        at = np.minimum(np.searchsorted(self.codes, code), len(self.codes) - 1)
        seen = np.where(self.codes[at] == code, self.counts[at], 0)
        kinds, alone = np.maximum(1, self.kinds[before]), self.single[after]
        return -np.log(alone).sum(), -np.log((seen + kinds * alone) / (self.of[before] + kinds)).sum(), len(after)


def report(model, layout, learnt, held):
    """Print perplexities on held-out speakers."""
    model.eval()
    sums = dict.fromkeys(layout.body.streams, (0.0, 0))
    with torch.no_grad():
        for batch in rows(layout, corpus.Sequences(held, layout, shuffle=False, frames=200)):
            for stream, (total, count) in losses(model, layout, batch).items():
                sums[stream] = sums[stream][0] + float(total), sums[stream][1] + count
    print(f"\n{len(learnt)} utterances learnt, {learnt.seconds / 3600:.2f} h; {len(held)} held out, {held.seconds / 3600:.2f} h\n")
    print("| perplexity | unigram | bigram | model | below the bigram's |\n|---|---:|---:|---:|---:|")
    both = np.zeros(4)
    for stream in layout.body.streams:
        pieces = [
            [piece for row in part for piece in np.split(np.array(row[stream], int), range(200, len(row[stream]), 200))] for part in (learnt, held)
        ]
        counts = Counts(layout.info.sizes[stream], pieces[0])
        one, two, number = counts.nats(pieces[1], stream == "s")
        assert number == sums[stream][1], (number, sums[stream])
        both += one, two, sums[stream][0], number
        line(stream.upper(), one, two, *sums[stream])
    if len(sums) > 1:
        line("all", *both)


def line(name, one, two, own, number):
    """Print one row of the table."""
    figures = [math.exp(nats / number) for nats in (one, two, own)]
    print(f"| {name} | {figures[0]:.0f} | {figures[1]:.0f} | {figures[2]:.0f} | {1 - figures[2] / figures[1]:.0%} |")


def speak(model, layout, tok, held, run, number):
    """Continue held-out clips, under the grammar, and write prompt and continuation as WAV files."""
    long = [row for row in held if len(row.bundle) > PROMPT][:: max(1, len(held) // (4 * number))][:number]
    per_frame = len(layout.body.streams)
    for index, row in enumerate(long):
        prompt = layout.to_ids(row.bundle[:PROMPT])[:-1].tolist()
        torch.manual_seed(index)
        written = model.generate(
            torch.tensor([prompt]),
            do_sample=True,
            top_k=50,
            temperature=0.9,
            max_new_tokens=CONTINUED * per_frame,
            logits_processor=[lm.Constraint(layout)],
        )[0].tolist()
        reader = lm.Reader(layout)
        frames = sum(len(reader.push(id)) for id in written)  # each id is one that may come there, or this raises
        save_audio(run / f"{index}.wav", lm.speak(tok, layout, written), tok.sample_rate)
        end = "ended" if reader.finished else "cut off"
        print(f"{run / f'{index}.wav'}: {PROMPT / 25:.0f} s of {row.id} and {(frames - PROMPT) / 25:.1f} s more, {end}")


def main():
    """Train, measure, speak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens")
    parser.add_argument("--held-out", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30, help="of training, in all")
    parser.add_argument("--layout", choices=("sp", "s"), default="sp", help="S and P of each frame in turn, or S alone")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--continuations", type=int, default=4)
    parser.add_argument("--model", help="of the tokens; default: the packaged one")
    args = parser.parse_args()
    tok = Tokenizer.from_pretrained(args.model)
    learnt, held = split(corpus.open(args.tokens), args.held_out)
    layout = lm.Layout(lm.Vocabulary(tok.info), lm.Interleaved() if args.layout == "sp" else lm.Semantic())
    args.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = build(layout, args.width, args.depth)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {layout}")
    train(model, layout, learnt, args.output, args.minutes)
    report(model, layout, learnt, held)
    speak(model.eval(), layout, tok, held, args.output, args.continuations)


if __name__ == "__main__":
    main()
