"""What a Whisper encoder loses when it is made into S's encoder: one change at a time, and what a linear map then misses of the teacher's features.

    python scripts/whisper_parts.py WHISPER POOL FEATURES --valid-speakers valid-speakers.txt

The map is fitted to 100 utterances of LibriSpeech and speechocean762 and tried on others, of speakers held out. Nothing is trained.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unitoken.encoder_config import FrontEndConfig, TransformerConfig
from unitoken.nn.spectral import LogMel
from unitoken.train.features import FeatureCache
from unitoken.train.pool import Pool, Utterance, read_speakers, split_pool
from unitoken.train.sampling import Crop
from unitoken.train.store import AudioStore
from unitoken.train.targets import Projection
from unitoken.train.teachers import PADDING, WhisperTeacher, load_teacher
from unitoken.train.whisper_start import channel_use, fit_bands, linear_map

SOURCES = ("librispeech", "speechocean762")
LONGEST = 250


@dataclass(frozen=True)
class Change:
    """What is other than in Whisper.

    Attributes:
        own_mel: the log-mel of unitoken.
        joined: index of the block before which two frames become one; None is after all.
        reach: 20 ms frames that attention sees before and after.
        positions: False puts the mean of the first 10 s of positions in place of each.
        hidden: channels that the feed-forward parts keep.
        blocks: how many of the blocks.
    """

    own_mel: bool = False
    joined: int | None = None
    reach: int | None = None
    positions: bool = True
    hidden: tuple[int, ...] | None = None
    blocks: int | None = None


HIDDEN = TransformerConfig().hidden
CHANGES = {
    "nothing": Change(),
    "own log-mel": Change(own_mel=True),
    "two frames joined before block 3": Change(joined=2),
    "two frames joined before block 1": Change(joined=0),
    "reach 1 s": Change(reach=50),
    "reach 0.48 s": Change(reach=24),
    "reach 0.32 s": Change(reach=16),
    f"hidden {HIDDEN}": Change(hidden=HIDDEN),
    f"hidden {(sum(HIDDEN) // 4,) * 4}": Change(hidden=(sum(HIDDEN) // 4,) * 4),
    "hidden (640, 640, 640, 640)": Change(hidden=(640,) * 4),
    "three blocks": Change(blocks=3),
    "no positions": Change(positions=False),
    "log-mel, joined before block 1, reach 0.48 s, hidden": Change(own_mel=True, joined=0, reach=24, hidden=HIDDEN),
}


class Parts:
    """Whisper's encoder, computed with a change.

    Args:
        whisper: the encoder.
        front_end: unitoken's.
        waves: speech to weigh bands and channels by.
    """

    def __init__(self, whisper: WhisperTeacher, front_end: LogMel, waves: Sequence[Tensor]) -> None:
        self.whisper, self.front_end = whisper, front_end
        self.scale, self.shift = fit_bands(front_end, whisper, waves)
        self.use = channel_use(whisper, waves)

    def __call__(self, wave: Tensor, change: Change) -> Tensor:
        """Return the last hidden state at 25 Hz, float32 `(frames, dim)`, of float32 `(samples,)`."""
        encoder, padded = self.whisper.encoder, F.pad(wave, (0, PADDING))[None]
        mel = (self.front_end(padded) * self.scale + self.shift).transpose(1, 2) if change.own_mel else self.whisper.log_mel(padded)
        x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).transpose(1, 2)[0]
        table = encoder.embed_positions.weight
        x = x + (table[: len(x)] if change.positions else table[:500].mean(0))
        for index, layer in enumerate(list(encoder.layers)[: change.blocks]):
            if index == change.joined:
                x = join(x)
            reach = None if change.reach is None else change.reach // (1 if change.joined is None or index < change.joined else 2)
            x = x + attend(layer, x, reach)
            hidden = F.gelu(layer.fc1(layer.final_layer_norm(x)))
            if change.hidden is not None:
                idle = torch.ones(hidden.shape[1], dtype=torch.bool)
                idle[self.use[index].topk(change.hidden[index]).indices] = False
                hidden = hidden.masked_fill(idle, 0)
            x = x + layer.fc2(hidden)
        return encoder.layer_norm(x) if change.joined is not None else join(encoder.layer_norm(x))


def join(x: Tensor) -> Tensor:
    """Return the means of each two frames."""
    return x[: len(x) // 2 * 2].view(-1, 2, x.shape[1]).mean(1)


def attend(layer: torch.nn.Module, x: Tensor, reach: int | None) -> Tensor:
    """Return what a layer's attention adds to frames `(frames, dim)`."""
    attention = layer.self_attn
    query, key, value = (
        part(layer.self_attn_layer_norm(x)).view(len(x), attention.num_heads, -1).transpose(0, 1)
        for part in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    at = torch.arange(len(x))
    allowed = None if reach is None else (at[:, None] - at).abs() <= reach
    return attention.out_proj(F.scaled_dot_product_attention(query, key, value, attn_mask=allowed).transpose(0, 1).flatten(1))


def pairs(
    encode: Callable[[Tensor], Tensor], audio: AudioStore, cache: FeatureCache, projection: Projection, chosen: Sequence[Utterance]
) -> tuple[Tensor, Tensor]:
    """Return hidden states and targets of the beginnings of utterances."""
    states, targets = list[Tensor](), list[Tensor]()
    for utterance in chosen:
        crop = Crop(utterance, 0, min(utterance.samples // cache.hop, LONGEST) * cache.hop)
        count = crop.samples // cache.hop
        states.append(encode(audio.crop([crop], crop.samples)[0])[:count])
        targets.append(projection(cache.crop([crop], count))[0])
    return torch.cat(states), torch.cat(targets)


def missed(learnt: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], ridge: float = 30.0) -> tuple[float, float]:
    """Fit a linear map; return the mean squared errors on what it was fitted to and on the other."""
    weight, bias = linear_map(*learnt, ridge)
    first, second = (float((F.linear(states, weight, bias) - targets).square().mean()) for states, targets in (learnt, other))
    return first, second


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("whisper", "pool", "features"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--valid-speakers", type=Path, required=True)
    given = parser.parse_args()
    pool, whisper = Pool(given.pool), load_teacher(given.whisper)
    if not isinstance(whisper, WhisperTeacher):
        parser.error(f"{given.whisper} is no Whisper encoder")
    cache, (known, held_out) = FeatureCache(given.features, pool), split_pool(pool, read_speakers(given.valid_speakers))
    projection, audio = Projection.fit(cache, known, 256), AudioStore(pool)
    known = [utterance for utterance in known if utterance.source in SOURCES]
    known = [known[index] for index in np.random.default_rng(1).permutation(len(known))[:100]]
    other = [utterance for utterance in held_out if utterance.source == "librispeech"]
    waves = [audio.crop([Crop(utterance, 0, utterance.samples)], utterance.samples)[0] for utterance in known[:40]]
    parts = Parts(whisper, LogMel(FrontEndConfig(400, 400, 160, 80), 16000), waves)
    print("| change | missed, speakers fitted to | missed, LibriSpeech held out |\n|---|---|---|")
    for name, change in CHANGES.items():

        def encode(wave: Tensor, change: Change = change) -> Tensor:
            return parts(wave, change)

        learnt, unknown = (pairs(encode, audio, cache, projection, chosen) for chosen in (known, other))
        print("| {} | {:.2f} | {:.2f} |".format(name, *missed(learnt, unknown)), flush=True)


if __name__ == "__main__":
    main()
