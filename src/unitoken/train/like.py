"""A new semantic encoder for a trained codec: codewords that mean what the codec's mean, so that its P, G and decoder go on from where they are."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import TrainError
from ..model.codec import Codec
from ..nn.codebook import nearest
from .handover import join_codec
from .pool import Pool, Utterance
from .semantic import SemanticStudent
from .semantic_tokens import draw_utterances, pool_latents
from .store import AudioStore

PULL = 4.0
"""Frames' worth of what a linear map says of a codeword that speech may not have used."""


@torch.no_grad()
def narrow(
    student: SemanticStudent, dim: int, pool: Pool, utterances: Sequence[Utterance], *, frames: int = 100_000, seed: int = 0
) -> tuple[SemanticStudent, Tensor]:
    """Return a student whose latent has fewer dims, the principal axes of what the student says, and these axes, float32 `(old dim, dim)`.

    Args:
        student: with an output layer; not changed.
        dim: how many.
        pool: the audio.
        utterances: what to choose from.
        frames: about how many to hear.
        seed: of the choice.

    Raises:
        TrainError: if that is no narrower, or there is not enough speech.
    """
    semantic = student.config.semantic
    if not 1 <= dim < semantic.quantizer.dim:
        raise TrainError(f"a latent of {semantic.quantizer.dim} dims can be brought to 1 to {semantic.quantizer.dim - 1}, got {dim}")
    chosen, total = draw_utterances(utterances, frames, student.config.hop_s, seed)
    if total <= semantic.quantizer.dim:
        raise TrainError(f"{total} frames do not show the axes of {semantic.quantizer.dim} dims; the pool needs more utterances for training")
    device = next(student.parameters()).device
    said = torch.cat([latents for _, latents in pool_latents(student, AudioStore(pool).to(device), chosen)])
    axes = torch.linalg.eigh(torch.cov(said.T.double())).eigenvectors.flip(1)[:, :dim].float()
    quantizer = dataclasses.replace(semantic.quantizer, dim=dim)
    made = SemanticStudent(dataclasses.replace(student.config, semantic=dataclasses.replace(semantic, quantizer=quantizer))).to(device)
    turned = {name: axes.T @ value for name, value in student.state_dict().items() if name.startswith("semantic.out.")}
    made.load_state_dict(student.state_dict() | turned)
    return made.eval(), axes


@torch.no_grad()
def codewords_like(
    codec: Codec, student: SemanticStudent, pool: Pool, utterances: Sequence[Utterance], *, frames: int = 400_000, seed: int = 0
) -> Tensor:
    """Return the mean of a student's output where another codec chooses each codeword, float32 `(size, dim)`.

    Args:
        codec: the other one; only what makes its semantic tokens is used.
        student: the new semantic encoder, on the codec's device.
        pool: the audio.
        utterances: what to choose from.
        frames: about how many to hear.
        seed: of the choice.

    Raises:
        TrainError: without a frame, or if the codecs have codebooks of other sizes.
    """
    size = student.config.semantic.quantizer.codebook_size
    known = codec.quantizer_s.codewords()[0]
    if len(known) != size:
        raise TrainError(f"the student's codebook has {size} codewords, that of {codec.config.name} {len(known)}; make codebook_size equal")
    if student.config.hop_s != codec.config.hop_s:
        raise TrainError(f"the student's frames are of {student.config.hop_s} samples, those of {codec.config.name} of {codec.config.hop_s}")
    chosen, total = draw_utterances(utterances, frames, student.config.hop_s, seed)
    if not total:
        raise TrainError("no speech to find the codewords' meaning in; the pool has no utterance for training")
    audio = AudioStore(pool).to(known.device)
    said = torch.empty(total, dtype=torch.int64, device=known.device)
    for at, latents in pool_latents(codec, audio, chosen):
        said[at] = nearest(latents, known)
    heard = torch.empty(total, student.config.semantic.quantizer.dim, device=known.device)
    for at, latents in pool_latents(student, audio, chosen):
        heard[at] = latents
    count = torch.bincount(said, minlength=size).float()
    guess = _affine(known[said], heard, torch.ones_like(said).float())
    sums = torch.zeros(size, heard.shape[1], device=known.device).index_add_(0, said, heard)
    return (sums + PULL * (known @ guess[:-1] + guess[-1])) / (count[:, None] + PULL)


@torch.no_grad()
def keep_rest(codec: Codec, student: SemanticStudent, codewords: Tensor, count: Tensor) -> Codec:
    """Return a codec with a new semantic encoder and codebook and everything else another codec's; what reads codewords is fitted to the new ones.

    Args:
        codec: the other one; not changed.
        student: the new semantic encoder.
        codewords: float32 `(size, dim)`, each in place of the other codec's of that number.
        count: `(size,)`: how often each is used.

    Raises:
        TrainError: if the configurations differ in more than name, semantic encoder and dim.
    """
    ours, theirs = student.config, codec.config
    if dataclasses.replace(theirs, name=ours.name, semantic=ours.semantic) != ours:
        raise TrainError(
            f"{ours.name} and {theirs.name} differ in more than the semantic stream, so the rest cannot be kept; change the configuration"
        )
    made, known = join_codec(student, codewords), codec.quantizer_s.codewords()[0]
    state = made.state_dict()
    read = {f"{name}.{part}" for name in _readers(made) for part in ("weight", "bias")}
    kept = {name: value for name, value in codec.state_dict().items() if not name.startswith(("semantic.", "quantizer_s.")) and name not in read}
    made.load_state_dict(state | kept)
    for name, layer in _readers(made).items():
        _fit(layer, _readers(codec)[name], codewords, known, count)
    return made.eval()


def _readers(codec: Codec) -> dict[str, nn.Linear]:
    """Return the layers that read S's codewords, by name."""
    found: dict[str, nn.Linear] = {"decoder.from_s": codec.decoder.from_s, "decoder.pitch.from_s": codec.decoder.pitch.from_s}
    return found if codec.residual.side is None else found | {"residual.side": codec.residual.side}


def _affine(x: Tensor, y: Tensor, weight: Tensor, ridge: float = 1e-9) -> Tensor:
    """Return the map `(dim + 1, out)`, its last row the shift, from x to y that is best where the weight is; solved in float64."""
    z, weight = torch.cat([x, torch.ones_like(x[:, :1])], 1).double(), weight.double()[:, None]
    product = z.T @ (weight * z)
    product += ridge * product.diagonal().mean() * torch.eye(len(product), dtype=torch.float64, device=product.device)
    return torch.linalg.solve(product, z.T @ (weight * y.double())).float()


def _fit(ours: nn.Linear, theirs: nn.Linear, new: Tensor, known: Tensor, count: Tensor) -> None:
    """Make a layer give for the new codewords what another gives for the known ones; without a bias the shift has no place and is left out."""
    found = _affine(new, known @ theirs.weight.T, count + PULL)
    ours.weight.copy_(found[:-1].T)
    if theirs.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
        ours.bias.copy_(theirs.bias + found[-1])
