"""Rules side by side: test accuracy over three seeds, and how well their updates agree with backpropagation's."""

from statistics import mean, stdev

import torch
from torch import nn

import dyadnet as dn
from dyadnet import data

RULES = {
    "backpropagation": dn.Backprop(),
    "its Lagrangian form": dn.Lagrangian(),
    "dual propagation": dn.DualPropagation(beta=0.1, alpha=0.5),
    "  alpha = 0": dn.DualPropagation(beta=0.1, alpha=0),
    "  alpha = 1": dn.DualPropagation(beta=0.1, alpha=1),
    "  original": dn.DualPropagation(beta=0.1, variant="original"),
}
digits = data.load("digits")
x_test, y_test = next(data.batches(digits, digits.test, 360))


def train(rule: dn.AbstractRule, seed: int) -> tuple[float, float]:
    """Return the test accuracy, and the cosine of the layer that agrees least with backpropagation after training."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    net = dn.Layered.from_sequential(model)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    order = torch.Generator().manual_seed(seed)
    for _ in range(10):
        for x, y in data.batches(digits, digits.train, 100, generator=order):
            optimizer.zero_grad()
            rule.backward(net, dn.cross_entropy, x, y)
            optimizer.step()
    accuracy = (model(x_test).argmax(1) == y_test).double().mean().item()
    return accuracy, min(layer.cosine for layer in dn.alignment(rule, net, dn.cross_entropy, x_test, y_test))


print("rule                   accuracy        lowest cosine")
for name, rule in RULES.items():
    accuracies, cosines = zip(*(train(rule, seed) for seed in range(3)), strict=True)
    print(f"{name:20} {100 * mean(accuracies):6.1f} % ± {100 * stdev(accuracies):.1f} {mean(cosines):14.4f}")
