"""One operator, every symmetry: skew-symmetric, feedforward and symmetric networks learn by the same rule.

The state of a skew network moves no more than its drive does, however large the weights grow. `certify` says so; the
last column measures how far the hidden states move, relative to the drive, when the inputs are disturbed.
"""

import torch
from torch import nn

import dyadnet as dn
from dyadnet import data
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.stopping import Residual

digits = data.load("digits")
x_test, y_test = next(data.batches(digits, digits.test, 360))


def train(lam: float) -> tuple[dn.Layered, float]:
    """Return a trained network, and how many passes its states took in the last epoch."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.Hardtanh(0, 1), nn.Linear(64, 64), nn.Hardtanh(0, 1), nn.Linear(64, 10)
    )
    net = dn.Layered.from_sequential(model, lam, relaxation=Relaxation(stop=Residual(1e-3, 1000)))
    rule, optimizer = dn.Dyadic(beta=0.5), torch.optim.Adam(model.parameters(), 3e-3)
    generator, passes = torch.Generator().manual_seed(0), []
    for _ in range(10):
        passes = []
        for x, y in data.batches(digits, digits.train, 50, generator=generator):
            optimizer.zero_grad()
            passes.append(rule.backward(net, dn.squared_error, x, y).passes)
            optimizer.step()
    return net, sum(passes) / len(passes)


@torch.no_grad()
def moved(net: dn.Layered) -> float:
    """Return the largest movement of all states over that of the drive, for random disturbances of the inputs."""
    torch.manual_seed(0)
    disturbed = x_test + 0.1 * torch.randn_like(x_test)
    exact = Relaxation(stop=Residual(1e-5, 1000))
    before, after = (net.relax(x, relaxation=exact).states for x in (x_test, disturbed))
    states = torch.cat([b.mean() - a.mean() for a, b in zip(before, after, strict=True)], 1)
    drive = net.stages[0].map(disturbed) - net.stages[0].map(x_test)
    return float((states.norm(dim=1) / drive.norm(dim=1)).max())


for lam in (0.0, 0.5, 1.0):
    net, passes = train(lam)
    accuracy = (net(x_test).argmax(1) == y_test).double().mean().item()
    bound = dn.certify(net, x_test[:1]).lipschitz_states
    promised = "no bound" if bound is None else f"<= {bound:.2f}"
    print(
        f"lam {lam:.2f}  {100 * accuracy:.1f} %  {passes:4.1f} passes  moves {promised:>8}, measured {moved(net):.2f}"
    )
