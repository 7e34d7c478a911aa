import pytest
import torch

from unitoken.train.redundancy import Redundancy


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fitted(s, g, p, mask, steps=150):
    """Return a network trained to foretell `p` from `s` and `g`."""
    torch.manual_seed(0)
    module = Redundancy(s.shape[-1], g.shape[-1], p.shape[-1], 32)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        module(s, g, p, mask)[0].backward()
        optimizer.step()
    return module


@pytest.mark.parametrize(
    ("share_s", "share_g", "low", "high"),
    [(1, 0, 0.85, 1.0), (0, 1, 0.85, 1.0), (0.5, 0.5, 0.85, 1.0), (0, 0, 0.0, 0.1)],
    ids=["s", "g", "both", "neither"],
)
def test_what_follows_from_s_and_g_is_redundant_and_what_does_not_is_not(share_s, share_g, low, high):
    s, g, own, mask = noise(64, 20, 6), noise(64, 2, seed=2), noise(64, 20, 3, seed=1), torch.ones(64, 20, 1)
    from_s, from_g = torch.tanh(s[..., :3] + s.roll(1, 1)[..., 3:]), torch.tanh(g.sum(1)).view(-1, 1, 1).expand(-1, 20, 3)
    p = share_s * from_s + share_g * from_g + (1 - share_s - share_g) * own
    module = fitted(s[:48], g[:48], p[:48], mask[:48])
    error, redundancy = (float(value.detach()) for value in module(s[48:], g[48:], p[48:], mask[48:]))
    assert low <= redundancy <= high
    assert redundancy == pytest.approx(max(0, 1 - error), abs=1e-6)


def test_each_side_of_the_game_has_its_own_gradient():
    s, g, mask = noise(4, 20, 6), noise(4, 2, seed=2).requires_grad_(), torch.ones(4, 20, 1)
    p = (0.5 * s[..., :3] + 0.5 * noise(4, 20, 3, seed=1)).requires_grad_()
    module = fitted(s, g.detach(), p.detach(), mask, 60)
    error, redundancy = module(s, g, p, mask)
    error.backward()
    assert p.grad is None
    assert g.grad is None
    module.zero_grad()
    redundancy.backward()
    assert g.grad is None
    assert all(parameter.grad is None for parameter in module.parameters())
    with torch.no_grad():
        step = 0.2 * p.norm() / p.grad.norm() * p.grad
        assert float(module(s, g, p - step, mask)[1]) < 0.95 * float(redundancy.detach())


def test_neither_scale_nor_padding_counts():
    s, g, p, mask = noise(2, 20, 6), noise(2, 2, seed=2), noise(2, 20, 3, seed=1), torch.ones(2, 20, 1)
    mask[1, 12:] = 0
    module = fitted(s, g, p, mask, 60)
    error, _ = module(s, g, p, mask)
    wild_s, wild_p = s + 100 * (1 - mask), p + 100 * (1 - mask)
    assert float(module(wild_s, g, wild_p, mask)[0].detach()) == pytest.approx(float(error.detach()), rel=1e-5)
    torch.nn.init.zeros_(module.net[-1].weight)
    torch.nn.init.zeros_(module.net[-1].bias)
    assert float(module(s, g, 10 * p + 3, mask)[0].detach()) == pytest.approx(1, rel=1e-5)
