"""How strong may the nudge be? Strong nudges push the two states of a unit to different sides of its kink.

For each strength beta and asymmetry alpha: the share of units that straddle their kink and the lowest cosine with
backpropagation in a fresh network, then the accuracy that training reaches.
"""

import torch
from torch import nn

import dyadnet as dn
from dyadnet import data

digits = data.load("digits")
x_test, y_test = next(data.batches(digits, digits.test, 360))


def fresh() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def train(rule: dn.AbstractRule) -> float:
    model = fresh()
    net = dn.Layered.from_sequential(model)
    optimizer, order = torch.optim.Adam(model.parameters(), 2e-3), torch.Generator().manual_seed(0)
    for _ in range(10):
        for x, y in data.batches(digits, digits.train, 100, generator=order):
            optimizer.zero_grad()
            rule.backward(net, dn.cross_entropy, x, y)
            optimizer.step()
    return (model(x_test).argmax(1) == y_test).double().mean().item()


print("alpha   beta   straddling   cosine   accuracy")
for alpha in (0.5, 0.0):
    for beta in (0.01, 0.1, 1.0, 10.0, 100.0):
        rule = dn.DualPropagation(beta, alpha)
        layers = dn.alignment(rule, dn.Layered.from_sequential(fresh()), dn.cross_entropy, x_test, y_test)
        straddling = max(layer.straddling or 0.0 for layer in layers)
        cosine = min(layer.cosine for layer in layers)
        print(f"{alpha:5g} {beta:6g} {straddling:12.4f} {cosine:8.4f}     {100 * train(rule):.1f} %")
