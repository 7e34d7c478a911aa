"""Release folders, checked before anybody loads them, and large files in pieces."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError, TrainError
from ..files import replacing
from ..hub import Stored, save_stored
from ..model.codec import Codec
from ..tokenizer import Tokenizer
from .release import check_golden, write_golden
from .successors import decodes

PIECES = ".pieces.json"


def export_codec(codec: Codec, folder: str | os.PathLike[str], *, name: str, clip: Tensor | None = None, same_tokens_as: Stored | None = None) -> str:
    """Write a codec as the folder that `Tokenizer.from_pretrained` reads, and check that it encodes as the codec in memory does.

    Weights are rounded to float16; the tokens compared are those of the rounded codec. The clip and its tokens stay beside the model, for
    `release.check_golden`.

    Args:
        codec: on any device; unchanged.
        folder: made if missing; a model in it is replaced.
        name: of the model, in its configuration.
        clip: float32 `(samples,)` at the codec's rate for the check; None takes 3 s of noise from a fixed seed.
        same_tokens_as: the model whose decoder alone was trained further: its bundles are decoded, too.

    Returns:
        The fingerprint.

    Raises:
        ModelError: if a weight is not finite, or the model that was read back makes other tokens, or if the encoders and codebooks are not those of
            `same_tokens_as`.
    """
    config = dataclasses.replace(codec.config, name=name)
    rounded = {key: value.detach().cpu() for key, value in codec.state_dict().items()}
    rounded = {key: value.half().float() if value.is_floating_point() else value.clone() for key, value in rounded.items()}
    fingerprint = save_stored(folder, config, rounded, decodes=decodes(same_tokens_as, config, rounded) if same_tokens_as else ())
    loaded = Tokenizer.from_pretrained(Path(folder))
    if loaded.fingerprint != fingerprint:
        raise ModelError(f"{folder} was read back with the fingerprint {loaded.fingerprint}, written was {fingerprint}; export it again")
    if clip is None:
        clip = 0.1 * torch.randn(3 * config.sample_rate, generator=torch.Generator().manual_seed(0))
    here, there = (tokenizer.encode(clip, sample_rate=config.sample_rate) for tokenizer in (Tokenizer(Stored(config, rounded, fingerprint)), loaded))
    if here != there:
        raise ModelError(f"{folder} encodes a clip of {len(clip)} samples into other tokens than the codec it was made of; do not use it")
    write_golden(Path(folder), loaded, clip)
    check_golden(folder)
    return fingerprint


def split_file(path: str | os.PathLike[str], max_part_mb: float, folder: str | os.PathLike[str] | None = None) -> Path:
    """Cut a file into pieces, none larger than asked for, with a list of their SHA-256 sums; the file itself stays.

    Args:
        path: any file, such as a checkpoint.
        max_part_mb: largest piece, in units of 1,000,000 bytes.
        folder: where to write; None is beside the file.

    Returns:
        The list, `NAME.pieces.json`, which `join_parts` takes. It is written last.

    Raises:
        TrainError: if there is no such file, or the size is less than a byte.
    """
    path, limit = Path(path), int(max_part_mb * 1e6)
    if not path.is_file():
        raise TrainError(f"{path} is no file that could be cut into pieces")
    if limit < 1:
        raise TrainError(f"a piece must hold a byte at least, got max_part_mb={max_part_mb}")
    folder = path.parent if folder is None else Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    whole, pieces = hashlib.sha256(), list[dict[str, str | int]]()
    with path.open("rb") as file:
        while data := file.read(limit):
            whole.update(data)
            piece = folder / f"{path.name}.{len(pieces):03d}"
            with replacing(piece) as temporary:
                temporary.write_bytes(data)
            pieces.append({"name": piece.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    listed = folder / (path.name + PIECES)
    text = json.dumps({"name": path.name, "sha256": whole.hexdigest(), "pieces": pieces}, indent=2)
    with replacing(listed) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return listed


def join_parts(listed: str | os.PathLike[str], target: str | os.PathLike[str] | None = None) -> Path:
    """Put a file together again from the pieces beside their list.

    Args:
        listed: what `split_file` returned.
        target: file to write; None is the old name, beside the pieces.

    Returns:
        The file. It appears only when all pieces are right.

    Raises:
        TrainError: if the list is none, or a piece is missing or damaged; the message names it.
    """
    listed = Path(listed)
    content = _list_of_pieces(listed)
    path = listed.parent / content["name"] if target is None else Path(target)
    with replacing(path) as temporary:
        _join(listed, content, temporary)
    return path


def _list_of_pieces(listed: Path) -> dict[str, Any]:
    try:
        content = json.loads(listed.read_text(encoding="utf-8"))
        names = [content["name"], *(piece["name"] for piece in content["pieces"])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainError(f"{listed} is no list of pieces ({type(error).__name__}: {error}); give the file *{PIECES}") from error
    if outside := [name for name in names if Path(name).name != name]:
        raise TrainError(f"{listed} names files outside its folder: {outside[:3]}; such a list is not followed")
    return content


def _join(listed: Path, content: dict[str, Any], target: Path) -> None:
    whole = hashlib.sha256()
    with target.open("wb") as file:
        for piece in content["pieces"]:
            path = listed.parent / piece["name"]
            if not path.is_file():
                raise TrainError(f"{path} is missing; all {len(content['pieces'])} pieces must lie beside {listed.name}")
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != piece["sha256"]:
                raise TrainError(f"{path} is damaged: its SHA-256 is not the one in {listed.name}; copy it again")
            whole.update(data)
            file.write(data)
    if whole.hexdigest() != content["sha256"]:
        raise TrainError(f"{listed} is damaged: its pieces are right, the whole is not; copy the list again")
