"""Text models and text tokenizers of transformers that learn to read and write speech tokens as well."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from .vocabulary import Vocabulary


@torch.no_grad()
def resize_embeddings(model: Any, vocabulary: Vocabulary, codewords: Mapping[str, Tensor] | None = None, *, seed: int = 0) -> None:
    """Give a causal model of transformers as many ids as a vocabulary has; text's keep their embeddings.

    New rows of the input and the output embeddings are drawn around the mean of the old ones, with their deviation. Where codewords are given, the
    rows of their tokens are these, turned at random into the model's dimensions, at the same deviation: tokens that sound alike begin alike.

    Args:
        model: with `resize_token_embeddings`; changed in place.
        vocabulary: with text first, as many ids of it as the model knows or fewer (models pad their embeddings).
        codewords: by stream, float32 `(codebooks, codebook_size, dim)`, such as `{"s": tok.codewords("s")}`.
        seed: of what is drawn; no other random state is touched.

    Raises:
        ConfigError: if text is not first, the model knows fewer ids than it, or codewords are of another shape.
    """
    known = model.get_input_embeddings().weight.shape[0]
    if not vocabulary.text_first or vocabulary.text_size > known:
        where = "" if vocabulary.text_first else ", which is not first"
        raise ConfigError(
            f"the model has embeddings of {known} ids, the vocabulary {vocabulary.text_size} of text{where}; "
            "build it with text_size=len(text_tokenizer)"
        )
    for stream, table in (codewords or {}).items():
        books = [kind.size for kind in vocabulary.kinds if kind.stream == stream]
        if table.ndim != 3 or list(table.shape[:1]) != [len(books)] or any(size != table.shape[1] for size in books):
            raise ConfigError(
                f"codewords of {stream!r} must have the shape ({len(books)}, {books[0] if books else 0}, dim), got {tuple(table.shape)}"
            )
    with torch.random.fork_rng(devices=[]):  # new rows are drawn once more below
        model.resize_token_embeddings(vocabulary.size, mean_resizing=False)
    generator = torch.Generator().manual_seed(seed)
    tables = {id(layer): layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer is not None}
    for weight in {weight.data_ptr(): weight for weight in tables.values()}.values():  # one if input and output share it
        old = weight[: vocabulary.text_size].float().cpu()
        mean, deviation = (old.mean(0), float(old.std())) if len(old) > 1 else (torch.zeros(weight.shape[1]), 0.02)
        rows = mean + deviation * torch.randn(vocabulary.size - vocabulary.text_size, weight.shape[1], generator=generator)
        for stream, table in (codewords or {}).items():
            for kind in vocabulary.kinds:
                if kind.stream == stream:
                    start = kind.first - vocabulary.text_size
                    rows[start : start + kind.size] = mean + deviation * _turned(table[kind.codebook].float().cpu(), weight.shape[1], generator)
        weight[vocabulary.text_size :] = rows.to(weight)


def _turned(codewords: Tensor, dim: int, generator: torch.Generator) -> Tensor:
    """Return codewords `(size, dims)` in other dimensions, at zero mean and unit deviation; distances keep their proportions if these suffice."""
    centred = codewords - codewords.mean(0)
    turn = torch.linalg.qr(torch.randn(max(dim, centred.shape[1]), max(dim, centred.shape[1]), generator=generator)).Q
    turned = centred @ turn[: centred.shape[1], :dim]
    return turned / turned.std().clamp(min=1e-12)


def add_strings(tokenizer: Any, vocabulary: Vocabulary) -> None:
    """Give a text tokenizer of transformers a string for each speech id, such as `<|s0_17|>`, so that text can hold them.

    That is slow to load and to read and only for programs that pass text around: a model needs the ids alone.

    Args:
        tokenizer: with `add_tokens`; changed in place.
        vocabulary: with text first, of as many ids as the tokenizer has.

    Raises:
        ConfigError: if the ids would be others.
    """
    if not vocabulary.text_first or vocabulary.text_size != len(tokenizer):
        raise ConfigError(
            f"the tokenizer has {len(tokenizer)} ids, the vocabulary {vocabulary.text_size} of text; build it with text_size=len(tokenizer)"
        )
    strings = vocabulary.strings()
    taken = [string for string in strings if tokenizer.convert_tokens_to_ids(string) not in (None, tokenizer.unk_token_id)]
    if taken:
        raise ConfigError(f"the tokenizer knows {taken[0]!r} already; take one to which speech was not added")
    tokenizer.add_tokens(strings, special_tokens=True)
