"""Layers may update in any order: sweeps, all odd ones and then all even ones, all at once, or at random.

One network is trained with each schedule. A visit is one update of one layer.
"""

import torch
from torch import nn

import dyadnet as dn
from dyadnet import data

SCHEDULES = (dn.Sweeps(), dn.Sweeps(3), dn.BottomUp(), dn.OddEven(), dn.Parallel(), dn.RandomOrder())
digits = data.load("digits")
x_test, y_test = next(data.batches(digits, digits.test, 360))


def train(rule: dn.AbstractRule) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    net = dn.Layered.from_sequential(model)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(0)  # shuffles the samples, and the layers where the order is random
    for _ in range(10):
        for x, y in data.batches(digits, digits.train, 100, generator=generator):
            optimizer.zero_grad()
            rule.backward(net, dn.cross_entropy, x, y, generator=generator)
            optimizer.step()
    return model


for schedule in SCHEDULES:
    model = train(dn.DualPropagation(beta=0.1, schedule=schedule))
    accuracy = (model(x_test).argmax(1) == y_test).double().mean().item()
    visits = sum(len(group) for group in schedule.order(depth=3))
    print(f"{type(schedule).__name__:12} {schedule.count(3):3} passes {visits:3} visits  {100 * accuracy:.1f} %")
