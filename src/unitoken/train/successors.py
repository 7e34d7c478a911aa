"""Models with the encoders and codebooks of another one, and a decoder of their own: they decode its bundles, whose tokens mean the same to them."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..config import CodecConfig
from ..errors import ModelError
from ..hub import Stored

DECODER = "decoder."


def decodes(old: Stored, config: CodecConfig, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the fingerprints of the models whose bundles a new model may decode: the old one, and those that the old one decodes.

    Args:
        old: what the new model was trained from.
        config: of the new model.
        state: its weights by name, as they are stored.

    Raises:
        ModelError: if its tokens could be others, or mean something else: its encoders or codebooks are not those of the old model.
    """
    kept = {name: tensor for name, tensor in old.state.items() if not name.startswith(DECODER)}
    theirs = {name: tensor for name, tensor in state.items() if not name.startswith(DECODER)}
    known = replace(config, name="", decoder=old.config.decoder) == replace(old.config, name="")
    if not known or kept.keys() != theirs.keys():
        raise ModelError(f"{config.name} does not make the tokens of {old.config.name}: its configuration differs in more than the decoder")
    changed = [name for name, tensor in kept.items() if not torch.equal(tensor.float(), theirs[name].float())]
    if changed:
        raise ModelError(
            f"{config.name} does not make the tokens of {old.config.name}: {len(changed)} weights of encoders and codebooks differ, the first is "
            f"{changed[0]}; only what was trained with its decoder alone, and is stored in the same data type, may say so"
        )
    return (old.fingerprint, *old.decodes)
