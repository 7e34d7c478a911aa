"""Your own recordings for the decoder of a model, while its tokens stay what they are."""

import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import TrainError
from ..hub import build_codec, load_stored, save_stored
from .examples import ExampleMaker, ReconstructionSettings
from .loop import descend
from .pitch import PitchCache, compute_pitch
from .pool_files import build_pool
from .reconstruction import Reconstructor
from .semantic_tokens import SemanticTokens, tokenize_pool
from .successors import decodes


def fine_tune(
    recordings: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    steps: int = 200,
    batch: int = 4,
    learning_rate: float = 1e-4,
    seed: int = 0,
    report: Callable[[int, Mapping[str, Tensor]], None] = lambda step, losses: None,
) -> str:
    """Train a model's decoder on recordings and save the result as a new model.

    Encoders and codebooks stay, so the new model encodes as the old one does, and decodes its bundles.

    Args:
        recordings: a folder with one folder of audio files for each speaker, and nothing else.
        output: folder of the new model; what it learnt from lies in `data` below.
        model: what to start from, as `Tokenizer.from_pretrained` takes it; None is the packaged model.
        steps: training steps.
        batch: utterances a step.
        learning_rate: of AdamW, the same at all steps.
        seed: of the order of the data.
        report: called after each step with its number, from 0, and the losses, scalars by name.

    Returns:
        the new model's fingerprint.

    Raises:
        TrainError: if there are no recordings, the model's semantic quantizer is not one codebook, or a loss is no longer finite.
        AudioFileError: if a recording cannot be decoded.
        ModelError: if there is no such model, or the folder cannot be written.
        MissingDependencyError: without the extra `[train]`.
    """
    recordings, data = Path(recordings), Path(output) / "data"
    paths = sorted(path for path in recordings.glob("*/*") if path.is_file())
    if not paths:
        raise TrainError(f"{recordings} holds no recordings; put the audio files of each speaker into a folder of their own below it")
    stored = load_stored(model)
    if (kind := stored.config.semantic.quantizer.kind) != "vq":
        raise TrainError(f"the semantic quantizer of {stored.config.name} is {kind}; models with kind vq can be tuned, train others with the stages")
    codec = build_codec(stored)
    data.mkdir(parents=True, exist_ok=True)
    with tarfile.open(data / "audio.tar", "w") as tar:
        for path in paths:
            tar.add(path, path.relative_to(recordings).as_posix())
    rows = [f"{path.relative_to(recordings).as_posix()}\town\t{path.parent.name}\tund\t\n" for path in paths]
    (data / "manifest.tsv").write_text("path\tsource\tspeaker\tlanguage\ttranscript\n" + "".join(rows), encoding="utf-8")
    pool = build_pool(data / "manifest.tsv", [data / "audio.tar"], data)
    tokenize_pool(codec, codec.quantizer_s.codewords()[0], pool, data)
    compute_pitch(pool, data)
    settings = ReconstructionSettings(batch=batch)
    tokens, pitch = SemanticTokens(data, pool, codec.config.hop_s), PitchCache(data, pool)
    maker = ExampleMaker(pool, pool.utterances, tokens, pitch, codec.config, settings, noise=None, seed=seed)
    learner = Reconstructor(codec, settings, autocast=False).eval().requires_grad_(False)  # in eval mode no codebook moves
    optimizer = torch.optim.AdamW(codec.decoder.requires_grad_(True).parameters(), lr=learning_rate)
    for step in range(steps):
        losses, _, _ = learner(maker.make(step), torch.Generator().manual_seed(seed * 1_000_003 + step))
        descend(optimizer, learner.total(losses), step)
        report(step, {name: value.detach() for name, value in losses.items()})
    config, state = replace(codec.config, name=f"{codec.config.name}-tuned"), codec.state_dict()
    return save_stored(output, config, state, dtype=stored.dtype, decodes=decodes(stored, config, state))
