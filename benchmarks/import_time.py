"""Print how long `import unitoken` takes on top of `import torch`, as a Markdown table: best of several fresh interpreters."""

import argparse
import platform
import subprocess
import sys

MODULES = ("torch", "unitoken")
CODE = """
import time
for name in {modules!r}:
    start = time.perf_counter()
    __import__(name)
    print(time.perf_counter() - start)
"""


def import_seconds():
    """Return the seconds of each import, one after the other, in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", CODE.format(modules=MODULES)], check=True, capture_output=True, text=True)
    return [float(line) for line in done.stdout.split()]


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="the fastest of so many interpreters counts")
    repeat = parser.parse_args().repeat
    times = zip(*(import_seconds() for _ in range(repeat)), strict=True)
    print(f"Python {platform.python_version()}, best of {repeat} fresh interpreters\n\n| import | seconds |\n|---|---|")
    for name, seconds in zip(("torch", "unitoken, after torch"), times, strict=True):
        print(f"| {name} | {min(seconds):.3f} |")


if __name__ == "__main__":
    main()
