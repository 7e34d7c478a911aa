"""Products with weights that are as fast as the CPU allows in inference.

torch multiplies float32 matrices with MKL, which leaves more than half of an AMD CPU unused, while oneDNN, which torch brings too and convolves with,
does not (design note 0009). `torch.compile` reaches oneDNN by the operator that is called here.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW = 4
"""Rows from which on oneDNN is faster: with fewer it spends its time on the weights."""


def _find_operator() -> object | None:
    """Return torch's operator for a linear layer by oneDNN, None where this torch has none."""
    try:
        return torch.ops.mkldnn._linear_pointwise if torch.backends.mkldnn.is_available() else None
    except AttributeError:
        return None


_ONEDNN = _find_operator()
is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # older versions of torch do not tell them apart


def _called(x: Tensor, weight: Tensor, bias: Tensor | None, post: str) -> Tensor:
    return _ONEDNN(x, weight, bias, post, [], "none")  # type: ignore[operator]


@torch.library.custom_op("unitoken::linear", mutates_args=(), schema="(Tensor x, Tensor weight, Tensor? bias, str post) -> Tensor")
def _for_compilers(x: Tensor, weight: Tensor, bias: Tensor | None, post: str) -> Tensor:
    """Call oneDNN where a compiler does not look: it would fuse the operator with others, and can do so with constant weights only."""
    return _called(x, weight, bias, post)


@_for_compilers.register_fake
def _shaped(x: Tensor, weight: Tensor, bias: Tensor | None, post: str) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """Return `x @ weight.T + bias`, or the GELU of that.

    Args:
        x: `(..., channels)`.
        weight: `(out, channels)`.
        bias: `(out,)`, or None.
        gelu: whether GELU follows.
    """
    if _fast(x, weight):
        call = _for_compilers if torch.compiler.is_compiling() else _called
        return call(x, weight, bias, "gelu" if gelu else "none")
    out = F.linear(x, weight, bias)
    return F.gelu(out) if gelu else out


def _fast(x: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN can be called: float32 on a CPU, without gradients, not under autocast, and not to be exported."""
    if x.dtype != torch.float32 or x.device.type != "cpu" or _ONEDNN is None or is_exporting():
        return False
    learning = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return (torch.compiler.is_compiling() or x.numel() >= FEW * x.shape[-1]) and not learning and not torch.is_autocast_enabled("cpu")


def lay_out(module: nn.Module) -> None:
    """Store the weights of products and convolutions in the order in which oneDNN takes them; it would copy them at every call.

    Shapes and values stay. To be called before inference on a CPU.

    Args:
        module: whose layers, `nn.Linear` and `nn.Conv1d`, are changed.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d)):
            axes = (0, 1) if isinstance(layer, nn.Linear) else (1, 2)
            layer.weight.data = layer.weight.data.transpose(*axes).contiguous().transpose(*axes)


class Linear(nn.Linear):
    """`nn.Linear` by `linear`, with the same weights by the same names."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `(..., out_features)` of `(..., in_features)`."""
        return linear(input, self.weight, self.bias)

    def gelu(self, x: Tensor) -> Tensor:
        """Return the GELU of what `forward` returns."""
        return linear(x, self.weight, self.bias, gelu=True)
