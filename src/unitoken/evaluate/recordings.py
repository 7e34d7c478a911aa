"""Waveforms of a manifest's clips, from files or from tar archives."""

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..audio import load_audio
from ..errors import ConfigError
from .codecs import SAMPLE_RATE
from .manifest import Clip


@dataclass(frozen=True)
class Recordings:
    """Where the audio of clips lies.

    Attributes:
        archives: tar files whose members are named as the clips; none for files beside the manifest.
    """

    archives: Sequence[str | os.PathLike[str]] = ()

    def read(self, clips: Sequence[Clip]) -> Iterator[tuple[Clip, Tensor]]:
        """Yield the clips with their waveforms, float32 `(samples,)` at 16 kHz: in their order, or in that of the archives.

        Raises:
            AudioError: if a clip cannot be read.
            ConfigError: if a clip is in none of the archives.
        """
        if not self.archives:
            yield from ((clip, load_audio(clip.path, sample_rate=SAMPLE_RATE)[0]) for clip in clips)
            return
        wanted = {clip.name: clip for clip in clips}
        for archive in self.archives:
            with tarfile.open(archive) as tar:
                for member in tar:
                    if member.name in wanted and (file := tar.extractfile(member)) is not None:
                        yield wanted.pop(member.name), load_audio(io.BytesIO(file.read()), sample_rate=SAMPLE_RATE)[0]
        if wanted:
            raise ConfigError(f"{len(wanted)} clips are in none of the archives, {next(iter(wanted))} for one; give all archives of the manifest")
