"""Where models live: inside the package, in a folder, or in a Hub repository. Nothing else in unitoken touches network, cache or safetensors.

A model is a folder of two files: `model.safetensors`, and `config.json` with the format version, the codec's configuration and the SHA-256 of
the weights, which is checked at every load.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from .config import CodecConfig
from .errors import ConfigError, ModelError
from .files import replacing
from .model.codec import Codec

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT_VERSION = 1
DEFAULT_MODEL = "small-4"
WEIGHTS_ROOT = Path(__file__).parent / "weights"  # one folder for each packaged model

_CONFIG_KEYS = {"format_version", "codec", "sha256"}
_DECODES = "decodes"  # only where there are some
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_SHOWN = 3  # names listed in an error before "and more"


@dataclass(frozen=True, eq=False)
class Stored:
    """One model as it lies on disk.

    Attributes:
        config: what the model is built from.
        state: the weights by name, on the CPU, in the data type they are stored in (float16 or float32; integers as they are).
        fingerprint: 32 hex digits that stand for the stored configuration and weights; tokens of another fingerprint mean something else.
        codec: the configuration as it is stored, which may lack fields that came later; None if it does not come from a file.
        decodes: fingerprints of other models whose bundles it decodes, see `train.successors`; they are not part of its own fingerprint.
    """

    config: CodecConfig
    state: dict[str, Tensor]
    fingerprint: str
    codec: Mapping[str, Any] | None = None
    decodes: tuple[str, ...] = ()

    @property
    def dtype(self) -> torch.dtype:
        """What its floating-point weights are stored as: float16 or float32."""
        return torch.float16 if any(value.dtype == torch.float16 for value in self.state.values()) else torch.float32


def available_models() -> tuple[str, ...]:
    """Return the names of the models that came with the package, sorted; each loads without network."""
    return tuple(sorted(path.parent.name for path in WEIGHTS_ROOT.glob(f"*/{CONFIG}")))


def load_stored(name_or_path: str | os.PathLike[str] | None = None, *, revision: str | None = None, local_files_only: bool = False) -> Stored:
    """Read a model and check that its weights are the ones its configuration names.

    A packaged name comes first, then a folder, then the Hub: only a name like `org/name` that is no folder can reach the network.

    Args:
        name_or_path: name of a packaged model, a folder, or a Hub repository `org/name`; None means the default packaged model.
        revision: branch, tag or commit of a Hub repository; None means its main branch.
        local_files_only: take a Hub repository from the local cache, without network.

    Returns:
        The configuration, weights and fingerprint. Both files of a Hub repository are of one commit.

    Raises:
        ModelError: if there is no such model, a file is missing, damaged or of another format version, or the download fails.
        ConfigError: if the stored configuration cannot be built.
    """
    text = DEFAULT_MODEL if name_or_path is None else os.fspath(name_or_path)
    if not isinstance(name_or_path, os.PathLike) and text in available_models():
        folder, remedy = WEIGHTS_ROOT / text, "install the package again: pip install --force-reinstall unitoken-speech"
    elif text and Path(text).is_dir():
        folder, remedy = Path(text), "copy or export the whole folder again"
    elif isinstance(name_or_path, str) and REPOSITORY.fullmatch(text):
        folder = _download(text, revision, local_files_only)
        return _read_folder(folder, f"delete {folder.parent.parent} and load again; if that does not help, the repository itself is damaged")
    else:
        packaged = ", ".join(available_models()) or "none"
        raise ModelError(f"unknown model {text!r}; packaged models: {packaged}; a folder or a Hub repository 'org/name' works too")
    if revision is not None:
        raise ModelError(f"revision {revision!r} was given, but {text!r} is no Hub repository and has one version only; leave revision out")
    return _read_folder(folder, remedy)


def save_stored(
    folder: str | os.PathLike[str],
    config: CodecConfig,
    state: Mapping[str, Tensor],
    *,
    dtype: torch.dtype = torch.float16,
    codec: Mapping[str, Any] | None = None,
    decodes: Iterable[str] = (),
) -> str:
    """Write a model to a folder that `load_stored` reads.

    Each file is finished under a temporary name and then renamed, the weights first: an interrupted call never leaves a model that loads and is
    wrong. Equal input gives equal bytes.

    Args:
        folder: made if it does not exist; a model in it is replaced.
        config: what the model was built from.
        state: the weights by name, on any device; floating-point tensors are stored as `dtype`, others as they are.
        dtype: float16 or float32.
        codec: `Stored.codec` of a loaded model, so that its copy has its fingerprint; None takes `config` with all its fields.
        decodes: fingerprints of other models whose bundles it decodes.

    Returns:
        The fingerprint: 32 hex digits.

    Raises:
        ModelError: if `dtype` is neither, a tensor holds values that are not finite as `dtype`, or the folder cannot be written.
    """
    if dtype not in (torch.float16, torch.float32):
        raise ModelError(f"weights are stored as torch.float16 or torch.float32, got {dtype}; choose one of them")
    data = safetensors.torch.save({name: _stored_tensor(name, tensor, dtype) for name, tensor in state.items()})
    digest = hashlib.sha256(data).hexdigest()
    kept: dict[str, Any] = json.loads(config.to_json()) if codec is None else dict(codec)
    layout: dict[str, Any] = {"format_version": FORMAT_VERSION, "codec": kept, "sha256": {WEIGHTS: digest}}
    if others := list(decodes):
        layout[_DECODES] = others
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        _write(Path(folder) / WEIGHTS, data)
        _write(Path(folder) / CONFIG, (json.dumps(layout, indent=2) + "\n").encode())
    except OSError as error:
        raise ModelError(
            f"cannot write a model to {os.fspath(folder)}: {error.strerror or error}; give a folder that can be made and written"
        ) from error
    return _fingerprint(kept, digest)


def check_keys(expected: Iterable[str], got: Iterable[str], where: str) -> None:
    """Refuse names that are missing or too many.

    Args:
        expected: the names that must be there.
        got: the names that are there.
        where: what is being checked; begins the error text.

    Raises:
        ModelError: naming up to three missing and three unexpected names.
    """
    want, have = set(expected), set(got)
    differences = (("missing", sorted(want - have)), ("unexpected", sorted(have - want)))
    if problems := [f"{len(names)} {kind} ({_some(names)})" for kind, names in differences if names]:
        raise ModelError(
            f"{where} do not match: {', '.join(problems)}; use the two files of one model, and the release that wrote them or a newer one"
        )


def load_into(module: torch.nn.Module, stored: Stored) -> None:
    """Copy stored weights into a module, cast to the data types it was built with (float32); names and shapes must be exactly the module's.

    Raises:
        ModelError: if a name is missing or unexpected, or a shape differs; the module is then unchanged.
    """
    where = f"weights of {stored.config.name!r}"
    expected: dict[str, Tensor] = module.state_dict()
    check_keys(expected, stored.state, where)
    shapes = {name: (tuple(tensor.shape), tuple(stored.state[name].shape)) for name, tensor in expected.items()}
    if wrong := [f"{name} is {got}, the model needs {want}" for name, (want, got) in shapes.items() if got != want]:
        raise ModelError(f"{where} have wrong shapes: {_some(wrong)}; weights and configuration must come from the same model")
    module.load_state_dict(stored.state)


def build_codec(stored: Stored) -> Codec:
    """Return a stored codec, float32 on the CPU, in training mode.

    Raises:
        ModelError: if the weights do not fit the configuration.
    """
    codec = Codec(stored.config)
    load_into(codec, stored)
    return codec


def _some(items: list[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _fingerprint(codec: Mapping[str, Any], digest: str) -> str:
    """Hash the configuration as it is stored: fields that a later release adds do not change the fingerprint of a model from before."""
    canonical = json.dumps(codec, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{FORMAT_VERSION}\n{canonical}\n{digest}".encode()).hexdigest()[:32]


def _stored_tensor(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    target = dtype if tensor.is_floating_point() else tensor.dtype
    stored = tensor.detach().to("cpu", target, copy=True, memory_format=torch.contiguous_format)
    if not stored.isfinite().all():
        cause = f"too large for {dtype}, store it as torch.float32" if tensor.isfinite().all() else "NaN or infinite, mend the model first"
        raise ModelError(f"weight {name!r} has values that cannot be stored: {cause}")
    return stored


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _read_folder(folder: Path, remedy: str) -> Stored:
    """Read both files; weights are hashed and parsed from the same bytes, so a file replaced meanwhile cannot slip through."""
    layout = _parse_config(folder / CONFIG, _read(folder / CONFIG))
    data = _read(folder / WEIGHTS)
    expected, got = layout["sha256"][WEIGHTS], hashlib.sha256(data).hexdigest()
    if got != expected:
        raise ModelError(f"{folder / WEIGHTS} is not the file that {CONFIG} names: expected sha256 {expected}, got {got}; {remedy}")
    try:
        config = CodecConfig.from_json(json.dumps(layout["codec"]))
    except ConfigError as error:
        raise ConfigError(f"{folder / CONFIG}: {error}") from error
    try:
        state = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ModelError(f"{folder / WEIGHTS} is no safetensors file ({error}); {remedy}") from error
    return Stored(config, state, _fingerprint(layout["codec"], got), layout["codec"], tuple(layout.get(_DECODES, ())))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{path.parent} holds no {path.name}; a model folder holds {CONFIG} and {WEIGHTS}") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error}); a model folder holds the files {CONFIG} and {WEIGHTS}") from error


def _parse_config(path: Path, data: bytes) -> dict[str, Any]:
    """Check the layout around the codec's configuration; the version comes first, since another one may have other keys."""
    try:
        layout = json.loads(data)
    except ValueError as error:
        raise ModelError(f"{path} is no JSON: {error}") from error
    if not isinstance(layout, dict) or "format_version" not in layout:
        raise ModelError(f"{path} has no format_version, so it is not the configuration of a unitoken model; give the folder that save_stored wrote")
    if (version := layout["format_version"]) != FORMAT_VERSION:
        advice = "a newer release may read it: pip install --upgrade unitoken-speech"
        raise ModelError(f"{path} has format_version {version!r}, this release reads {FORMAT_VERSION}; {advice}")
    check_keys(_CONFIG_KEYS, layout.keys() - {_DECODES}, f"keys of {path}")
    others: Any = layout.get(_DECODES, [])
    if not isinstance(others, list) or not all(isinstance(other, str) and re.fullmatch("[0-9a-f]+", other) for other in others):
        raise ModelError(f"{path} must list fingerprints in lower-case hex digits as {_DECODES}, got {others!r}; export the model again")
    hashes: Any = layout["sha256"]
    if not isinstance(hashes, dict) or WEIGHTS not in hashes:
        raise ModelError(f"{path} gives no sha256 of {WEIGHTS}, got {hashes!r}; weights without a hash are not loaded, export the model again")
    return layout


def _download(repository: str, revision: str | None, local_files_only: bool) -> Path:
    """Return the cached snapshot that holds both files; the weights are asked for by the commit that gave the configuration."""
    config = _fetch(repository, CONFIG, revision, local_files_only)
    weights = _fetch(repository, WEIGHTS, config.parent.name, local_files_only)
    if weights.parent != config.parent:
        got = f"{CONFIG} is of commit {config.parent.name}, {WEIGHTS} of {weights.parent.name}"
        raise ModelError(f"the Hub gave files of two commits of {repository!r}: {got}; load again, or name a commit with revision=")
    return config.parent


def _fetch(repository: str, file: str, revision: str | None, local_files_only: bool) -> Path:
    from huggingface_hub import hf_hub_download  # only a Hub name needs it

    try:
        return Path(hf_hub_download(repository, file, revision=revision, local_files_only=local_files_only))
    except Exception as error:  # the client and its HTTP library raise dozens of kinds, others in each major version
        place = f"{repository!r} at revision {revision or 'main'!r}"
        raise ModelError(_reason(error, file, place, local_files_only)) from error


def _reason(error: Exception, file: str, place: str, local_files_only: bool) -> str:
    """Say why a file did not come; the order matters, since some of these classes derive from others."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):
        why = "local_files_only=True forbids the network" if local_files_only else "the Hub cannot be reached"
        return (
            f"{file} of {place} is not in the local cache and {why}; load it once with network, or copy the model folder and give its path "
            "(there is no folder of that name here)"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"no model {place}: no folder of that name here, and no Hub repository that you may read; check the name, or log in with: hf auth login"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"no model {place}: the repository has no such revision; give one of its branches, tags or commits"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{place} holds no {file}, so it is no unitoken model; a model repository holds {CONFIG} and {WEIGHTS}"
    return f"{file} of {place} could not be downloaded ({type(error).__name__}: {error}); check the name and the network, then load again"
