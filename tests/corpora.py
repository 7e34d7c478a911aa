"""A small corpus for tests: clips of many lengths with a manifest, encoded by a tiny model."""

import json

import models
from unitoken import save_audio
from unitoken.corpus import Settings, encode_corpus, make_plan

LANGUAGES = ("de", "en", "fr")


def tiny(folder, seed=0):
    """Return settings for a tiny model, whose folder is written."""
    models.tokenizer(seed=seed).save_pretrained(folder)
    return Settings(model=str(folder))


def manifest(folder, count=11):
    """Write clips and their manifest, and return its path."""
    folder.mkdir(exist_ok=True)
    rows = []
    for index in range(count):
        save_audio(folder / f"{index}.wav", models.clip(800 * index, index), models.RATE)
        rows.append({"id": f"u{index}", "path": f"{index}.wav", "language": LANGUAGES[index % 3], "speaker": index % 2, "text": f"Grüße {index}"})
    path = folder / "list.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def encode(place, listed, settings, rows=4, **options):
    """Encode a manifest to a corpus, and return its place."""
    encode_corpus(place, make_plan([listed], rows=rows), settings, **options)
    return place
