"""What a run folder was trained on and how: one entry each time that training went on in it, for model cards and against mixing data."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import TrainError
from ..files import replacing
from . import parallel
from .pool import Utterance, digest_of

RECORD = "run.json"


def keep_record(folder: Path, utterances: Sequence[Utterance], **settings: Any) -> None:
    """Add an entry to a run folder's `run.json`: utterances, processes, version and settings.

    Args:
        folder: of the run.
        utterances: what is trained on; those of held-out speakers are not among them.
        settings: dataclasses, by the name they get in the entry.

    Raises:
        TrainError: if the folder was trained on other utterances: then nobody could say what its weights have heard.
    """
    path, known = folder / RECORD, list[dict[str, Any]]()
    digest = digest_of(sorted(utterances, key=lambda utterance: (utterance.path, utterance.samples)))
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known and known[-1]["utterances"]["digest"] != digest:
            before = known[-1]["utterances"]["number"]
            raise TrainError(
                f"{folder} was trained on {before} other utterances than these {len(utterances)}; "
                "give the same pool and held-out speakers, or another folder"
            )
    heard = {"number": len(utterances), "hours": round(sum(utterance.samples for utterance in utterances) / 16000 / 3600, 3), "digest": digest}
    known.append({"utterances": heard, "processes": parallel.world(), "version": __version__})
    known[-1] |= {name: dataclasses.asdict(value) for name, value in settings.items()}
    if parallel.rank() == 0:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
