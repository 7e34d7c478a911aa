import pytest
import torch

from unitoken.train.redundancy import Redundancy


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fitted(s, p, mask, steps=150):
    """Return a network trained to foretell `p` from `s`."""
    torch.manual_seed(0)
    module = Redundancy(s.shape[-1], p.shape[-1], 32)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        module(s, p, mask)[0].backward()
        optimizer.step()
    return module


@pytest.mark.parametrize(("share", "low", "high"), [(1.0, 0.85, 1.0), (0.0, 0.0, 0.1)])
def test_what_follows_from_s_is_redundant_and_what_does_not_is_not(share, low, high):
    s, own, mask = noise(16, 40, 6), noise(16, 40, 3, seed=1), torch.ones(16, 40, 1)
    p = share * torch.tanh(s[..., :3] + s.roll(1, 1)[..., 3:]) + (1 - share) * own
    module = fitted(s[:12], p[:12], mask[:12])
    error, redundancy = (float(value.detach()) for value in module(s[12:], p[12:], mask[12:]))
    assert low <= redundancy <= high
    assert redundancy == pytest.approx(max(0, 1 - error), abs=1e-6)


def test_each_side_of_the_game_has_its_own_gradient():
    s, mask = noise(4, 20, 6), torch.ones(4, 20, 1)
    p = (0.5 * s[..., :3] + 0.5 * noise(4, 20, 3, seed=1)).requires_grad_()
    module = fitted(s, p.detach(), mask, 60)
    error, redundancy = module(s, p, mask)
    error.backward()
    assert p.grad is None
    module.zero_grad()
    redundancy.backward()
    assert all(parameter.grad is None for parameter in module.parameters())
    with torch.no_grad():
        step = 0.2 * p.norm() / p.grad.norm() * p.grad
        assert float(module(s, p - step, mask)[1]) < 0.95 * float(redundancy.detach())


def test_neither_scale_nor_padding_counts():
    s, p, mask = noise(2, 20, 6), noise(2, 20, 3, seed=1), torch.ones(2, 20, 1)
    mask[1, 12:] = 0
    module = fitted(s, p, mask, 60)
    error, _ = module(s, p, mask)
    wild_s, wild_p = s + 100 * (1 - mask), p + 100 * (1 - mask)
    assert float(module(wild_s, wild_p, mask)[0].detach()) == pytest.approx(float(error.detach()), rel=1e-5)
    torch.nn.init.zeros_(module.net[-1].weight)
    torch.nn.init.zeros_(module.net[-1].bias)
    assert float(module(s, 10 * p + 3, mask)[0].detach()) == pytest.approx(1, rel=1e-5)


def test_a_p_that_says_nothing_is_not_redundant():
    """All frames may choose one codeword, in silence or at the start; then nothing has a variance to be a share of."""
    s, mask = noise(2, 20, 6), torch.ones(2, 20, 1)
    p = torch.ones(2, 20, 3, requires_grad=True)
    torch.manual_seed(0)
    module = Redundancy(6, 3)
    error, redundancy = module(s, p, mask)
    (error + redundancy).backward()
    assert float(error.detach()) == pytest.approx(1)
    assert float(torch.stack([parameter.grad.norm() for parameter in module.parameters()]).norm()) < 100  # nor does it drown other gradients
    assert float(redundancy.detach()) == 0
    assert p.grad is None or p.grad.isfinite().all()
