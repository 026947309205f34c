"""Convolutions, pooling and batch normalisation: whatever stands between two activations is one stage's map."""

import torch
from torch import nn

import dyadnet as dn
from dyadnet import data

digits = data.load("digits")
x_test, y_test = next(data.batches(digits, digits.test, 360))

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.MaxPool2d(2),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(32 * 4 * 4, 10),
)
net = dn.Layered.from_sequential(model)
for stage in net.stages:
    print(f"stage {stage.name:10} then {stage.activation.name}")

rule = dn.DualPropagation(beta=0.1)
optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
order = torch.Generator().manual_seed(0)
for epoch in range(1, 6):
    model.train()
    for x, y in data.batches(digits, digits.train, 50, generator=order):
        optimizer.zero_grad()
        rule.backward(net, dn.cross_entropy, x, y)
        optimizer.step()
    model.eval()
    accuracy = (model(x_test).argmax(1) == y_test).double().mean().item()
    print(f"epoch {epoch}: {100 * accuracy:.1f} % of the test digits")

for layer in dn.alignment(rule, net, dn.cross_entropy, x_test, y_test):
    print(f"{layer.layer:10} cosine with backpropagation {layer.cosine:.4f}")
