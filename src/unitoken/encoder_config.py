"""The configurations of front end and encoders: frozen dataclasses that check themselves."""

from dataclasses import dataclass, field

from .errors import ConfigError


@dataclass(frozen=True)
class FrontEndConfig:
    """Log-mel front end.

    Attributes:
        window: samples of the Hann window (40 ms).
        n_fft: FFT size, at least the window.
        hop: samples between STFT frames (10 ms).
        mels: bands on the Slaney mel scale, 0 to half the sample rate.
        floor: added to the mel magnitude before the logarithm; magnitudes are of a window of unit sum, so 1 is full scale.
    """

    window: int = 640
    n_fft: int = 640
    hop: int = 160
    mels: int = 128
    floor: float = 1e-4

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        if not 1 <= self.hop <= self.window <= self.n_fft:
            raise ConfigError(f"the front end needs 1 <= hop <= window <= n_fft, got hop {self.hop}, window {self.window} and n_fft {self.n_fft}")
        if self.mels < 1 or not self.floor > 0:
            raise ConfigError(f"the front end needs mels >= 1 and a floor above 0, got {self.mels} and {self.floor}")


@dataclass(frozen=True)
class EncoderConfig:
    """A stack of ConvNeXt blocks that halves the frame rate between stages.

    Attributes:
        dims: channels of each stage; stage 0 runs at the front end's rate, each later one at half the rate before.
        blocks: blocks of each stage.
        kernel: frames of each depthwise convolution, odd.
        expansion: hidden channels of a block, times its channels.
        lookahead_frames: token frames of future context the blocks may use; None means centred kernels. The front end's
            window reaches 240 samples into the future besides.
    """

    dims: tuple[int, ...] = (192, 256, 384)
    blocks: tuple[int, ...] = (1, 2, 6)
    kernel: int = 7
    expansion: int = 3
    lookahead_frames: int | None = None

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        if len(self.dims) != len(self.blocks) or not self.dims:
            raise ConfigError(f"an encoder needs one number of blocks a stage, got dims {self.dims} and blocks {self.blocks}")
        if min(self.dims) < 1 or min(self.blocks) < 0 or sum(self.blocks) < 1 or self.expansion < 1:
            raise ConfigError(f"an encoder needs dims and expansion of at least 1 and at least one block, got {self}")
        if self.kernel % 2 == 0 or self.kernel < 1:
            raise ConfigError(f"kernel must be odd and positive, got {self.kernel}")
        if self.lookahead_frames is not None and self.lookahead_frames < 0:
            raise ConfigError(f"lookahead_frames must be 0 or more, or null, got {self.lookahead_frames}")

    @property
    def stride(self) -> int:
        """STFT frames of one token frame."""
        return 1 << (len(self.dims) - 1)


POSITIONS = 750
"""Of token frames, 40 ms each: the 30 s that Whisper knows. Then they begin anew."""


@dataclass(frozen=True)
class TransformerConfig:
    """A stem of two convolutions and blocks of attention to near frames, at the token rate: a Whisper encoder (arXiv 2212.04356) cut to size.

    Attributes:
        dim: channels.
        heads: of each attention; they divide `dim`.
        hidden: inner channels of each block's feed-forward part, one number a block.
        reach: token frames before and after its own that each attention sees.
        lookahead_frames: token frames of future context that the blocks may use in all, the first ones first; None means `reach` in each. The
            first convolution (10 ms) and the front end's window (7.5 ms) reach into the future besides.
        first_position: of a clip's first frame; in training, crops begin at any.
        front_end: its own front end, of the codec's hop; 25 ms and 80 bands as Whisper's.
    """

    dim: int = 384
    heads: int = 6
    hidden: tuple[int, ...] = (1344, 1216, 960, 448)
    reach: int = 12
    front_end: FrontEndConfig = field(default_factory=lambda: FrontEndConfig(400, 400, 160, 80))
    lookahead_frames: int | None = None
    first_position: int = 0

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        if not 0 <= self.first_position < POSITIONS:
            raise ConfigError(f"first_position must be from 0 to {POSITIONS - 1}, got {self.first_position}")
        if self.dim < 2 or self.dim % 2 or self.heads < 1 or self.dim % self.heads:
            raise ConfigError(f"a transformer needs an even dim that its heads divide, got dim {self.dim} and {self.heads} heads")
        if not self.hidden or min(self.hidden) < 1 or self.reach < 0:
            raise ConfigError(f"a transformer needs at least one block, each with hidden >= 1, and reach >= 0, got {self}")
        if self.lookahead_frames is not None and self.lookahead_frames < 0:
            raise ConfigError(f"lookahead_frames must be 0 or more, or null, got {self.lookahead_frames}")

    @property
    def stride(self) -> int:
        """STFT frames of one token frame."""
        return 4
