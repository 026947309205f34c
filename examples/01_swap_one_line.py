"""Train a network without backpropagation: one line of the usual loop changes."""

import torch
from torch import nn

import dyadnet as dn
from dyadnet import data

digits = data.load("digits")
x_test, y_test = next(data.batches(digits, digits.test, 360))


def train(local: bool) -> float:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    net = dn.Layered.from_sequential(model)  # shares the parameters of the model
    rule = dn.DualPropagation(beta=0.1)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    order = torch.Generator().manual_seed(0)
    for _ in range(15):
        for x, y in data.batches(digits, digits.train, 100, generator=order):
            optimizer.zero_grad()
            if local:
                rule.backward(net, dn.cross_entropy, x, y)
            else:
                nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return (model(x_test).argmax(1) == y_test).double().mean().item()


print(f"loss.backward()   {100 * train(local=False):.1f} % of the test digits")
print(f"rule.backward()   {100 * train(local=True):.1f} %")
