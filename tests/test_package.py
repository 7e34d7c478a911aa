"""The package as a whole: its names, its metadata, and what importing it costs and changes."""

import json
import re
import statistics
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

import unitoken

ROOT = Path(__file__).parents[1]
PUBLIC = {"Tokenizer", "TokenBundle", "CodecConfig", "available_models", "load_audio", "save_audio", "UnitokenError", "__version__"}
# Slow to load, or of an extra: only the function that needs one imports it.
LATE = [
    "scipy.signal",
    "huggingface_hub",
    "transformers",
    "typer",
    "rich",
    "matplotlib",
    "onnxruntime",
    "pyarrow",
    "faster_whisper",
    "pesq",
    "pystoi",
]
CORE = {"torch", "numpy", "scipy", "soundfile", "safetensors", "huggingface-hub"}

PROBE = """
import json, logging, os, random, signal, sys, threading, time, warnings
import numpy, torch

def state():
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return {
        "root logger": [logging.root.level, logging.root.manager.disable, *map(repr, logging.root.handlers)],
        "own logger": [logging.getLogger("unitoken").level, *map(repr, logging.getLogger("unitoken").handlers)],
        "warnings": list(map(repr, warnings.filters)),
        "torch threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "python threads": threading.active_count(),
        "cudnn": [cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, cuda.allow_tf32],
        "torch defaults": [str(torch.get_default_dtype()), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
                           torch.get_float32_matmul_precision()],
        "random": [torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist(), random.getstate()[1]],
        "environment": dict(os.environ),
        "hooks": [repr(sys.excepthook), repr(signal.getsignal(signal.SIGINT)), repr(signal.getsignal(signal.SIGTERM))],
    }

modules, before, start = set(sys.modules), state(), time.process_time()
import unitoken
seconds, after = time.process_time() - start, state()  # of this process, whatever runs beside it
changed = [key for key in before if before[key] != after[key]]
json.dump({"seconds": seconds, "modules": sorted(set(sys.modules) - modules), "changed": changed}, sys.stdout)
"""


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def probe():
    done = python("-c", PROBE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def imported():
    """What three fresh processes saw of `import unitoken`."""
    return [probe() for _ in range(3)]


def test_import_is_cheap(imported):
    assert statistics.median(run["seconds"] for run in imported) <= 0.3


def test_import_leaves_late_modules_alone(imported):
    assert "unitoken" in imported[0]["modules"]
    assert [name for name in LATE if name in imported[0]["modules"]] == []


def test_import_changes_no_state(imported):
    assert imported[0]["changed"] == []


def test_public_names():
    visible = {name for name, value in vars(unitoken).items() if not name.startswith("_") and not isinstance(value, ModuleType)}
    assert visible | {"__version__"} == PUBLIC
    assert sorted(unitoken.__all__) == sorted(PUBLIC)


def test_metadata():
    about = metadata.metadata("unitoken-speech")
    assert about["Name"] == "unitoken-speech"
    assert about["Version"] == unitoken.__version__
    assert about["Requires-Python"] == ">=3.10"
    assert about["License-Expression"] == "Apache-2.0"
    assert about.get_all("License-File") == ["LICENSE", "NOTICE"]


def test_core_dependencies():
    core = [line for line in metadata.requires("unitoken-speech") if "extra ==" not in line]
    assert {re.match(r"[\w-]+", line)[0].lower().replace("_", "-") for line in core} == CORE
    assert [line for line in core if "<" in line or "==" in line] == []


def test_extras():
    extras = set(metadata.metadata("unitoken-speech").get_all("Provides-Extra"))
    assert extras == {"cli", "train", "teachers", "corpus", "ray", "lm", "evaluate", "onnx", "report", "dev"}


def test_typed():
    assert Path(unitoken.__file__).with_name("py.typed").is_file()


def test_version_is_the_same_everywhere():
    version = unitoken.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    heading = "## [Unreleased]" if ".dev" in version else f"## [{version}] - "
    assert heading in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_changelog_fragments_are_named_by_kind():
    kinds = r"[a-z0-9-]+\.(added|changed|deprecated|removed|fixed|security)\.md"
    names = [path.name for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md"]
    assert [name for name in names if not re.fullmatch(kinds, name)] == []


def test_command_is_installed():
    (script,) = [entry for entry in metadata.entry_points(group="console_scripts") if entry.name == "unitoken"]
    assert script.value == "unitoken.__main__:main"


def test_without_the_extra_the_command_says_what_to_install():
    for package in ("typer", "rich"):
        done = python("-c", f"import sys; sys.modules[{package!r}] = None; import unitoken.__main__ as command; command.main()")
        assert done.returncode == 2
        assert done.stderr == "the command line needs packages that are not installed; run: pip install 'unitoken-speech[cli]'\n"
        assert done.stdout == ""


def test_command_runs():
    done = python("-m", "unitoken", "--help")
    assert done.returncode == 0, done.stderr
    assert "encode" in done.stdout
