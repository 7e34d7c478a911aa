"""What a benchmark ran on: the lines above its table."""

import platform
import resource
import statistics
import subprocess
import time
from pathlib import Path

import torch

import unitoken
from unitoken.nn.linear import linear

MATRIX = 1024
ROOT = Path(__file__).parents[1]
CLIP = ROOT / "examples/audio/patience.flac"


def cpu_name():
    """Return the processor's name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    return names[0] if names else platform.processor() or platform.machine()


def commit():
    """Return the commit of the checkout, with a plus sign if it was changed since."""
    done = subprocess.run(["git", "describe", "--always", "--dirty=+", "--exclude=*"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "no commit"


def median_seconds(work, repeat):
    """Return the median wall time of `repeat` calls, after one that is not counted."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def speech(sample_rate, seconds, batch):
    """Return clips, float32 `(batch, samples)`: speech that is repeated, every clip from another place on."""
    wave, size = unitoken.load_audio(CLIP, sample_rate=sample_rate)[0], round(seconds * sample_rate)
    wave = wave.repeat(-(-size // len(wave)) + 1)
    return torch.stack([wave.roll(-1000 * number)[:size] for number in range(batch)])


def peak_mib():
    """Return the most memory that this process has had, in MiB; without what its parent had, which `getrusage` may count."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def product_gflops(repeat=5):
    """Return the speed of a float32 product of two square matrices by MKL and by oneDNN, in 10^9 operations a second."""
    a, b = torch.randn(2, MATRIX, MATRIX, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ways = {"torch": lambda: a @ b, "oneDNN": lambda: linear(a, b)}
        return {name: 2 * MATRIX**3 / median_seconds(way, repeat) / 1e9 for name, way in ways.items()}


def print_machine(name, threads):
    """Print what a benchmark of a model runs on."""
    products = ", ".join(f"{speed:.0f} by {way}" for way, speed in product_gflops().items())
    print(f"{name} on {cpu_name()}, {threads} thread(s), torch {torch.__version__}, unitoken-speech {unitoken.__version__} at {commit()},")
    print(f"float32; GFLOP/s of a matrix product {MATRIX} x {MATRIX}: {products}")
