"""Print how long `import unitoken` takes on top of `import torch`, as a Markdown table: medians over fresh interpreters."""

import argparse
import platform
import statistics
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
    parser.add_argument("--repeat", type=int, default=5, help="the median of so many interpreters counts, after one to warm the disk's cache")
    repeat = parser.parse_args().repeat
    import_seconds()
    times = zip(*(import_seconds() for _ in range(repeat)), strict=True)
    print(f"Python {platform.python_version()}, median of {repeat} fresh interpreters\n\n| import | seconds |\n|---|---|")
    for name, seconds in zip(("torch", "unitoken, after torch"), times, strict=True):
        print(f"| {name} | {statistics.median(seconds):.3f} |")


if __name__ == "__main__":
    main()
