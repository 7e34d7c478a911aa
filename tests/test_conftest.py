"""The test run's own switches, tried on small suites in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import pytest

def test_plain(): pass

@pytest.mark.gpu
def test_gpu(): pass

@pytest.mark.slow
def test_slow(): pass
"""
SKIPPING = """
import pytest

def test_plain(): pass

@pytest.mark.skip(reason="no reason")
def test_skipped(): pass
"""


@pytest.fixture
def run(tmp_path):
    """Run pytest on the text of one test file, under this project's conftest; return exit code and output."""
    (tmp_path / "conftest.py").write_bytes(Path(__file__).with_name("conftest.py").read_bytes())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu: x\n    slow: x\n    network: x\n    shared: x\n")

    def call(suite, *arguments, **environment):
        (tmp_path / "test_it.py").write_text(suite)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        inherited = {name: value for name, value in os.environ.items() if name != "UNITOKEN_FAIL_ON_SKIP"}
        done = subprocess.run(command, cwd=tmp_path, env=inherited | environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    return call


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        ((), "2 passed, 1 deselected"),
        (("-m", "not slow"), "1 passed, 2 deselected"),
        (("-m", "gpu"), "1 passed, 2 deselected"),
        (("-m", "gpu or slow"), "2 passed, 1 deselected"),
        (("-m", "not gpu"), "2 passed, 1 deselected"),
    ],
)
def test_opt_in_markers_run_only_when_named(run, arguments, outcome):
    code, output = run(SUITE, *arguments)
    assert outcome in output
    assert code == 0


def test_a_skip_passes_by_default(run):
    code, output = run(SKIPPING)
    assert "1 passed, 1 skipped" in output
    assert code == 0


def test_a_skip_fails_when_asked_to(run):
    code, output = run(SKIPPING, UNITOKEN_FAIL_ON_SKIP="1")
    assert "1 skipped: UNITOKEN_FAIL_ON_SKIP=1 makes that a failure" in output
    assert code == 1


def test_a_module_that_skips_itself_fails_too(run):
    code, _ = run('import pytest\npytest.importorskip("no_such_module")\n\ndef test_x(): pass\n', UNITOKEN_FAIL_ON_SKIP="1")
    assert code != 0


def test_no_skip_no_failure(run):
    code, _ = run("def test_x(): pass\n", UNITOKEN_FAIL_ON_SKIP="1")
    assert code == 0


def test_header_names_the_versions(run):
    _, output = run("def test_x(): pass\n")
    assert "huggingface_hub" in output
    assert "torch" in output
