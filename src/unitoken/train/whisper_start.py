"""Begin stage 0 with what Whisper knows: a semantic transformer takes over the parts of a Whisper encoder (Radford et al., arXiv 2212.04356).

Fourteen hours of speech teach an encoder the voices in it; Whisper has heard a hundred thousand times as many. Three things differ and are made up
for here: the front end (each band is brought to Whisper's scale in the first convolution), the rate (`TransformerEncoder` averages two frames
before its blocks instead of after them) and the width of the feed-forward parts (the channels that do most on speech are kept).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import TrainError
from ..model.transformer import TransformerEncoder
from ..nn.spectral import LogMel
from .pool import Utterance
from .sampling import Crop
from .semantic import LessonMaker, SemanticStudent
from .teachers import Teacher, WhisperTeacher

CLIPS = 100
"""Utterances that front end and channels are fitted to."""


@torch.no_grad()
def take_over(student: SemanticStudent, whisper: Teacher, waves: Sequence[Tensor]) -> None:
    """Put a Whisper encoder's weights into a student; its output layer is left as it is, see `fit_output`.

    Args:
        student: on the CPU; its semantic encoder is a transformer of Whisper's dim and heads, with at most as many blocks, mels and channels.
        whisper: the whole encoder, on the CPU.
        waves: speech, float32 `(samples,)` each, to weigh channels and bands by.

    Raises:
        TrainError: if the sizes do not fit, or there is no speech.
    """
    found = student.semantic
    if not isinstance(whisper, WhisperTeacher):
        raise TrainError(f"{whisper.name} is no Whisper encoder, and nothing else can be taken over; give a folder or Hub name of one")
    if not isinstance(found, TransformerEncoder):
        raise TrainError(f"{student.config.name} has no semantic transformer to take over {whisper.name}; set semantic.encoder to one")
    source, size = whisper.encoder.config, found.config
    ours = (size.dim, size.heads, size.front_end.mels, student.front_end_s.config.hop)
    theirs = (source.d_model, source.encoder_attention_heads, source.num_mel_bins, 160)
    if ours != theirs or len(size.hidden) > source.encoder_layers or max(size.hidden) > source.encoder_ffn_dim:
        raise TrainError(
            f"dim, heads, mels and hop of the transformer are {ours}, {whisper.name} has {theirs}, {source.encoder_layers} blocks and "
            f"{source.encoder_ffn_dim} hidden channels at most; change the configuration"
        )
    if not waves:
        raise TrainError("no speech to fit the transformer's front end to; the pool has no utterance for training")
    scale, shift = fit_bands(student.front_end_s, whisper, waves)
    first = whisper.encoder.conv1
    encoder: Any = student.semantic
    encoder.first.weight.copy_(first.weight * scale[:, None])
    encoder.first.bias.copy_(first.bias + (first.weight * shift[:, None]).sum((1, 2)))
    encoder.second.load_state_dict(whisper.encoder.conv2.state_dict())
    encoder.norm.load_state_dict(whisper.encoder.layer_norm.state_dict())
    for block, layer, use in zip(encoder.blocks, whisper.encoder.layers, channel_use(whisper, waves), strict=False):
        _copy_block(block, layer, use)


def fit_bands(front_end: LogMel, whisper: WhisperTeacher, waves: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the scale and shift of each band, float32 `(mels,)`, that bring our log-mel nearest to Whisper's."""
    ours, theirs = list[Tensor](), list[Tensor]()
    hop = front_end.config.hop
    for wave in waves:
        whole = wave[: len(wave) // hop * hop][None]
        own, other = front_end(whole)[0], whisper.log_mel(whole)[0].T
        between = (other[:-1] + other[1:]) / 2  # ours stand half a hop later
        ours.append(own[: len(between)])
        theirs.append(between[: len(own)])
    x, y = torch.cat(ours), torch.cat(theirs)
    scale = ((x - x.mean(0)) * (y - y.mean(0))).mean(0) / x.var(0, correction=0).clamp_min(1e-6)
    return scale, y.mean(0) - scale * x.mean(0)


def channel_use(whisper: WhisperTeacher, waves: Sequence[Tensor]) -> list[Tensor]:
    """Return how much each hidden channel of each layer adds on speech, float32 `(channels,)`: its root mean square times its weights' norm."""
    layers = list(whisper.encoder.layers)
    power = [torch.zeros(layer.fc1.out_features) for layer in layers]

    def listen(total: Tensor, layer: Any) -> Any:
        def hook(_: object, __: object, out: Tensor) -> None:
            total.add_(F.gelu(out).flatten(0, -2).square().mean(0))

        return layer.fc1.register_forward_hook(hook)

    handles = [listen(total, layer) for total, layer in zip(power, layers, strict=True)]
    try:
        for wave in waves:
            whisper.features(wave[None])
    finally:
        for handle in handles:
            handle.remove()
    return [total.sqrt() * layer.fc2.weight.norm(dim=0) for total, layer in zip(power, layers, strict=True)]


def _copy_block(block: Any, layer: Any, use: Tensor) -> None:
    """Copy one layer; of its feed-forward part the channels of most use."""
    attention, kept = layer.self_attn, use.topk(block.up.out_features).indices.sort().values
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)  # Whisper's keys have no bias
    block.query_key_value.weight.copy_(torch.cat([part.weight for part in parts]))
    block.query_key_value.bias.copy_(torch.cat([torch.zeros(part.out_features) if part.bias is None else part.bias for part in parts]))
    for ours, theirs in (
        (block.joined, attention.out_proj),
        (block.norm_attention, layer.self_attn_layer_norm),
        (block.norm, layer.final_layer_norm),
    ):
        ours.load_state_dict(theirs.state_dict())
    block.up.weight.copy_(layer.fc1.weight[kept])
    block.up.bias.copy_(layer.fc1.bias[kept])
    block.down.weight.copy_(layer.fc2.weight[:, kept])
    block.down.bias.copy_(layer.fc2.bias)


@torch.no_grad()
def fit_output(student: SemanticStudent, lessons: LessonMaker[Any], utterances: Sequence[Utterance], *, ridge: float = 100.0) -> None:
    """Set the output layer to the linear map that foretells the targets of clean speech best.

    Args:
        student: on the CPU.
        lessons: whose targets.
        utterances: of the lessons' pool, to fit to.
        ridge: added to the diagonal of the inputs' products, whose variances are brought to 1.
    """
    inputs, targets = list[Tensor](), list[Tensor]()
    encoder: Any = student.semantic

    def hook(_: object, __: object, out: Tensor) -> None:
        inputs.append(out[0])

    handle = encoder.norm.register_forward_hook(hook)
    was_training = student.training
    student.eval()
    try:
        for utterance in utterances:
            lesson = lessons.clean([utterance])
            student(lesson.magnitudes.cpu(), lesson.mask.cpu())
            targets.append(lesson.target[0].cpu())
    finally:
        handle.remove()
        student.train(was_training)
    x, y = torch.cat(inputs), torch.cat(targets)
    weight, bias = linear_map(x, y, ridge)
    encoder.out.weight.copy_(weight)
    encoder.out.bias.copy_(bias)


def linear_map(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Return the weight `(out, dim)` and bias `(out,)` of the linear layer that foretells `(rows, out)` from `(rows, dim)` best.

    Args:
        x: inputs; each dimension is brought to variance 1 for the solution.
        y: targets.
        ridge: added to the diagonal of the inputs' products.
    """
    mean, scale = x.mean(0), x.std(0) + 1e-4
    z = torch.cat([(x - mean) / scale, torch.ones(len(x), 1)], 1)
    found = torch.linalg.solve(z.T @ z + ridge * torch.eye(z.shape[1]), z.T @ y)
    return (found[:-1] / scale[:, None]).T, found[-1] - mean / scale @ found[:-1]


def begin(student: SemanticStudent, lessons: LessonMaker[Any], whisper: Teacher) -> None:
    """Do both with speech of the lessons: take over a Whisper encoder and fit the output layer.

    Args:
        student: on the CPU.
        lessons: what the student will learn from.
        whisper: the whole encoder, on the CPU.

    Raises:
        TrainError: as `take_over`.
    """
    known = lessons.sampler.utterances
    chosen = [known[index * len(known) // min(CLIPS, len(known))] for index in range(min(CLIPS, len(known)))]
    longest = lessons.longest
    crops = [Crop(utterance, 0, min(utterance.samples, longest)) for utterance in chosen]
    take_over(student, whisper, [lessons.audio.crop([crop], crop.samples)[0].cpu() for crop in crops])
    fit_output(student, lessons, chosen)
