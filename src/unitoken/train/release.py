"""A model folder that others are to load: golden tokens to check it by, a card, and the way to a Hub repository."""

import os
from pathlib import Path

from torch import Tensor

from ..audio import save_audio
from ..errors import ModelError
from ..files import replacing
from ..hub import CONFIG, REPOSITORY, WEIGHTS, load_stored
from ..tokenizer import Tokenizer
from ..tokens import TokenBundle

CARD, CLIP, TOKENS = "README.md", "golden.flac", "golden.utok"
MOST_FLIPS = 0.01
"""Share of the golden tokens that another machine's arithmetic may change."""


def write_golden(folder: Path, tokenizer: Tokenizer, clip: Tensor) -> None:
    """Write a clip, as 16-bit FLAC, and the tokens that a model makes of it into the model's folder."""
    save_audio(folder / CLIP, clip.clamp(-1, 1), tokenizer.sample_rate, subtype="PCM_16")
    tokenizer.encode(folder / CLIP).save(folder / TOKENS)


def check_golden(folder: str | os.PathLike[str]) -> dict[str, tuple[int, int]]:
    """Load a model folder and encode its golden clip.

    Returns:
        of each stream, how many tokens are others than the golden ones, and how many there are.

    Raises:
        ModelError: if the folder holds no model or no golden tokens, they are of another model, or more than 1 % of a stream's are others.
        AudioError, TokenFileError: if the golden clip or tokens cannot be read.
    """
    folder = Path(folder)
    if lacking := [name for name in (CLIP, TOKENS) if not (folder / name).is_file()]:
        raise ModelError(f"{folder} has no {' and no '.join(lacking)}, so nobody can tell whether it works; export it with: unitoken train export")
    tokenizer = Tokenizer.from_pretrained(folder)
    golden = TokenBundle.load(folder / TOKENS)
    if golden.info.fingerprint != tokenizer.fingerprint:
        raise ModelError(f"{TOKENS} in {folder} is of the model {golden.info.fingerprint}, the folder holds {tokenizer.fingerprint}; export it again")
    made = tokenizer.encode(folder / CLIP)
    flips = dict[str, tuple[int, int]]()
    for stream in ("s", "p", "g"):
        ours, theirs = getattr(made, stream), getattr(golden, stream)
        if ours.shape != theirs.shape:
            raise ModelError(
                f"{CLIP} in {folder} becomes {tuple(ours.shape)} tokens of {stream}, {TOKENS} has {tuple(theirs.shape)}; export it again"
            )
        flips[stream] = int((ours != theirs).sum()), ours.numel()
    if wrong := {stream: f"{count} of {total}" for stream, (count, total) in flips.items() if count > MOST_FLIPS * total}:
        raise ModelError(f"{folder} makes other tokens of {CLIP} than it should: {wrong}; do not use it, export it again")
    return flips


def write_card(folder: Path, tokenizer: Tokenizer, repository: str) -> None:
    """Write the beginning of a card, which the model's maker has to complete, if the folder has none."""
    if (folder / CARD).exists():
        return
    config = tokenizer.config
    text = f"""---
license: {config.weights_licence.lower()}
library_name: unitoken
tags: [audio, speech, tokenizer, codec]
---
# {config.name}

A speech tokenizer for [unitoken](https://pypi.org/project/unitoken-speech/): S at {config.frame_rate_s} Hz, P at {config.frame_rate_p} Hz,
{config.bitrate} b/s and {config.global_bits} bits an utterance. Fingerprint `{tokenizer.fingerprint}`.

```python
from unitoken import Tokenizer

tokenizer = Tokenizer.from_pretrained("{repository}")
```

Data, training, results and limits: to be told by whoever trained it.
"""
    with replacing(folder / CARD) as temporary:
        temporary.write_text(text, encoding="utf-8")


def publish(folder: str | os.PathLike[str], repository: str, *, private: bool = False, revision: str | None = None, message: str = "") -> str:
    """Push a model folder to a Hub repository, made if it is not there, and load it from there once.

    The folder is checked by its golden tokens first. A card is begun where it has none. Who you are is what `hf auth login` or `HF_TOKEN` say.

    Args:
        folder: what `export_codec` wrote.
        repository: `org/name`.
        private: whether a repository that is made is private.
        revision: branch, made if it is not there; None is the main one.
        message: of the commit; default: the model's name and fingerprint.

    Returns:
        The commit, 40 hex digits: `Tokenizer.from_pretrained(repository, revision=commit)`.

    Raises:
        ModelError: if `repository` is no such name, `check_golden` finds something wrong, the Hub refuses, or what comes back is another model.
    """
    folder = Path(folder)
    if not REPOSITORY.fullmatch(repository):
        raise ModelError(f"a Hub repository is named org/name, got {repository!r}")
    check_golden(folder)
    tokenizer = Tokenizer.from_pretrained(folder)
    write_card(folder, tokenizer, repository)
    commit = _upload(folder, repository, private, revision, message or f"{tokenizer.config.name} {tokenizer.fingerprint}")
    if (came := load_stored(repository, revision=commit).fingerprint) != tokenizer.fingerprint:
        raise ModelError(f"{repository} at {commit} gives the model {came}, pushed was {tokenizer.fingerprint}; push it again")
    return commit


def _upload(folder: Path, repository: str, private: bool, revision: str | None, message: str) -> str:
    from huggingface_hub import HfApi  # only a Hub name needs it

    hub, files = HfApi(), [CONFIG, WEIGHTS, CARD, CLIP, TOKENS]
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        if revision is not None:
            hub.create_branch(repository, branch=revision, exist_ok=True)
        done = hub.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=files, revision=revision, commit_message=message)
    except Exception as error:  # the client and its HTTP library raise dozens of kinds, others in each major version
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise ModelError(f"{folder} could not be pushed to {repository!r} ({why}); if it is about who you are, log in with: hf auth login") from error
    return str(done.oid)
