"""Runs of training stages in pieces of limited size, for gpu_train.py."""

import json
import shutil
import tarfile
from pathlib import Path

from safetensors.torch import load_file, save_file

from unitoken.errors import TrainError
from unitoken.train.export import join_parts, split_file

WEIGHTS = ("model.safetensors", "average.safetensors")


def pack(name, folder, output, max_mb):
    """Cut a run (weights as float16, without the optimizer) or a codec folder (as it is) into pieces; return their list."""
    if not folder.is_dir():
        raise TrainError(f"{folder} is no run that could be packed; give an existing folder")
    output.mkdir(parents=True, exist_ok=True)
    is_run, path = (folder / "step.json").is_file(), output / f"{name}.tar"
    for old in output.glob(f"{name}.tar*"):
        old.unlink()
    with tarfile.open(path, "w") as tar:
        for file in sorted(file for file in folder.iterdir() if file.is_file() and file.suffix != ".pt"):
            if is_run and file.name in WEIGHTS:
                halved = output / file.name
                save_file({key: half(value) for key, value in load_file(file).items()}, halved)
                tar.add(halved, file.name)
                halved.unlink()
            else:
                tar.add(file, file.name)
    listed = split_file(path, max_mb)
    path.unlink()
    return listed


def half(value):
    if not value.is_floating_point():
        return value
    halved = value.half()
    return halved if halved.isfinite().all() else value


def join_runs(held, runs):
    """Unpack every run of which all pieces are there."""
    for listed in sorted(held.glob("*.tar.pieces.json")):
        name, parts = listed.name.removesuffix(".tar.pieces.json"), json.loads(listed.read_text())["pieces"]
        if missing := [number for number, part in enumerate(parts) if not (held / part["name"]).is_file()]:
            print(f"{name}: {len(missing)} of {len(parts)} pieces are missing, the first is number {missing[0]}")
            continue
        joined, fresh = join_parts(listed), runs / f".{name}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        with tarfile.open(joined) as tar:
            for member in tar:  # plain files of one folder, as `pack` writes them
                (fresh / Path(member.name).name).write_bytes(tar.extractfile(member).read())
        shutil.rmtree(runs / name, ignore_errors=True)
        fresh.rename(runs / name)
        for file in (joined, listed, *(held / part["name"] for part in parts)):
            file.unlink()
        print(f"{name}: {runs / name}")
