"""What every test run shares: versions in the header, opt-in markers, hypothesis settings, and a switch that makes a skip a failure."""

import os
import platform
from importlib.metadata import version

import pytest
from hypothesis import settings

OPT_IN = ("network", "gpu", "shared")
FAIL_ON_SKIP = "UNITOKEN_FAIL_ON_SKIP"

# A red run in continuous integration must be red again when it is repeated.
settings.register_profile("unitoken", max_examples=25, deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("unitoken")


def pytest_report_header():
    packages = ("torch", "numpy", "scipy", "soundfile", "safetensors", "huggingface_hub")
    return f"python {platform.python_version()} on {platform.machine()}, " + ", ".join(f"{name} {version(name)}" for name in packages)


def pytest_collection_modifyitems(config, items):
    """Leave out (deselect, not skip) what needs a network, a GPU or shared data, unless the -m expression names it."""
    absent = [name for name in OPT_IN if name not in config.getoption("markexpr")]
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in absent)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", ())) if reporter else 0
    if os.environ.get(FAIL_ON_SKIP) == "1" and skipped and exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"\n{skipped} skipped: {FAIL_ON_SKIP}=1 makes that a failure", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
