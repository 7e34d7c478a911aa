"""`unitoken probe`: what each stream holds. Every command prints a table as Markdown; `-o` also saves the figures as JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from .. import evaluate as measuring
from ..audio import load_audio
from ..evaluate import changes, features, probes, references, robustness, swap
from ..evaluate.manifest import read_manifest
from ..evaluate.markdown import lay_out, number
from ..evaluate.recordings import Recordings
from ..evaluate.words import pool_errors
from ..files import replacing
from ..train.pool import read_speakers
from .messages import UsageError
from .options import Device, Force, Model, Revision, load_tokenizer
from .paths import refuse_existing

app = typer.Typer(help="Measure what each stream holds: voice, melody, phones, emotion; and what moves the tokens.", no_args_is_help=True)

Manifest = Annotated[Path, typer.Argument(metavar="MANIFEST", exists=True, help="TSV, JSONL, or a folder of clips, as for evaluate.")]
Archives = Annotated[
    list[Path] | None, typer.Option("--archive", exists=True, dir_okay=False, help="Tar with the manifest's clips, several times for more.")
]
Embedder = Annotated[Path, typer.Option("--speakers", exists=True, help="GE2E weights (safetensors).")]
Pairs = Annotated[int, typer.Option("--pairs", min=3, help="Pairs of clips, half of them across sex.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the draws.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", dir_okay=False, help="Also save the figures as JSON.")]


@app.command()
def voice(
    manifest: Manifest,
    speakers: Embedder,
    asr: Annotated[str | None, typer.Option("--asr", metavar="MODEL", help="Whisper for the words: folder, size or Hub name (CTranslate2).")] = None,
    pairs: Pairs = 50,
    seed: Seed = 0,
    model: Model = None,
    revision: Revision = None,
    device: Device = "cpu",
    output: Output = None,
    force: Force = False,
) -> None:
    """Decode clips with another speaker's G: whose voice is it, and what is left of melody and words?"""
    _free(output, force)
    tokenizer, drawn = load_tokenizer(model, revision, device), swap.voice_pairs(read_manifest(manifest), pairs, seed=seed)
    swaps = swap.measure_swaps(tokenizer, drawn, measuring.SpeakerEmbedder(speakers), None if asr is None else measuring.load_whisper(asr))
    parts = {
        "all": swaps,
        "across sex": [each for each in swaps if each.pair.across_sex],
        "within": [each for each in swaps if not each.pair.across_sex],
    }
    rows = {name: _voice(part) for name, part in parts.items()}
    slope, _ = swap.pitch_slope(swap.measure_pitch_swaps(tokenizer, drawn))
    rows["all"]["median F0 goes of the way"] = slope
    _print("pairs", rows, 3, output)


def _voice(swaps: Sequence[swap.Swap]) -> dict[str, float | None]:
    return {
        "clips": len(swaps),
        "nearer to target": sum(each.nearer_to_target for each in swaps),
        "cosine to target": _mean([each.to_target for each in swaps]),
        "to source": _mean([each.to_source for each in swaps]),
        "F0 corr with source": _mean([each.melody for each in swaps]),
        "with its own G": _mean([each.own_melody for each in swaps]),
        "WER": pool_errors([each.words for each in swaps if each.words]),
        "WER with its own G": pool_errors([each.own_words for each in swaps if each.own_words]),
    }


@app.command()
def melody(
    manifest: Manifest,
    pairs: Pairs = 50,
    seed: Seed = 0,
    model: Model = None,
    revision: Revision = None,
    device: Device = "cpu",
    output: Output = None,
    force: Force = False,
) -> None:
    """Decode clips with another clip's P, and without P: whose melody is it?"""
    _free(output, force)
    tokenizer, drawn = load_tokenizer(model, revision, device), swap.voice_pairs(read_manifest(manifest), pairs, seed=seed)
    swapped = swap.measure_melody_swaps(tokenizer, drawn)
    alone = {
        name: swap.measure_melody(tokenizer, [pair.source for pair in drawn], drop_p=drop) for name, drop in (("its own P", False), ("no P", True))
    }
    rows: dict[str, dict[str, float | None]] = {name: {"F0 corr with the clip": _mean(found)} for name, found in alone.items()}
    rows["another clip's P"] = {"F0 corr with the clip": _mean([each.to_source for each in swapped])}
    rows["another clip's P"]["with that clip"] = _mean([each.to_target for each in swapped])
    _print("decoded with", rows, 3, output)


@app.command()
def phones(
    labels: Annotated[Path, typer.Argument(metavar="LABELS", exists=True, help="TSV: path, runs PHONE:COUNT of 10 ms.")],
    manifest: Manifest,
    unseen: Annotated[Path, typer.Option("--unseen", exists=True, help="TSV of source and speaker: whom the phone probe is tested on.")],
    archive: Archives = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Corpus whose speakers the speaker probe tells apart; else all labelled clips.")
    ] = None,
    model: Model = None,
    revision: Revision = None,
    device: Device = "cpu",
    output: Output = None,
    force: Force = False,
) -> None:
    """Train linear probes for phones and speakers on the codewords of G, S and P."""
    _free(output, force)
    tokenizer, labelled = load_tokenizer(model, revision, device), probes.read_phones(labels)
    books = features.BundleFeatures(tokenizer)
    held_out = {f"{name}/{speaker}" for name, speaker in read_speakers(unseen)}
    found: dict[str, list[probes.LabelledClip]] = {"g": [], "s": [], "p": []}
    sources = dict[str, str]()
    for clip, waveform in Recordings(archive or ()).read([clip for clip in read_manifest(manifest) if clip.name in labelled]):
        bundle = tokenizer.encode(waveform, sample_rate=tokenizer.sample_rate)
        sources[clip.name] = clip.source
        for stream, clips in found.items():
            clips.append(probes.LabelledClip(clip.name, f"{clip.source}/{clip.speaker}", books.frames(bundle, stream).numpy(), labelled[clip.name]))
    rows = dict[str, dict[str, float | None]]()
    for stream, clips in found.items():
        phone = probes.probe_phones(clips, held_out)
        speaker = probes.probe_speakers([clip for clip in clips if source is None or sources[clip.name] == source])
        rows[stream] = {"phones, all frames": phone.all_frames, "phones, speech": phone.speech_frames}
        rows[stream] |= {"speaker, frame": speaker.frame, "speaker, clip": speaker.clip, "chance": speaker.chance}
    _print("stream", rows, 4, output)


@app.command()
def emotion(
    manifest: Manifest,
    archive: Archives = None,
    model: Model = None,
    revision: Revision = None,
    device: Device = "cpu",
    output: Output = None,
    force: Force = False,
) -> None:
    """Train linear probes for emotions, each speaker held out once; of the clips whose column `extra` has `emotion=`."""
    _free(output, force)
    tokenizer, clips = load_tokenizer(model, revision, device), [clip for clip in read_manifest(manifest) if clip.emotion]
    if not clips:
        raise UsageError(f"no clip of {manifest} has emotion=... in the column extra")
    books = features.BundleFeatures(tokenizer)
    bundles = [(clip, tokenizer.encode(waveform, sample_rate=tokenizer.sample_rate)) for clip, waveform in Recordings(archive or ()).read(clips)]
    rows = dict[str, dict[str, float | None]]()
    for streams in ("s", "sg", "sgp"):
        x = torch.stack([books.clip(bundle, streams) for _, bundle in bundles])
        right, chance = probes.probe_clips(x, [clip.emotion for clip, _ in bundles], [clip.speaker for clip, _ in bundles])
        rows["+".join(streams)] = {"clips": len(bundles), "emotion": right, "the commonest": chance}
    _print("streams", rows, 3, output)


@app.command()
def reference(
    manifest: Manifest,
    speakers: Embedder,
    carrier: Annotated[Path, typer.Option("--carrier", exists=True, dir_okay=False, help="The sentence that is decoded in every voice.")],
    model: Model = None,
    revision: Revision = None,
    device: Device = "cpu",
    output: Output = None,
    force: Force = False,
) -> None:
    """Decode one sentence in every speaker's voice, G heard from references of several lengths and numbers, and not quantized."""
    _free(output, force)
    tokenizer, embedder = load_tokenizer(model, revision, device), measuring.SpeakerEmbedder(speakers)
    by_speaker = dict[str, list[Any]]()
    for clip, waveform in Recordings().read([clip for clip in read_manifest(manifest) if clip.speaker]):
        by_speaker.setdefault(f"{clip.source}/{clip.speaker}", []).append(waveform)
    voices = [references.Speaker(name, clips) for name, clips in by_speaker.items() if len(clips) > 1]
    sentence, _ = load_audio(carrier, sample_rate=tokenizer.sample_rate)
    found = references.by_reference(tokenizer, voices, sentence, embedder)
    _print("G heard from", {name: {"cosine": value, "speakers": count} for name, (value, count) in found.items()}, 3, output)


@app.command()
def tokens(
    manifest: Manifest,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Take this many clips, evenly over the manifest.")] = 40,
    seed: Seed = 0,
    model: Model = None,
    revision: Revision = None,
    device: Device = "cpu",
    output: Output = None,
    force: Force = False,
) -> None:
    """Change clips (level, noise, room, speed, Opus) and count how many tokens change: unit edit distance of S and P."""
    _free(output, force)
    tokenizer, clips = load_tokenizer(model, revision, device), read_manifest(manifest, limit=limit)
    waveforms = [waveform for _, waveform in Recordings().read(clips) if len(waveform)]
    possible, missing = changes.possible_changes()
    found = robustness.token_distances(tokenizer, waveforms, possible.values(), seed=seed)
    _print("change", {name: {stream.upper(): value for stream, value in streams.items()} for name, streams in found.items()}, 3, output)
    for line in missing:
        typer.echo(line, err=True)


def _free(output: Path | None, force: bool) -> None:
    if output is not None:
        refuse_existing([output], force)


def _print(title: str, rows: Mapping[str, Mapping[str, float | None]], digits: int, output: Path | None) -> None:
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    cells = [[name, *(number(row.get(key), 0 if isinstance(row.get(key), int) else digits) for key in columns)] for name, row in rows.items()]
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as temporary:
            temporary.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    typer.echo(lay_out([[title, *columns], *cells]))


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None
