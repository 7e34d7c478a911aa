"""What the examples of this folder share: data, a small decoder-only transformer over the ids of a layout, and its training."""

import argparse
import csv
import io
import itertools
import json
import tarfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

from unitoken import lm, load_audio
from unitoken.train.run import has_bfloat16

ROW, BATCH = 512, 16  # ids in a row, rows in a step


def arguments(description, *, depth, minutes):
    """Return a parser of what each of them takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens")
    parser.add_argument("--held-out", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=minutes, help="of training, in all")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--depth", type=int, default=depth)
    parser.add_argument("--model", help="of the tokens; default: the packaged one")
    return parser


def split(tokens, path):
    """Return utterances to learn from, and those of held-out speakers."""
    with open(path, encoding="utf-8") as file:
        held = {(row["source"], row["speaker"]) for row in csv.DictReader(file, delimiter="\t")}
    pairs = zip(tokens.column("source").to_pylist(), tokens.column("speaker").to_pylist(), strict=True)
    out = np.array([pair in held for pair in pairs])
    return tokens.select(np.flatnonzero(~out).tolist()), tokens.select(np.flatnonzero(out).tolist())


def recordings(archives, wanted):
    """Return waveforms at 16 kHz by id, which is the name in the archive."""
    found = {}
    for archive in archives:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.name in wanted:
                    found[member.name] = load_audio(io.BytesIO(tar.extractfile(member).read()), sample_rate=16000)[0]
    return found


def build(layout, width, depth, codewords=None):
    """Return a small decoder-only transformer; tokens begin at random, or as codewords are; their embeddings are the output's, too."""
    config = LlamaConfig(
        vocab_size=layout.vocabulary.text_size if codewords else layout.vocabulary.size,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=depth,
        num_attention_heads=width // 64,
        max_position_embeddings=4 * ROW,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    if codewords:
        lm.resize_embeddings(model, layout.vocabulary, codewords)
    ends = layout.vocabulary
    model.generation_config.update(pad_token_id=ends.pad, bos_token_id=ends.bos, eos_token_id=ends.eos)
    return model


def standard(table):
    """Return codewords of mean 0 and deviation 1."""
    return (table - table.mean(0)) / table.std()


def both_ways(width, depth, **more):
    """Return a transformer over frames for `see`, whose every frame sees the whole utterance."""
    shape = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": depth, "num_attention_heads": width // 64}
    return LlamaModel(LlamaConfig(vocab_size=1, bos_token_id=None, eos_token_id=None, **shape, **more))


def see(body, x, lengths):
    """Return what such a transformer makes of frames `(batch, frames, width)`, of which so many each are no padding."""
    seen = (torch.arange(x.shape[1]) < lengths[:, None])[:, None, None].expand(-1, 1, x.shape[1], -1)
    return body(inputs_embeds=x, attention_mask=torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))).last_hidden_state


def rows(layout, sequences, size=(ROW, BATCH)):
    """Yield batches of packed rows."""
    packed = lm.pack(layout, sequences, size[0])
    while batch := list(itertools.islice(packed, size[1])):
        yield {name: torch.stack([row[name] for row in batch]) for name in batch[0]}


def losses(model, layout, batch):
    """Return the summed negative log-likelihood and the number of ids for each stream, over what the layout allows where they are."""
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(torch.device("cpu"))):
        mask = lm.block_mask(batch["sequence_ids"])
        hidden = model.model(batch["input_ids"], attention_mask=mask, position_ids=batch["position_ids"]).last_hidden_state
    hidden, labels, table = hidden[:, :-1].float(), batch["labels"][:, 1:], model.lm_head.weight
    vocabulary, found = layout.vocabulary, {}
    ends = [vocabulary.eos, *([vocabulary.kind("transcript").first] if layout.text == "before" else [])]
    for stream in layout.body.streams:
        kind = vocabulary.kind(f"{stream}0")
        first, stop = kind.first, kind.stop
        here, choices, wanted = (labels >= first) & (labels < stop), [table[first:stop]], labels - first
        for end in ends if stream == "s" else ():  # where S may come, so may the end
            here, wanted = here | (labels == end), torch.where(labels == end, sum(map(len, choices)), wanted)
            choices.append(table[end : end + 1])
        logits = hidden[here] @ torch.cat(choices).T
        found[stream] = torch.nn.functional.cross_entropy(logits, wanted[here], reduction="sum"), int(here.sum())
    return found


def train(model, layout, data, run, minutes, size=(ROW, BATCH)):
    """Train on `corpus.Sequences`, or go on, until so many minutes are spent; weights and where the data are lie in the run's folder."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1)
    state = {"seconds": 0.0, "step": 0}
    if (run / "state.json").exists():
        state = json.loads((run / "state.json").read_text())
        model.load_state_dict(load_file(run / "model.safetensors"), strict=False)  # without the output's share of the embeddings
        optimizer.load_state_dict(torch.load(run / "optimizer.pt", weights_only=True))  # noqa: TID251 - of this run
        data.load_state_dict(state["data"])
    model.train()
    begun, saved, before = time.monotonic(), time.monotonic(), state["seconds"]
    while state["seconds"] < 60 * minutes:
        for batch in rows(layout, data, size):
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


def descend(net, examples, loss_of, minutes, *, batch, rate, warmup=1, every=0, **options):
    """Train a network for some minutes on random batches of a list; the learning rate rises for some steps and falls to nothing.

    Every so many steps, if asked to, the loss is printed.
    """
    optimizer = torch.optim.AdamW((p for p in net.parameters() if p.requires_grad), rate, **options)
    begun, spent, step = time.monotonic(), 0.0, 0
    while spent < 1:
        for start in torch.randperm(len(examples)).split(batch):
            spent, step = min(1.0, (time.monotonic() - begun) / (60 * minutes)), step + 1
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, step / warmup) * (1 - spent) + 1e-6
            loss = loss_of(*zip(*(examples[number] for number in start.tolist()), strict=True))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            if every and step % every == 0:
                print(f"step {step}  {spent * minutes:.1f} min  loss {loss.item():.3f}", flush=True)
            if spent == 1:
                break
