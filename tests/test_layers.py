"""A module imports strictly lower layers, and on its top level nothing beyond the core dependencies."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import unitoken

SOURCE = Path(unitoken.__file__).parent
LAYERS = [  # low to high; modules of one line do not import each other
    "errors _version arithmetic",
    "files units strict_json",
    "resample waveform encoder_config",
    "audio config token_info",
    "presets utok clips",
    "tokens nn",
    "model",
    "hub accept streams",
    "tokenizer onnx",
    "__init__",
    "lm adapters",
    "corpus evaluate",
    "report train",
    "cli",
    "__main__",
]
RANK = {module: rank for rank, modules in enumerate(LAYERS) for module in modules.split()}
CORE = {"torch", "numpy", "scipy", "soundfile", "safetensors"}
EXTRA = {
    "cli": {"typer", "rich", "click"},
    "corpus": {"pyarrow"},
    "onnx/runner.py": {"onnxruntime"},
}  # a module or file that is nothing without its extra may import it on its top level


def module_of(path: Path, source: Path) -> str:
    """Return the top-level module that a file belongs to: a folder is one module."""
    return path.relative_to(source).parts[0].removesuffix(".py")


def imported_names(node: ast.AST, path: Path, source: Path) -> list[str]:
    """Return the absolute dotted names that one import statement asks for; none for any other node."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    package = ["unitoken", *path.relative_to(source).parts[:-1]]
    base = package[: len(package) - node.level + 1] if node.level else []
    return [".".join([*base, *([node.module] if node.module else []), alias.name]) for alias in node.names]


def violations(source: Path) -> Iterator[str]:
    """Yield one line for each import in the package at `source` that does not point down, and for each module without a rank."""
    for path in sorted(source.rglob("*.py")):
        here = module_of(path, source)
        if here not in RANK:
            yield f"{path.relative_to(source)}: give {here!r} its place in LAYERS"
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in imported_names(node, path, source):
                first, there = [*name.split("."), ""][:2]
                there = there if there in RANK else "__init__"  # a name of the package itself, not a module
                if first == "unitoken" and there != here and RANK[there] >= RANK[here]:
                    yield f"{path.relative_to(source)}: must not import {there} ({name})"


def optional_imports(source: Path) -> Iterator[str]:
    """Yield one line for each top-level import of a package that a core installation does not have."""
    for path in sorted(source.rglob("*.py")):
        own = EXTRA.get(module_of(path, source), set()) | EXTRA.get(path.relative_to(source).as_posix(), set())
        allowed = CORE | {"unitoken"} | sys.stdlib_module_names | own
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for name in imported_names(node, path, source):
                if name.partition(".")[0] not in allowed:
                    yield f"{path.relative_to(source)}: import {name} inside the function that needs it"


def test_imports_point_down():
    assert list(violations(SOURCE)) == []


def test_top_level_imports_are_core():
    assert list(optional_imports(SOURCE)) == []


@pytest.fixture
def package(tmp_path):
    """Write a package of the given files and return its folder."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / (name.replace("__in__", "/") + ".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return write


@pytest.mark.parametrize(
    "statement",
    [
        "from .model import Codec",
        "from . import model",
        "import unitoken.model",
        "import unitoken.model.codec as codec",
        "from unitoken.model.codec import Codec",
        "from unitoken import Tokenizer",
        "from . import __version__",
        "import unitoken",
        "from .tokens import TokenBundle",
        "def late():\n    from .model import Codec",
        "if False:\n    from .hub import load_stored",
    ],
)
def test_an_upward_import_is_seen(package, statement):
    folder = package(nn__in__conv=statement.replace("from .", "from .."))
    found = list(violations(folder))
    assert len(found) == 1
    assert found[0].startswith("nn/conv.py: must not import ")


def test_allowed_imports_are_not_reported(package):
    folder = package(
        nn__in____init__="from .conv import Conv",
        nn__in__conv="import torch\nfrom . import attention\nfrom .. import units\nfrom ..config import preset\nimport unitoken.errors",
        nn__in__attention="",
        units="from fractions import Fraction",
        lm="from unitoken import Tokenizer\nfrom . import __version__\nfrom .tokenizer import Tokenizer",
        __init__="from .tokenizer import Tokenizer",
        __main__="from .cli import main",
    )
    assert list(violations(folder)) == []


def test_neighbours_do_not_import_each_other(package):
    assert list(violations(package(tokens="from .nn import conv"))) == ["tokens.py: must not import nn (unitoken.nn.conv)"]


def test_a_module_without_a_rank_is_seen(package):
    assert list(violations(package(helpers=""))) == ["helpers.py: give 'helpers' its place in LAYERS"]


def test_an_optional_import_is_seen_on_the_top_level_only(package):
    folder = package(lm="import transformers", cli="import typer", hub="def late():\n    import huggingface_hub", audio="import soundfile")
    assert list(optional_imports(folder)) == ["lm.py: import transformers inside the function that needs it"]
