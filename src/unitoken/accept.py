"""What bundles say of a tokenizer, and which of them it decodes."""

from collections.abc import Collection

from torch import Tensor

from .config import CodecConfig
from .errors import TokenError
from .model.decoding import Tokens
from .token_info import StreamInfo, TokenizerInfo
from .tokens import TokenBundle


def info_of(config: CodecConfig, fingerprint: str) -> TokenizerInfo:
    """Return what a bundle says of the tokenizer of a configuration and fingerprint."""
    s, p, g = config.semantic.quantizer, config.residual.quantizer, config.global_.quantizer
    return TokenizerInfo(
        name=config.name,
        fingerprint=fingerprint,
        sample_rate=config.sample_rate,
        s=StreamInfo(config.hop_s, s.num_codebooks, s.codebook_size),
        p=StreamInfo(config.hop_p, p.num_codebooks, p.codebook_size),
        num_g=g.num_codebooks,
        g_size=g.codebook_size,
        code_licence=config.code_licence,
        weights_licence=config.weights_licence,
    )


def voice_latent(bundle: TokenBundle, dim: int) -> Tensor:
    """Return the latent of a bundle's global tokens, float32 `(dim,)`.

    Raises:
        TokenError: if it has none.
    """
    latent = (bundle.latents or {}).get("g")
    if latent is None or latent.shape != (dim,):
        given = "none" if latent is None else f"one of the shape {tuple(latent.shape)}"
        raise TokenError(f"quantized_g=False needs the bundle's latent of g, ({dim},), got {given}; encode with latents=True")
    return latent


def accepted(bundle: TokenBundle, ours: TokenizerInfo, known: Collection[str], *, force: bool) -> Tokens:
    """Return what is decoded of a bundle.

    Args:
        bundle: of any tokenizer.
        ours: of the tokenizer that is to decode it.
        known: fingerprints of those whose bundles it decodes.
        force: take a bundle of another tokenizer too, if the shapes of their streams are the same.

    Raises:
        TokenError: if it is another tokenizer's, or no bundle, or its tokens were changed to some that cannot be.
    """
    if not isinstance(bundle, TokenBundle):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TokenError(f"expected a TokenBundle or a list of them, got {type(bundle).__name__}; a file is read with TokenBundle.load")
    bundle.check()
    theirs = bundle.info
    if theirs.fingerprint not in known and not force:
        raise TokenError(
            f"this bundle was made by {theirs.name} ({theirs.fingerprint[:8]}), this tokenizer is {ours.name} ({ours.fingerprint[:8]}): "
            "its tokens mean something else here; load the tokenizer that made it, or pass force=True to decode it all the same"
        )
    shapes = [(info.sample_rate, info.s, info.p, info.num_g, info.g_size) for info in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise TokenError(
            f"the streams of this bundle ({theirs.name}) have other rates or sizes than {ours.name}'s; it cannot be decoded even by force"
        )
    s = bundle.s.view(len(bundle.s), ours.s.num_codebooks)
    p = None if bundle.p is None else bundle.p.view(len(bundle.p), ours.p.num_codebooks)
    return Tokens(s, p, bundle.g, bundle.num_samples)
