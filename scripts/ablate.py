"""What matters in training `small`: the same stages for as many steps with one thing changed, from random weights (or Whisper's), on one core each.

usage: python scripts/ablate.py run OUT NAME... --pool POOL --features FEATURES --pitch PITCH --whisper WHISPER-TINY.EN --teacher WHISPER-BASE
           --valid-speakers TSV --noise TAR --valid VALID.tsv --asr MODEL --phones PHONES.tsv --manifest TRAIN.tsv --archive TAR
           --told TOLD.tsv
       python scripts/ablate.py table OUT
       python scripts/ablate.py list

`run` trains, exports and measures each NAME in OUT/NAME, and goes on where it was broken off; `table` prints the figures of what was
measured, such as those in docs/curves/ablations. --share scales steps.
--phones are those of the probe, of TRAIN.tsv; --told is the table that "phones told" learns from. `NAME, seed 1` is a variant with another seed.
"""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch

from unitoken.config import CodecConfig, QuantizerConfig
from unitoken.encoder_config import EncoderConfig
from unitoken.hub import CONFIG, WEIGHTS, save_stored
from unitoken.model.codec import Codec
from unitoken.presets import preset
from unitoken.train.handover import join_codec, load_codec
from unitoken.train.pool import Pool
from unitoken.train.semantic import SemanticStudent
from unitoken.train.semantic_tokens import tokenize_pool

SEMANTIC, REBUILD = 1660, 1290  # steps: 10 and 20 minutes of one core with AMX, twice that of one without
JUDGED_COST = 1.25  # time of a step with discriminators over that of one without
SEMANTIC_COST = 0.5  # time of all semantic steps over that of the others
NO_END = 1e6  # minutes: steps decide
FIGURES = "figures.json"
DIGITS = {  # columns of the table: keys of FIGURES, and how many digits are shown
    "steps": 0,
    "self-CER": 3,
    "without P": 3,
    "phone probe": 3,
    "mel dB": 2,
    "F0 corr": 3,
    "STOI": 3,
    "PESQ-WB": 2,
}
PACKAGED = preset("small")
SMALL = dataclasses.replace(PACKAGED, decoder=dataclasses.replace(PACKAGED.decoder, noise_hz=None))  # as it was when the first of these were run


@dataclass(frozen=True)
class Variant:
    """One run.

    Attributes:
        question: the decision that it belongs to.
        config: of the codec.
        semantic: settings of stage 0; None takes the run of `base`, or of `base, seed 1`.
        book: further arguments of `codebook`.
        rebuild: settings of stage 1.
        whisper: whether the semantic encoder begins with Whisper's weights.
        noise: whether the student hears noise and rooms.
        told: whether the student tells phones, where they are known.
        features: name of the folder of features, beside the one given.
        judged: share of stage 1's time in which discriminators join, for as many steps fewer as they cost.
        taught: whether there is a semantic stream at all.
        seed: of everything.
    """

    question: str
    config: CodecConfig = SMALL
    semantic: tuple[str, ...] | None = None
    book: tuple[str, ...] = ()
    rebuild: tuple[str, ...] = ()
    whisper: bool = True
    noise: bool = True
    told: bool = False
    features: str | None = None
    judged: float = 0.0
    taught: bool = True
    seed: int = 0

    @property
    def heard_by(self):
        """Name of the run whose semantic encoder this one takes, None if it trains its own."""
        return None if self.semantic is not None or not self.taught else name_of("base", self.seed)

    @property
    def seeded(self):
        """The setting of the seed."""
        return f"run.seed={self.seed}"


def name_of(name, seed):
    return f"{name}, seed {seed}" if seed else name


def change(**parts):
    """Return `small` with other parts: `p` and `s` quantizers, encoders, or fields of the codec."""
    config = SMALL
    for name, stream in (("s", "semantic"), ("p", "residual")):
        held = getattr(config, stream)
        changed = {"quantizer": parts.pop(name, held.quantizer), "encoder": parts.pop(f"{name}_encoder", held.encoder)}
        config = dataclasses.replace(config, p_hears_s=parts.get("p_hears_s", config.p_hears_s), **{stream: dataclasses.replace(held, **changed)})
    return dataclasses.replace(config, **parts)


def sized(size):
    return change(s=QuantizerConfig("vq", 128, 1, size), p=QuantizerConfig("vq", 32, 1, size))


CONVOLUTIONS = EncoderConfig((128, 192, 320), (1, 2, 6))
SLOW = EncoderConfig((128, 192, 256, 256), (1, 2, 2, 2))
HEARS = ("swapped=2", "weights.swapped=0.02", "weights.heard=0.25")
VARIANTS = {
    "base": Variant("-", semantic=()),
    "random student": Variant("distillation", semantic=(), whisper=False),
    "convolutions": Variant("distillation", change(s_encoder=CONVOLUTIONS), (), whisper=False),
    "no teacher": Variant(
        "distillation", change(s=QuantizerConfig("vq", 128, 1, 2), p=QuantizerConfig("rvq", 32, 2, 4096), p_hears_s=0), taught=False
    ),
    "phones told": Variant("phones", semantic=(), told=True),
    "teacher's layer 4": Variant("teacher's layer", semantic=(), features="features-4"),
    "nothing flattened": Variant("weight of the teacher's axes", book=("--flatten", "0")),
    "all flattened": Variant("weight of the teacher's axes", book=("--flatten", "1")),
    "teacher hears decoding": Variant("weight of the teacher's ear", rebuild=("heard=4", *HEARS)),
    "nothing perturbed": Variant("perturbation", semantic=("perturbation.probability=0",), rebuild=("perturbation.probability=0",), noise=False),
    "P never dropped": Variant("P-dropout", rebuild=("drop_p=0",)),
    "P does not hear S": Variant("P hears S", change(p_hears_s=0)),
    "P at 12.5 Hz": Variant("rate", change(p=QuantizerConfig("rvq", 32, 2, 4096), p_encoder=SLOW, p_hears_s=0)),
    "1024 codewords": Variant("codebook", sized(1024)),
    "16384 codewords": Variant("codebook", sized(16384)),
    "P by FSQ": Variant("quantizer", change(p=QuantizerConfig("fsq", 4, 1, 4096, (8, 8, 8, 8)))),
    "P by Gumbel": Variant("quantizer", change(p=QuantizerConfig("gumbel", 32, 1, 4096))),
    "P by two codebooks of 64": Variant("quantizer", change(p=QuantizerConfig("rvq", 32, 2, 64))),
    "discriminators": Variant("discriminators", judged=0.4),
    "one subframe": Variant("subframes", change(decoder=dataclasses.replace(SMALL.decoder, n_fft=1280, subframes=1))),
    "noise from 3 kHz": Variant("noise", change(decoder=PACKAGED.decoder)),
    "no envelopes": Variant("loss of envelopes", rebuild=("weights.envelope=0",)),
}
VARIANTS = {name_of(name, seed): dataclasses.replace(variant, seed=seed) for seed in (0, 1) for name, variant in VARIANTS.items()}


def train(*arguments, settings=()):
    """Run a command of `unitoken` on one thread."""
    command = [shutil.which("unitoken"), *map(str, arguments), *(text for setting in settings for text in ("--set", setting))]
    print(*command, flush=True)
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def steps(number, args):
    """The setting of how many steps to train."""
    return f"run.steps={round(number * args.share)}"


def unfinished(path):
    return not path.exists()


def folder_of(args, name):
    return args.output / name.replace(" ", "-").replace("'", "").replace(",", "")


def train_variant(args, name):
    """Train, export and measure one variant."""
    variant, folder = VARIANTS[name], folder_of(args, name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(variant.config.to_json())
    if unfinished(folder / "codec" / "config.json"):
        if not variant.taught:
            without_teacher(variant, Pool(args.pool), folder / "codec")
        elif variant.heard_by and not variant.book and variant.config.semantic == SMALL.semantic:
            with_codebook_of(folder_of(args, variant.heard_by) / "codec", variant, folder / "codec")
        else:
            learn_semantic(args, variant, folder)
    run = rebuild(args, variant, folder)
    if unfinished(folder / "model" / "config.json"):
        train("train", "export", run, "-o", folder / "model", "--name", name.replace(" ", "-"))
    measure(args, folder, "s" if variant.taught else "p")


def shared(args, variant):
    """Return the options of all stages that train."""
    return ("--valid-speakers", args.valid_speakers, *(("--noise", args.noise) if variant.noise else ()))


def learn_semantic(args, variant, folder):
    """Train the semantic encoder, or take that of `base`, and fit its codebook."""
    semantic = folder_of(args, variant.heard_by) / "semantic" if variant.heard_by else folder / "semantic"
    if not variant.heard_by and unfinished(folder / "semantic.done"):
        features = args.features if variant.features is None else args.features.parent / variant.features
        begin = (*(("--whisper", args.whisper) if variant.whisper else ()), *(("--phones", args.told) if variant.told else ()))
        arguments = ("train", "semantic", args.pool, "-o", semantic, "--features", features, "--config", folder / "config.json", *begin)
        settings = ("batch=12", "run.learning_rate=5e-4", variant.seeded, steps(SEMANTIC, args), *variant.semantic)
        train(*arguments, *shared(args, variant), "--minutes", NO_END, settings=settings)
        (folder / "semantic.done").touch()
    held = ("--valid-speakers", args.valid_speakers)
    book = ("--config", folder / "config.json", "--seed", variant.seed, *held, *variant.book)
    train("train", "codebook", semantic, args.pool, "-o", folder / "codec", *book)


def rebuild(args, variant, folder):
    """Train P, G and the decoder, the last part of the time with discriminators where the variant wants them; return the run."""
    number = REBUILD if variant.taught else REBUILD * (1 + SEMANTIC_COST)
    settings = ("batch=12", "weights.redundancy=0", "weights.envelope=0.3", "voices=2", variant.seeded, *variant.rebuild)
    common = ("--pitch", args.pitch, *shared(args, variant), "--teacher", args.teacher, "--minutes", NO_END)
    if unfinished(folder / "run.done"):
        arguments = ("train", "reconstruct", folder / "codec", args.pool, "-o", folder / "run", *common)
        train(*arguments, settings=(*settings, steps(number * (1 - variant.judged), args)))
        (folder / "run.done").touch()
    if not variant.judged:
        return folder / "run"
    if unfinished(folder / "judged.done"):
        arguments = ("train", "adversarial", folder / "run", args.pool, "-o", folder / "judged", "--tokens", folder / "codec", *common)
        own = [text if text.startswith("run.") else f"reconstruction.{text}" for text in settings]
        own += ["warmup=60", "ramp=60", "run.learning_rate=4e-4", "scale=2", steps(number * variant.judged / JUDGED_COST, args)]
        train(*arguments, settings=own)
        (folder / "judged.done").touch()
    return folder / "judged"


def measure(args, folder, stream):
    """Measure the exported model on the validation clips, and probe a stream for phones."""
    model = ("-m", (folder / "model").resolve())
    if unfinished(folder / "report" / "report.json"):
        train("evaluate", args.valid, "--asr", args.asr, "-c", "unitoken", "-c", "unitoken-no-p", *model, "-o", folder / "report")
    if args.phones and unfinished(folder / "phones.json"):
        archives = [text for archive in args.archive for text in ("--archive", archive)]
        train("probe", "phones", args.phones, args.manifest, "--unseen", args.valid_speakers, *archives, *model, "-o", folder / "phones.json")
    keep_figures(folder, stream)


def keep_figures(folder, stream):
    """Write what the table shows, beside the logs; the phone probe's figure is that of a stream, `s` or `p`."""
    with_p, without = json.loads((folder / "report" / "report.json").read_text())["codecs"]
    phones = folder / "phones.json"
    counts = [folder / part / "step.json" for part in ("run", "judged")]
    figures = {
        "steps": sum(json.loads(path.read_text())["step"] for path in counts if path.exists()),
        "self-CER": with_p["self_cer"]["all"],
        "without P": without["self_cer"]["all"],
        "phone probe": json.loads(phones.read_text())[stream]["phones, speech"] if phones.exists() else None,
        "mel dB": with_p["mel_distance_db"],
        "F0 corr": with_p["f0_correlation"],
        "STOI": with_p["stoi"],
        "PESQ-WB": with_p["pesq_wb"],
    }
    figures = {name: value if value is None else round(value, 4) for name, value in figures.items()}
    (folder / FIGURES).write_text(json.dumps(figures, indent=2) + "\n")


def with_codebook_of(known, variant, folder):
    """Write a codec with the semantic encoder, codebook and tokens of another, and everything else as it is before training."""
    student, trained = SemanticStudent(variant.config), load_codec(known)
    student.semantic.load_state_dict(trained.semantic.state_dict())
    codec = join_codec(student, trained.quantizer_s.codebook, seed=variant.seed)
    shutil.copytree(known, folder, ignore=shutil.ignore_patterns(CONFIG, WEIGHTS), dirs_exist_ok=True)  # tokens
    save_stored(folder, variant.config, codec.state_dict(), dtype=torch.float32)


def without_teacher(variant, pool, folder):
    """Write a codec whose S says nothing, and its tokens: all bits are P's."""
    torch.manual_seed(variant.seed)
    codec = Codec(variant.config)
    codec.quantizer_s.codebook.zero_()
    save_stored(folder, variant.config, codec.state_dict(), dtype=torch.float32)
    tokenize_pool(codec, codec.quantizer_s.codebook, pool, folder)


def table(args):
    """Print a row for each variant that was measured."""
    print(f"| decision | run | {' | '.join(DIGITS)} |")
    print("|---|---|" + "---:|" * len(DIGITS))
    for name, variant in VARIANTS.items():
        path = folder_of(args, name) / FIGURES
        if path.exists():
            figures = json.loads(path.read_text())
            cells = ["-" if figures[key] is None else f"{figures[key]:.{digits}f}" for key, digits in DIGITS.items()]
            print("| " + " | ".join([variant.question, name, *cells]) + " |")


def show(args):
    """Print the variants."""
    for name, variant in VARIANTS.items():
        if not variant.seed:
            print(f"{name}  ({variant.question})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run")
    run.add_argument("output", type=Path)
    run.add_argument("names", nargs="+", choices=VARIANTS)
    for name in ("pool", "features", "pitch", "whisper", "teacher", "valid-speakers", "noise", "valid", "asr"):
        run.add_argument(f"--{name}", type=Path, required=True)
    for name in ("phones", "manifest", "told"):
        run.add_argument(f"--{name}", type=Path)
    run.add_argument("--archive", type=Path, action="append", default=[])
    run.add_argument("--share", type=float, default=1.0, help="factor of all numbers of steps")
    run.set_defaults(run=lambda args: [train_variant(args, name) for name in args.names])
    printed = commands.add_parser("table")
    printed.add_argument("output", type=Path)
    printed.set_defaults(run=table)
    commands.add_parser("list").set_defaults(run=show)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
