"""Out of a corpus again: audio, JSONL, WebDataset, and ids for Megatron."""

import io
import json
import os
import struct
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import save_audio
from ..errors import CorpusError
from ..files import replacing
from ..lm import Interleaved, Layout, Vocabulary
from ..tokenizer import Tokenizer
from .reader import Corpus, Utterance
from .sequences import check_layout
from .shard import STREAMS

SHARD_BYTES = 1 << 28


def decode_corpus(corpus: Corpus, tokenizer: Tokenizer, folder: str | os.PathLike[str], *, suffix: str = ".flac") -> Iterator[Path]:
    """Decode utterances to audio files named by their ids, and yield each path when it is written; files that are there stay.

    Args:
        corpus: or a part of one.
        tokenizer: that made the tokens.
        folder: made if missing.
        suffix: `.wav`, `.flac`, `.ogg`, `.opus` or `.mp3`.

    Raises:
        CorpusError: if two ids become one path, or one leads out of the folder.
        TokenError: if another tokenizer made the tokens.
    """
    targets = _targets(corpus.ids, Path(folder), suffix)
    for utterance in corpus:
        target = targets[utterance.id]
        if not target.exists():
            waveform = tokenizer.decode_blocks(utterance.bundle)
            target.parent.mkdir(parents=True, exist_ok=True)
            save_audio(target, waveform, tokenizer.sample_rate)
        yield target


def write_jsonl(corpus: Corpus, path: str | os.PathLike[str]) -> int:
    """Write a line of JSON for each utterance, with its columns; the hash of its source in hex. Returns how many."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for utterance in corpus:
            file.write(json.dumps(plain(utterance), ensure_ascii=False) + "\n")
    return len(corpus)


def write_webdataset(corpus: Corpus, folder: str | os.PathLike[str], *, shard_bytes: int = SHARD_BYTES) -> list[Path]:
    """Write tar archives as WebDataset reads them, and return their paths: of each utterance `.utok`, and its other columns as `.json`.

    Args:
        corpus: or a part of one.
        folder: made if missing.
        shard_bytes: of an archive, about.

    Raises:
        CorpusError: if there are archives already.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if there := sorted(folder.glob("tokens-*.tar")):
        raise CorpusError(f"{there[0]} is there already; give an empty folder")
    keys, made, waiting = set[str](), list[Path](), iter(corpus)
    utterance = next(waiting, None)
    while utterance is not None:
        with replacing(path := folder / f"tokens-{len(made):05}.tar") as temporary, tarfile.open(temporary, "w") as tar:
            while utterance is not None and tar.offset < shard_bytes:
                key = utterance.id.replace(".", "_")  # a key ends at the first dot
                if key in keys:
                    raise CorpusError(f"the id {utterance.id!r} is another's when its dots are made underscores; WebDataset's keys have no dots")
                keys.add(key)
                _add(tar, f"{key}.utok", utterance.bundle.to_bytes())
                about = {name: value for name, value in plain(utterance).items() if name not in STREAMS}
                _add(tar, f"{key}.json", json.dumps(about, ensure_ascii=False, sort_keys=True).encode())
                utterance = next(waiting, None)
        made.append(path)
    return made


def write_megatron(corpus: Corpus, prefix: str | os.PathLike[str], layout: Layout | None = None) -> int:
    """Write `PREFIX.bin` and `PREFIX.idx` as Megatron-LM's indexed datasets have them, a document an utterance, and `PREFIX.layout.json` beside them.

    Args:
        corpus: or a part of one.
        prefix: path without suffix; its folder must exist.
        layout: how tokens are written, without text; None for G, then S and P in turn.

    Returns:
        how many ids were written. Vocabularies of up to 65,499 ids take two bytes each, as in Megatron-LM, larger ones four.

    Raises:
        CorpusError: if the layout is of another tokenizer, or has text.
    """
    layout = layout or Layout(Vocabulary(corpus.info), Interleaved())
    check_layout(corpus, layout)
    if layout.text != "none":
        raise CorpusError(f"a layout with text={layout.text!r} needs words for each utterance; take one without text, or corpus.Sequences")
    prefix = Path(prefix)
    kind, code = (np.uint16, 8) if layout.vocabulary.size < 65500 else (np.int32, 4)
    lengths, names = list[int](), [prefix.with_name(prefix.name + suffix) for suffix in (".bin", ".idx")]
    with replacing(names[0]) as data, replacing(names[1]) as index:
        with data.open("wb") as file:
            for utterance in corpus:
                ids = layout.to_ids(utterance.bundle)
                file.write(ids.astype(kind).tobytes())
                lengths.append(len(ids))
        ends = np.cumsum([0, *lengths], dtype=np.int64)
        with index.open("wb") as file:
            file.write(b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, code, len(lengths), len(lengths) + 1))
            file.write(np.asarray(lengths, np.int32).tobytes())
            file.write((ends[:-1] * np.dtype(kind).itemsize).tobytes())
            file.write(np.arange(len(lengths) + 1, dtype=np.int64).tobytes())
    layout.save(prefix.with_name(prefix.name + ".layout.json"))
    return int(ends[-1])


def plain(utterance: Utterance) -> dict[str, Any]:
    """Return an utterance's columns as JSON has them, bytes in hex."""
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in utterance.items()}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _targets(ids: Sequence[str], folder: Path, suffix: str) -> dict[str, Path]:
    """Return where each utterance is decoded to: its id, with the suffix in the place of its own."""
    targets, makers = dict[str, Path](), dict[Path, str]()
    for id_ in ids:
        target = folder / id_
        target = target.with_name(target.stem + suffix if "." in target.name else target.name + suffix)
        if folder.resolve() not in target.resolve().parents:
            raise CorpusError(f"the id {id_!r} leads out of {folder}; rename it, or decode utterance by utterance")
        if (other := makers.setdefault(target, id_)) != id_:
            raise CorpusError(f"{other!r} and {id_!r} would both become {target}; decode them into two folders")
        targets[id_] = target
    return targets
