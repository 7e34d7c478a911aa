"""The configurations that have a name."""

from .config import CodecConfig, DecoderConfig, EncoderConfig, FrontEndConfig, QuantizerConfig, SemanticConfig, StreamConfig
from .encoder_config import TransformerConfig
from .errors import ConfigError


def _global(dims: tuple[int, ...], blocks: tuple[int, ...]) -> StreamConfig:
    return StreamConfig(EncoderConfig(dims, blocks), QuantizerConfig("fsq", 80, 16, 1024, (4, 4, 4, 4, 4)))


PRESETS: dict[str, CodecConfig] = {
    "tiny": CodecConfig(
        name="tiny",
        front_end=FrontEndConfig(mels=32),
        semantic=SemanticConfig(EncoderConfig((16, 16, 24), (1, 1, 1), 3, 2), QuantizerConfig("vq", 16, 1, 64)),
        residual=StreamConfig(EncoderConfig((16, 16, 24), (1, 1, 1), 3, 2), QuantizerConfig("vq", 8, 1, 64)),
        global_=StreamConfig(EncoderConfig((16, 16), (1, 1), 3, 2), QuantizerConfig("fsq", 4, 2, 16, (4, 4))),
        decoder=DecoderConfig(32, 2, 3, 2, 16, pitch_dim=8, pitch_blocks=1, phase_memory=10),
    ),
    "small": CodecConfig(
        name="small-4",
        semantic=SemanticConfig(TransformerConfig(hidden=(1248, 1120, 848, 368), first_position=55), QuantizerConfig("vq", 128)),
        residual=StreamConfig(EncoderConfig((128, 192, 256), (1, 2, 4)), QuantizerConfig("vq", 32)),
        global_=_global((128, 192, 192), (1, 2, 2)),
        decoder=DecoderConfig(dim=384, n_fft=640, subframes=2, noise_hz=3000.0),
        p_hears_s=2,
    ),
    "base": CodecConfig(
        name="base",
        semantic=SemanticConfig(TransformerConfig(512, 8, (2048,) * 6, reach=8), QuantizerConfig("vq", 256)),
        residual=StreamConfig(EncoderConfig((192, 384, 512), (1, 2, 8)), QuantizerConfig("vq", 32)),
        global_=_global((192, 384, 384), (1, 2, 4)),
        decoder=DecoderConfig(1024, 10, 7, 3, 512, n_fft=640, subframes=2, noise_hz=3000.0),
        p_hears_s=2,
    ),
}


def preset(name: str) -> CodecConfig:
    """Return a configuration by name: `tiny` (tests), `small` (the default), `base` (a recipe for people with GPUs and data).

    Raises:
        ConfigError: if there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown configuration {name!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[name]
