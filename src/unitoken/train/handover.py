"""What one stage leaves to the next: a run folder knows its codec's configuration, and becomes a student or a codec again.

A run folder holds `codec.json` beside its checkpoint; a codec folder is what `hub.save_stored` writes. `load_codec` takes either.
"""

import os
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..config import CodecConfig
from ..errors import TrainError
from ..files import replacing
from ..hub import CONFIG as STORED
from ..hub import build_codec, load_stored
from ..model.codec import Codec
from ..presets import PRESETS, preset
from .semantic import SemanticStudent, check_codebook

CONFIG, AVERAGE = "codec.json", "average.safetensors"
PREFIXES = {"reconstruction": "codec.", "adversarial": "rebuilder.codec."}
"""Where the codec's weights lie in the checkpoint of each stage that has a whole codec."""
STUDENT, CODEBOOK = "student.", "trainer.quantizer.codebook"
"""Where the student's weights and its codebook lie in the checkpoint of the refine stage."""


def read_config(name_or_path: str | os.PathLike[str]) -> CodecConfig:
    """Return a preset by its name, or the configuration in a JSON file.

    Raises:
        TrainError: if it is neither.
        ConfigError: if the file holds no valid configuration.
    """
    name = os.fspath(name_or_path)
    if name in PRESETS:
        return preset(name)
    if not Path(name).is_file():
        raise TrainError(f"{name} is no configuration; give one of {', '.join(PRESETS)}, or a JSON file")
    return CodecConfig.from_json(Path(name).read_text(encoding="utf-8"))


def keep_config(run: Path, config: CodecConfig) -> None:
    """Write the configuration into a run folder, if it is not there already.

    Raises:
        TrainError: if the folder is another configuration's run.
    """
    run.mkdir(parents=True, exist_ok=True)
    path = run / CONFIG
    if not path.is_file():
        with replacing(path) as temporary:
            temporary.write_text(config.to_json() + "\n", encoding="utf-8")
    elif CodecConfig.from_json(path.read_text(encoding="utf-8")) != config:
        raise TrainError(f"{run} is a run of another configuration ({path.name} differs); choose another folder")


def config_of(run: Path) -> CodecConfig:
    """Return the configuration that `keep_config` wrote.

    Raises:
        TrainError: if the folder has none.
    """
    if not (run / CONFIG).is_file():
        raise TrainError(
            f"{run} has no {CONFIG}, so nobody knows what was trained in it; give the run folder of a training stage, or a configuration"
        )
    return CodecConfig.from_json((run / CONFIG).read_text(encoding="utf-8"))


def averaged_state(run: Path, prefix: str = "") -> dict[str, Tensor]:
    """Return the averaged weights of a run whose names begin with a prefix, without it.

    Raises:
        TrainError: if the folder holds no checkpoint.
    """
    if not (run / AVERAGE).is_file():
        raise TrainError(f"{run} holds no checkpoint ({AVERAGE} is missing); train for a few minutes first")
    return {name.removeprefix(prefix): value for name, value in load_file(run / AVERAGE).items() if name.startswith(prefix)}


def heads_of(folder: Path) -> dict[str, Tensor] | None:
    """Return the averaged weights of a run, or None for a folder that holds a codec only: its training begins with heads of its own.

    Raises:
        TrainError: if the folder holds neither.
    """
    return None if (folder / STORED).is_file() else averaged_state(folder)


def load_student(run: str | os.PathLike[str], config: CodecConfig | None = None) -> SemanticStudent:
    """Return the student of a run of the semantic or refine stage, with averaged weights.

    Args:
        run: its folder.
        config: needed only where the folder has no `codec.json`.

    Raises:
        TrainError: if the folder holds no checkpoint, or of another stage or configuration.
    """
    student = SemanticStudent(config or config_of(Path(run)))
    try:
        student.load_state_dict(averaged_state(Path(run), STUDENT) or averaged_state(Path(run)))
    except RuntimeError as error:
        raise TrainError(f"{run} is no semantic run of this configuration ({error})") from error
    return student.eval()


def trained_codebook(run: str | os.PathLike[str]) -> Tensor | None:
    """Return the codebook, float32 `(size, dim)`, that a run of the refine stage has trained; None for a semantic run, which has none yet.

    Raises:
        TrainError: if the folder holds no checkpoint.
    """
    return averaged_state(Path(run)).get(CODEBOOK)


def join_codec(student: SemanticStudent, codebook: Tensor, *, seed: int = 0) -> Codec:
    """Return a codec with the student's semantic encoder, a codebook for it, and everything else as it is before training.

    Args:
        student: of the semantic stage.
        codebook: float32 `(size, dim)`.
        seed: of the untrained parts.

    Raises:
        TrainError: if the configuration's semantic quantizer is not one codebook.
    """
    check_codebook(student.config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        codec = Codec(student.config)
    codec.semantic.load_state_dict(student.semantic.state_dict())
    codec.quantizer_s.get_buffer("codebook").copy_(codebook)
    return codec


def load_codec(folder: str | os.PathLike[str], config: CodecConfig | None = None) -> Codec:
    """Return the codec of a codec folder, or of a run of the reconstruction or adversarial stage, with averaged weights, on the CPU.

    Args:
        folder: either kind of folder.
        config: of a run folder without `codec.json`.

    Raises:
        TrainError: if the folder is neither, or a run of another configuration.
        ModelError: if a codec folder is damaged.
    """
    folder = Path(folder)
    if (folder / STORED).is_file():
        return build_codec(load_stored(folder))
    state = next((held for prefix in reversed(PREFIXES.values()) if (held := averaged_state(folder, prefix))), None)
    if state is None:
        raise TrainError(f"{folder} is no run with a whole codec; give a run of these stages: {', '.join(PREFIXES)}")
    codec = Codec(config or config_of(folder))
    try:
        codec.load_state_dict(state)
    except RuntimeError as error:
        raise TrainError(f"{folder} is a run of another configuration ({error})") from error
    return codec
