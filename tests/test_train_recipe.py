import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trainset import make_pitch, make_pool, make_teacher
from unitoken import Tokenizer
from unitoken.cli.train import app
from unitoken.config import CodecConfig
from unitoken.errors import ConfigError, TrainError
from unitoken.train.adversarial import AdversarialSettings
from unitoken.train.curves import read_log
from unitoken.train.examples import ReconstructionSettings
from unitoken.train.handover import read_config
from unitoken.train.overrides import override
from unitoken.train.recipe import LAUNCHED, Recipe, TeacherRecipe, plan
from unitoken.train.refine import RefineSettings
from unitoken.train.release import check_golden
from unitoken.train.run import RunSettings, has_checkpoint
from unitoken.train.semantic import SemanticSettings

BASE = Path(__file__).parents[1] / "recipes" / "base-16k.json"
STEPS = ["run.steps=1", "run.warmup=1", "run.log_steps=1", "run.autocast=false"]
LESSONS = [*STEPS, "batch=2", "seconds=2"]
CROPS = ["batch=2", "seconds=0.4", "reference_seconds=0.4", "heard=1", "swapped=2", "weights.redundancy=0", "weights.envelope=0.3"]


def tiny(teacher, layer=None):
    """The base recipe with other sizes and another teacher."""
    judged = ["discriminators.windows=512", "discriminators.channels=4", "seconds=0.2"]
    sizes = {
        "config": "tiny",
        "whisper": None,
        "teacher": {"name": str(teacher), "layer": layer},
        "semantic": LESSONS,
        "refine": [*LESSONS, "still=0"],
    }
    rebuilt = {"reconstruct": STEPS + CROPS, "adversarial": [*STEPS, *(f"reconstruction.{text}" for text in CROPS), *judged]}
    return json.loads(BASE.read_text()) | sizes | rebuilt


def write(folder, recipe):
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder / "recipe.json"


def call(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    pool = make_pool(root, 4, 2)
    make_pitch(pool, root / "pitch")
    (root / "phones.tsv").write_text("path\tphones\n" + "".join(f"{u.path}\tB Z\n" for u in pool.utterances))
    return root


def run(script):
    """Run the lines of a plan in this process, as a shell would."""
    ran = []
    for line in script.splitlines()[1:]:
        condition, _, command = line.rpartition(" || ")
        if condition and Path(shlex.split(condition)[2]).exists():
            continue
        words = shlex.split(command)
        assert words[:2] == ["unitoken", "train"]
        ran.append(words[2])
        call(*words[2:], *(["--device", "cpu"] if words[2] in LAUNCHED else []))
    return ran


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2", "hubert", "wavlm", "wav2vec2-bert"])
def test_a_plan_trains_a_model_with_every_kind_of_teacher(data, tmp_path, kind):
    recipe = write(tmp_path, tiny(make_teacher(kind, tmp_path / kind), 1) | {"phones": str(data / "phones.tsv")})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "pitch").symlink_to(data / "pitch")
    script = call("plan", recipe, data / "pool", "-o", tmp_path / "out")
    stages = ["features", "semantic", "codebook", "refine", "codebook", "reconstruct", "adversarial", "export"]
    assert run(script) == stages
    assert Tokenizer.from_pretrained(tmp_path / "out" / "model").config.name == "base-16k"
    assert check_golden(tmp_path / "out" / "model")["s"][0] == 0
    assert all(float(read_log(tmp_path / "out" / name / "log.csv")["phones"][0]) > 0 for name in ("semantic", "refined"))
    kept = {path: path.read_bytes() for path in (tmp_path / "out").glob("*/model.safetensors")}
    assert len(kept) == 7
    assert all(has_checkpoint(tmp_path / "out" / name) for name in ("semantic", "refined", "reconstructed", "adversarial"))
    assert run(script) == ["features", "semantic", "refine", "reconstruct", "adversarial"]  # nothing is left to do in them
    assert {path: path.read_bytes() for path in kept} == kept


def test_the_recipe_of_the_repository_fits_the_stages():
    recipe = Recipe.load(BASE)
    assert isinstance(read_config(recipe.config), CodecConfig)
    settings = {
        "semantic": SemanticSettings(),
        "refine": RefineSettings(),
        "reconstruct": ReconstructionSettings(),
        "adversarial": AdversarialSettings(),
    }
    for stage, default in settings.items():
        own = [text for text in getattr(recipe, stage) if not text.startswith("run.")]
        shared = [text.removeprefix("run.") for text in getattr(recipe, stage) if text.startswith("run.")]
        assert override(default, own) != default
        assert override(RunSettings(), shared).steps > 10000


def test_a_plan_says_what_is_launched_and_where(tmp_path):
    options = ["--launch", "torchrun --nnodes 2 u", "--valid-speakers", "v.tsv", "--noise", "n s.tar", "--set", "run.seed=3", "--compile"]
    lines = call("plan", BASE, "pool", "-o", "out", *options).splitlines()
    assert lines[0] == "set -e"
    assert lines[1] == "unitoken train features pool -o out/features --teacher openai/whisper-small"
    assert lines[2] == "[ -e out/pitch/f0.json ] || unitoken train pitch pool -o out/pitch"
    assert lines[3].startswith("torchrun --nnodes 2 u train semantic pool -o out/semantic --features out/features --config base --whisper openai/")
    assert lines[3].endswith(" --minutes 1e6 --valid-speakers v.tsv --noise 'n s.tar' " + lines[3].partition("'n s.tar' ")[2])
    assert lines[3].endswith("--set seconds=10 --set run.seed=3 --compile")
    assert lines[4] == "[ -e out/codebook/config.json ] || unitoken train codebook out/semantic pool -o out/codebook --valid-speakers v.tsv"
    assert lines[-1].endswith("unitoken train export out/adversarial -o out/model --name base-16k")
    others = call("plan", BASE, "pool", "-o", "out", *options, "--launched-only").splitlines()
    assert others == ["set -e", *(line for line in lines if line.startswith("torchrun"))]
    assert len(others) == 5


def test_stages_may_be_left_out():
    recipe = Recipe("r", "tiny", TeacherRecipe("t", hears="h"), ("run.steps=1",), ("run.steps=2",), codebook=("--flatten", "0"))
    commands = {command.stage: command.arguments for command in plan(recipe, Path("p"), Path("o"))}
    assert list(commands) == ["features", "pitch", "semantic", "codebook", "reconstruct", "export"]
    assert commands["codebook"] == ("codebook", "o/semantic", "p", "-o", "o/codebook", "--flatten", "0")
    assert commands["reconstruct"][:2] == ("reconstruct", "o/codebook")
    assert commands["reconstruct"][commands["reconstruct"].index("--teacher") + 1] == "h"
    assert commands["export"][:2] == ("export", "o/reconstructed")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"refine": ["batch=2"]}, "stage refine of recipe base-16k has no run.steps, so nobody knows when it is done"),
        ({"semantic": []}, "recipe base-16k needs the stages semantic and reconstruct"),
        ({"layers": 3}, "recipe has unknown keys"),
        ({"teacher": "whisper"}, "recipe.teacher must be a JSON object"),
    ],
)
def test_recipes_that_do_not_fit(tmp_path, change, said):
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        Recipe.load(write(tmp_path, tiny("t") | change))


def test_a_recipe_that_is_none(tmp_path):
    with pytest.raises(TrainError, match=r"is no recipe that can be read \(No such file"):
        Recipe.load(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match="is no JSON"):
        Recipe.load(tmp_path / "broken.json")
