"""A linear layer is the same function whichever library multiplies, and each is taken where it belongs."""

import pytest
import torch
from torch.nn import functional as F

from models import tokenizer
from unitoken import Tokenizer
from unitoken.nn import linear as module
from unitoken.nn.linear import FEW, Linear, lay_out, linear


@pytest.fixture
def calls(monkeypatch):
    """Return the shapes of what oneDNN was given."""
    seen, operator = [], module._ONEDNN
    assert operator is not None, "this torch has no oneDNN operator: mend nn.linear, or all linear layers go by MKL"
    monkeypatch.setattr(module, "_ONEDNN", lambda x, *others: seen.append(tuple(x.shape)) or operator(x, *others))
    return seen


def plain(layer, x):
    return F.linear(x, layer.weight, layer.bias)


@pytest.mark.parametrize("shape", [(FEW, 24), (2, 3, 24), (1, 100, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_a_linear_layer(calls, shape, bias):
    layer, x = Linear(24, 40, bias=bias), torch.randn(shape)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), plain(layer, x), rtol=0, atol=1e-5)
        torch.testing.assert_close(layer.gelu(x), F.gelu(plain(layer, x)), rtol=0, atol=1e-5)
    assert calls == [shape, shape]
    assert layer.state_dict().keys() == torch.nn.Linear(24, 40, bias=bias).state_dict().keys()


def test_what_onednn_is_not_for(calls):
    layer, x = Linear(24, 40), torch.randn(8, 24)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    layer.requires_grad_(False)
    assert torch.equal(layer(x[: FEW - 1]), plain(layer, x[: FEW - 1]))
    assert layer(x[:0]).shape == (0, 40)
    assert layer.double()(x.double()).dtype == torch.float64
    layer.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    given = x.clone().requires_grad_()
    layer.gelu(given).sum().backward()
    assert given.grad is not None
    assert calls == []
    layer(x)
    assert calls == [(8, 24)]


def test_without_onednn(monkeypatch):
    monkeypatch.setattr(module, "_ONEDNN", None)
    layer, x = Linear(24, 40).requires_grad_(False), torch.randn(8, 24)
    assert torch.equal(layer(x), plain(layer, x))
    assert torch.equal(linear(x, layer.weight, gelu=True), F.gelu(F.linear(x, layer.weight)))


def test_a_compiler_calls_it_and_an_exporter_does_not(calls):
    layer, x = Linear(24, 40).requires_grad_(False), torch.randn(8, 24)
    torch.testing.assert_close(torch.compile(layer.gelu, backend="aot_eager")(x), F.gelu(plain(layer, x)), rtol=0, atol=1e-5)
    assert calls == [(8, 24)]
    program = torch.export.export(layer, (x,))
    assert [node.target for node in program.graph.nodes if node.op == "call_function"] == [torch.ops.aten.linear.default]


def test_weights_lie_as_onednn_takes_them_and_are_the_same():
    layers = torch.nn.Sequential(Linear(24, 40), torch.nn.Conv1d(40, 12, 3), torch.nn.LayerNorm(12)).requires_grad_(False)
    product, convolution, norm = (layer.weight.clone() for layer in layers)
    x = torch.randn(1, 9, 24)
    before = layers[1](layers[0](x).transpose(1, 2))
    lay_out(layers)
    assert layers[0].weight.t().is_contiguous()
    assert layers[1].weight.unsqueeze(2).is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(layer.weight, weight) for layer, weight in zip(layers, (product, convolution, norm), strict=True))
    torch.testing.assert_close(layers[1](layers[0](x).transpose(1, 2)), before, rtol=0, atol=1e-5)


def test_a_tokenizer_on_a_cpu_has_its_weights_so(tmp_path):
    tok = tokenizer()
    assert {layer.weight.t().is_contiguous() for layer in tok._codec.modules() if isinstance(layer, torch.nn.Linear)} == {True}
    saved = tok.save_pretrained(tmp_path / "saved")
    assert Tokenizer.from_pretrained(tmp_path / "saved").save_pretrained(tmp_path / "again") == saved
