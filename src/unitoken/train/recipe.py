"""A recipe: one JSON file that says how a model was, or is to be, trained, as the commands that do it."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, TrainError
from ..strict_json import build

LAUNCHED = ("semantic", "refine", "reconstruct", "adversarial")
"""Stages that several processes can train."""


@dataclass(frozen=True)
class TeacherRecipe:
    """A teacher of the semantic stream.

    Attributes:
        name: a Hub name, or a folder.
        layer: hidden state; None is the last.
        hears: Hub name or folder of the encoder that hears words in stages 1 and 2; None is the same, at its last layer.
    """

    name: str
    layer: int | None = None
    hears: str | None = None


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        name: of the model.
        config: a preset's name, or a JSON file.
        teacher: of the semantic stream.
        whisper: Whisper encoder that the semantic transformer begins with; None for random weights.
        codebook: more arguments of `unitoken train codebook`.
        phones: table of phones, see `unitoken train semantic`; None for none.
        semantic: settings of the stage, each as `--set` takes it; so do the next ones. Every stage needs `run.steps`.
        refine: see `semantic`; none leaves the stage out.
        reconstruct: see `semantic`.
        adversarial: see `semantic`; none leaves the stage out.
    """

    name: str
    config: str
    teacher: TeacherRecipe
    semantic: tuple[str, ...]
    reconstruct: tuple[str, ...]
    whisper: str | None = None
    codebook: tuple[str, ...] = ()
    phones: str | None = None
    refine: tuple[str, ...] = ()
    adversarial: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that every stage has an end."""
        for stage in LAUNCHED:
            settings = getattr(self, stage)
            if settings and not any(setting.startswith("run.steps=") for setting in settings):
                raise ConfigError(f"stage {stage} of recipe {self.name} has no run.steps, so nobody knows when it is done; add one")
        if not (self.semantic and self.reconstruct):
            raise ConfigError(f"recipe {self.name} needs the stages semantic and reconstruct")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Recipe":
        """Read a recipe.

        Raises:
            TrainError: if there is no such file.
            ConfigError: if it holds no valid recipe.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise TrainError(f"{os.fspath(path)} is no recipe that can be read ({error.strerror}); the package's are in recipes/") from error
        try:
            return build(cls, json.loads(text), "recipe")
        except json.JSONDecodeError as error:
            raise ConfigError(f"{os.fspath(path)} is no JSON: {error}") from error


@dataclass(frozen=True)
class Command:
    """One command of a plan.

    Attributes:
        stage: what it is called.
        arguments: of `unitoken train`.
        done: file whose being there says that it need not be run; None where the command itself goes on from where it stopped.
    """

    stage: str
    arguments: tuple[str, ...]
    done: Path | None = None

    @property
    def launched(self) -> bool:
        """Whether several processes run it together."""
        return self.stage in LAUNCHED


def plan(
    recipe: Recipe,
    pool: Path,
    folder: Path,
    *,
    shared: Sequence[str] = (),
    noise: Path | None = None,
    valid_speakers: Path | None = None,
    settings: Sequence[str] = (),
) -> list[Command]:
    """Return the commands that train a recipe, in order; run again, they go on where they stopped.

    Args:
        recipe: what to train.
        pool: what `unitoken train pool` wrote.
        folder: for all that comes of it, the model in `folder/model`.
        shared: more arguments of every stage but the preparations, such as `--compile`.
        noise: see `unitoken train semantic`.
        valid_speakers: see there.
        settings: as `--set` takes them, after the recipe's own in every launched stage.
    """
    held = () if valid_speakers is None else ("--valid-speakers", str(valid_speakers))
    loud = () if noise is None else ("--noise", str(noise))
    teacher = recipe.teacher
    hears = ("--teacher", teacher.hears or teacher.name)
    layer = () if teacher.layer is None else ("--layer", str(teacher.layer))

    def stage(name: str, *arguments: str | Path) -> Command:
        own = [text for setting in (*getattr(recipe, name), *settings) for text in ("--set", setting)]
        ending = ("--minutes", "1e6", *held, *loud, *own, *shared)
        return Command(name, (name, *map(str, arguments), *ending))

    def codebook(run: str, codec: str) -> Command:
        arguments = ("codebook", str(folder / run), str(pool), "-o", str(folder / codec), *held, *recipe.codebook)
        return Command("codebook", arguments, folder / codec / "config.json")

    features, pitch, codec = folder / "features", folder / "pitch", "codebook"
    begin = () if recipe.whisper is None else ("--whisper", recipe.whisper)
    told = () if recipe.phones is None else ("--phones", recipe.phones)
    commands = [
        Command("features", ("features", str(pool), "-o", str(features), "--teacher", teacher.name, *layer)),
        Command("pitch", ("pitch", str(pool), "-o", str(pitch)), pitch / "f0.json"),
        stage("semantic", pool, "-o", folder / "semantic", "--features", features, "--config", recipe.config, *begin, *told),
        codebook("semantic", codec),
    ]
    if recipe.refine:
        commands += [stage("refine", folder / codec, pool, "-o", folder / "refined", "--features", features, *told), codebook("refined", "codec")]
        codec = "codec"
    commands.append(stage("reconstruct", folder / codec, pool, "-o", folder / "reconstructed", "--pitch", pitch, *hears))
    last = "reconstructed"
    if recipe.adversarial:
        tokens = ("--tokens", folder / codec)
        commands.append(stage("adversarial", folder / last, pool, "-o", folder / "adversarial", "--pitch", pitch, *tokens, *hears))
        last = "adversarial"
    model = folder / "model"
    return [*commands, Command("export", ("export", str(folder / last), "-o", str(model), "--name", recipe.name), model / "config.json")]
