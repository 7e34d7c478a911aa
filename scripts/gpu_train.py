"""The modes of gpu_train.sh, which says how they are used: data and runs in pieces to a machine without a network, and runs back."""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
from run_pieces import join_runs, pack

from unitoken.cli.train import app
from unitoken.errors import TrainError, UnitokenError
from unitoken.train import pitch as f0
from unitoken.train.offsets import frame_offsets
from unitoken.train.pool import SOURCES, Pool, Utterance
from unitoken.train.pool_files import keep_sources
from unitoken.train.store import mark

LOCAL, OUT = Path(os.environ["LOCAL"]), Path(os.environ["OUT"])
STAGES = ("semantic", "codebook", "refine", "reconstruct", "adversarial")
TARS = 4  # in each piece of data, decoded side by side
MAX_PART_MB, PARTS = 15.0, 4  # of a run, in each answer: below 16 MiB a file, 64 MiB and 8 files in all
HELD_OUT = "valid-speakers.tsv"
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 17)] + ["manylinux2014_x86_64"]


def unitoken(*arguments):
    """Run a command of `unitoken train` in this process."""
    print("unitoken train", *arguments, flush=True)
    app([str(argument) for argument in arguments], standalone_mode=False)


def size_mb(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6


# --- at home -----------------------------------------------------------------------------------------------------------------------------------


def prepare(args):
    args.output.mkdir(parents=True, exist_ok=True)
    for old in [*args.output.glob("data-*"), *args.output.glob("checkpoint-*")]:
        shutil.rmtree(old)
    if args.archives:
        cut_data(Pool(args.pool), args.archives, args.pitch, args.output, args.max_mb)
    common = args.output / "common"
    sources = args.pool / SOURCES if args.pool and (args.pool / SOURCES).is_file() else None
    for source, name in ((args.noise, "noise.tar"), (args.valid_speakers, HELD_OUT), (sources, SOURCES)):
        if source:
            common.mkdir(exist_ok=True)
            shutil.copyfile(source, common / name)
    if args.wheels:
        where = [option for platform in PLATFORMS for option in ("--platform", platform)]
        target = ["--python-version", "3.12", "--implementation", "cp", *where, "-d", common / "wheels"]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *target, "soundfile", "cffi", "pycparser"]
        subprocess.run(command, check=True)
    for name in ("teacher", "start"):
        if source := getattr(args, name):
            half_teacher(source, args.output / name / name)
    for name, _, folder in (text.partition("=") for text in args.run):
        cut_run(name, Path(folder), args.output, args.max_mb)
    for piece in sorted(path for path in args.output.iterdir() if path.name.startswith(("data-", "checkpoint-", "common", "teacher", "start"))):
        print(f"{size_mb(piece):8.1f} MB  {piece}{'  is larger than asked for' if size_mb(piece) > args.max_mb * 1.02 else ''}")


def cut_run(name, folder, output, max_mb):
    """Cut a run into pieces of one part each."""
    listed = pack(name, folder, output / "packed", max_mb)
    for number, part in enumerate(json.loads(listed.read_text())["pieces"]):
        piece = output / f"checkpoint-{name}-{number:02d}"
        piece.mkdir()
        (listed.parent / part["name"]).rename(piece / part["name"])
        shutil.copyfile(listed, piece / listed.name)
    shutil.rmtree(output / "packed")


def cut_data(pool, archives, pitch, output, max_mb):
    """Cut archives into pieces of several tars each, with the rows and the pitch of their clips."""
    logs = np.fromfile(pitch / f0.DATA, "<f2")
    starts, rows = frame_offsets(pool, f0.HOP)[0], iter(pool.utterances)
    known, limit = {utterance.path for utterance in pool.utterances}, max_mb * 1e6 / TARS
    held, size, number = list[tuple[Utterance, bytes]](), 0, 0
    for name, data in members(archives):
        if name not in known:
            continue
        utterance = next(rows, None)
        if utterance is None or utterance.path != name:
            raise TrainError(f"{name} is not where {pool.folder} has it; give the archives in the order that the pool was built in")
        if held and size + len(data) + 2048 > limit * 0.97:  # the rest is for rows and pitch
            number = write_tar(held, logs, starts, output, number)
            held, size = [], 0
        held.append((utterance, data))
        size += len(data) + 1536
    write_tar(held, logs, starts, output, number)


def members(archives):
    for archive in archives:
        with tarfile.open(archive) as tar:
            yield from ((member.name, tar.extractfile(member).read()) for member in tar if member.isfile())


def write_tar(held, logs, starts, output, number):
    stem = output / f"data-{number // TARS:02d}" / f"clips-{number:04d}"
    stem.parent.mkdir(exist_ok=True)
    with tarfile.open(stem.with_suffix(".tar"), "w") as tar:
        for utterance, data in held:
            member = tarfile.TarInfo(utterance.path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    columns = ("path", "source", "speaker", "language", "transcript")
    lines = ["\t".join(columns), *("\t".join(getattr(utterance, column) for column in columns) for utterance, _ in held)]
    stem.with_suffix(".tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    spans = [slice(starts[u.path], starts[u.path] - (-u.samples // f0.HOP)) for u, _ in held]
    np.concatenate([logs[span] for span in spans]).tofile(stem.with_suffix(".f16"))
    return number + 1


def half_teacher(source, folder):
    """Save a teacher in float16; of a Whisper model the encoder alone, with a decoder of no layers, as which `transformers` can load it."""
    import transformers

    if transformers.AutoConfig.from_pretrained(source).model_type != "whisper":
        transformers.AutoModel.from_pretrained(source).half().save_pretrained(folder)
        transformers.AutoFeatureExtractor.from_pretrained(source).save_pretrained(folder)
        return
    whole = transformers.WhisperModel.from_pretrained(source)
    sizes = {"decoder_layers": 0, "vocab_size": 8, "max_target_positions": 1, "suppress_tokens": None, "begin_suppress_tokens": None}
    ids = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
    bare = transformers.WhisperModel(transformers.WhisperConfig.from_dict({**whole.config.to_dict(), **sizes, **ids}))
    bare.encoder.load_state_dict(whole.encoder.state_dict())
    bare.half().save_pretrained(folder)
    transformers.WhisperFeatureExtractor.from_pretrained(source).save_pretrained(folder)


def collect(args):
    held = args.output / "returned"
    held.mkdir(parents=True, exist_ok=True)
    for folder in args.folders:
        for file in (file for file in folder.iterdir() if ".tar." in file.name):
            shutil.copyfile(file, held / file.name)
    join_runs(held, args.output / "runs")


# --- on the machine ----------------------------------------------------------------------------------------------------------------------------


def receive(args):
    (LOCAL / "incoming").mkdir(parents=True, exist_ok=True)
    for piece in args.pieces:
        tars = sorted(piece.glob("clips-*.tar"))
        command = [sys.executable, "-m", "unitoken", "train", "pool"]
        runs = [subprocess.Popen([*command, tar.with_suffix(".tsv"), tar, "-o", LOCAL / "parts" / tar.stem]) for tar in tars]
        if any([run.wait() for run in runs]):
            raise TrainError(f"a tar of {piece} could not be decoded; see above")
        for tar in tars:
            shutil.copyfile(tar.with_suffix(".f16"), LOCAL / "parts" / tar.stem / f0.DATA)
        for path in piece.iterdir():
            if path.is_dir() and path.name != "wheels":
                shutil.copytree(path, LOCAL / path.name, dirs_exist_ok=True)
            elif path.is_file() and not path.name.startswith("clips-"):
                shutil.copyfile(path, (LOCAL / "incoming" if ".tar." in path.name else LOCAL) / path.name)
    join_runs(LOCAL / "incoming", LOCAL / "run")


def train(args):
    pool, run, device = LOCAL / "pool", LOCAL / "run", ("--device", os.environ["DEVICE"]) if "DEVICE" in os.environ else ()
    join_parts_of_pool(pool)
    if not (LOCAL / HELD_OUT).is_file():
        raise TrainError(
            f"{LOCAL / HELD_OUT} is missing, and without it the held-out speakers would be trained on; first: gpu_train.sh receive .gpu/common"
        )
    held_out = [("--valid-speakers", LOCAL / HELD_OUT)]
    noise = [("--noise", LOCAL / "noise.tar")] if (LOCAL / "noise.tar").is_file() else []
    hears = ("--teacher", LOCAL / "teacher") if (LOCAL / "teacher").is_dir() else ()
    timed = [option for pair in [*held_out, *noise] for option in pair] + ["--minutes", args.minutes]
    shared = [pool, "-o", run / args.stage, *device, *args.rest]
    if args.stage in ("semantic", "refine"):  # what is there already is kept
        unitoken("features", pool, "-o", LOCAL / "features", "--teacher", LOCAL / "teacher", *device)
    if args.stage == "semantic":
        begins = ("--whisper", LOCAL / "start") if (LOCAL / "start").is_dir() else ()
        unitoken("semantic", *shared, "--features", LOCAL / "features", *timed, *begins)
    elif args.stage == "refine":
        unitoken("refine", run / "codebook", *shared, "--features", LOCAL / "features", *timed)
    elif args.stage == "codebook":
        trained = run / ("refine" if (run / "refine").is_dir() else "semantic")
        unitoken("codebook", trained, *shared, *(option for pair in held_out for option in pair))
    elif args.stage == "reconstruct":
        unitoken("reconstruct", run / "codebook", *shared, "--pitch", pool, *timed, *hears)
    else:
        unitoken("adversarial", run / "reconstruct", *shared, "--pitch", pool, "--tokens", run / "codebook", *timed, *hears)
    send(argparse.Namespace(stage=args.stage, first=0, max_part_mb=args.max_part_mb))


def join_parts_of_pool(pool):
    """Make one pool with its pitch of all parts received, unless it is there; features of another pool go."""
    parts = sorted(path for path in (LOCAL / "parts").glob("clips-*") if (path / f0.DATA).is_file())
    names = "\n".join(path.name for path in parts)
    if (pool / "parts.txt").is_file() and (pool / "parts.txt").read_text() == names:
        return
    if not parts:
        raise TrainError(f"{LOCAL / 'parts'} holds no data; first: gpu_train.sh receive PIECE")
    shutil.rmtree(LOCAL / "features", ignore_errors=True)
    unitoken("merge", *parts, "-o", pool)
    if (LOCAL / SOURCES).is_file():
        keep_sources(LOCAL / SOURCES, pool)
    (pool / f0.DATA).write_bytes(b"".join((path / f0.DATA).read_bytes() for path in parts))
    mark(pool / f0.DATA, Pool(pool))
    (pool / "parts.txt").write_text(names)


def send(args):
    """Put the log and some pieces of a run where they are fetched from; the first call packs it."""
    packed, folder = LOCAL / "packed", LOCAL / "run" / args.stage
    listed = packed / f"{args.stage}.tar.pieces.json"
    if not args.first or not listed.is_file():
        pack(args.stage, folder, packed, args.max_part_mb)
    OUT.mkdir(parents=True, exist_ok=True)
    parts = json.loads(listed.read_text())["pieces"]
    for part in parts[args.first : args.first + PARTS]:
        shutil.copyfile(packed / part["name"], OUT / part["name"])
    shutil.copyfile(listed, OUT / listed.name)
    if (folder / "log.csv").is_file():
        shutil.copyfile(folder / "log.csv", OUT / f"{args.stage}-log.csv")
    last = min(args.first + PARTS, len(parts))
    print(f"pieces {args.first} to {last - 1} of {len(parts)}: {OUT}" + (f"; next: send {args.stage} {last}" if last < len(parts) else ""))


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    modes = parser.add_subparsers(dest="mode", required=True)
    mode = modes.add_parser("prepare")
    mode.add_argument("pool", type=Path, nargs="?", help="training pool, made of the archives in the order given")
    mode.add_argument("--archives", type=Path, nargs="+", default=[])
    for name in ("--pitch", "--noise", "--valid-speakers", "--teacher", "--start"):
        mode.add_argument(name, type=Path)
    mode.add_argument("--run", action="append", default=[], metavar="STAGE=FOLDER")
    mode.add_argument("--max-mb", type=float, default=55)
    mode.add_argument("--no-wheels", action="store_false", dest="wheels")
    mode.add_argument("-o", "--output", type=Path, default=Path(".gpu"))
    modes.add_parser("receive").add_argument("pieces", type=Path, nargs="+")
    mode = modes.add_parser("train")
    mode.add_argument("stage", choices=STAGES)
    mode.add_argument("minutes", type=float)
    mode.add_argument("--max-part-mb", type=float, default=MAX_PART_MB, help="largest piece of the run that is sent back")
    mode.add_argument("rest", nargs=argparse.REMAINDER, help="more arguments for the stage's command")
    mode = modes.add_parser("send")
    mode.add_argument("stage", choices=STAGES)
    mode.add_argument("first", type=int, nargs="?", default=0)
    mode.add_argument("--max-part-mb", type=float, default=MAX_PART_MB)
    mode = modes.add_parser("collect")
    mode.add_argument("folders", type=Path, nargs="+")
    mode.add_argument("-o", "--output", type=Path, default=Path(".gpu"))
    return parser.parse_args()


if __name__ == "__main__":
    arguments = read_arguments()
    try:
        {"prepare": prepare, "receive": receive, "train": train, "send": send, "collect": collect}[arguments.mode](arguments)
    except UnitokenError as error:
        sys.exit(f"error: {error}")
