"""Which files a command reads and writes, decided before any work."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .messages import UsageError, counted, shown

TOKENS = ".utok"
WRITTEN_AUDIO = (".wav", ".flac", ".ogg", ".opus", ".mp3")


@dataclass(frozen=True)
class Job:
    """One file to read, and where its result goes."""

    source: Path
    target: Path


def plan(inputs: Sequence[Path], output: Path | None, suffixes: Sequence[str], suffix: str) -> list[Job]:
    """Pair each file with its target.

    Args:
        inputs: files and folders that exist; a folder stands for the files in it and below, by name, without hidden ones.
        output: for one file: the target if it has a suffix, else a folder; for several or for folders: a folder, in which a folder's files
            keep their places. None: beside each file, for files only.
        suffixes: what to take from folders.
        suffix: of the targets.

    Raises:
        UsageError: if `output` does not fit, or a folder holds nothing to take.
    """
    one_file = len(inputs) == 1 and not inputs[0].is_dir()
    if output is not None and not output.is_dir() and (output.suffix or output.exists()):
        if not one_file:
            raise UsageError(f"-o {shown(output)} names a file, but there is more than one file to read; give a folder")
        if output.suffix.lower() != suffix:
            raise UsageError(f"-o {shown(output)} must end in {suffix}, or name a folder; make a folder whose name has a dot before")
        return [Job(inputs[0], output)]
    if output is None and (folder := next((path for path in inputs if path.is_dir()), None)) is not None:
        raise UsageError(f"{shown(folder)} is a folder; say with -o where the results go")
    once = dict[Path, tuple[Path, Path]]()  # a file may be named twice, or lie in a folder that is named too
    for path in inputs:
        for source, place in _files(path, suffixes):
            once.setdefault(source.resolve(), (source, place))
    return [Job(source, (source if output is None else output / place).with_suffix(suffix)) for source, place in once.values()]


def check_targets(jobs: Sequence[Job], force: bool) -> None:
    """Refuse to lose a file.

    Raises:
        UsageError: if a target is also read, or one exists and `force` is false.
    """
    targets = {job.target.resolve() for job in jobs}
    if read := [job.source for job in jobs if job.source.resolve() in targets]:
        raise UsageError(f"{shown(read[0])} would be replaced although it is read; give another -o")
    refuse_existing([job.target for job in jobs], force)


def refuse_existing(targets: Sequence[Path], force: bool) -> None:
    """Refuse to replace a file.

    Raises:
        UsageError: if a target exists and `force` is false.
    """
    if not force and (there := [path for path in targets if path.exists()]):
        more = f" (and {counted(len(there) - 1, 'more file')})" if len(there) > 1 else ""
        raise UsageError(f"{shown(there[0])} exists{more}; add --force to replace it, or give another -o")


def _files(path: Path, suffixes: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """Yield each file that an input stands for, and its place below the output folder."""
    if not path.is_dir():
        yield path, Path(path.name)
        return
    found = sorted(file for file in _walk(path) if file.suffix.lower() in suffixes)
    if not found:
        raise UsageError(f"the folder {shown(path)} holds no files that end in {', '.join(suffixes)}")
    yield from ((file, file.relative_to(path)) for file in found)


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise UsageError(f"cannot read the folder {shown(Path(error.filename))}: {error.strerror}; make it readable, or give its files one by one")

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in files if not name.startswith("."))
