"""Networks of every kind, small and with inputs between 0 and 1, for what is asked of their inputs."""

from collections.abc import Callable

from torch import Tensor, nn

from dyadnet import Dense, Layered
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.lifted import Lifted, Terms
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import Parallel
from dyadnet.relax.solver import Accelerated, Anderson
from dyadnet.relax.stopping import Residual

TIGHT = Residual(1e-12, 3000)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def lifted() -> Lifted:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    how = Relaxation(solver=Accelerated(), stop=TIGHT)
    return Lifted(Layered.from_sequential(model), Terms(output_reconstructs=True), relaxation=how)


def dense() -> Dense:
    how = Relaxation(Parallel(), Anderson(), TIGHT)
    return Dense(6, 8, 3, activation=nn.Tanh(), relaxation=how)


NETWORKS: dict[str, Callable[[], AbstractNetwork]] = {
    "feedforward": lambda: Layered.from_sequential(mlp()),
    "skew": lambda: Layered.from_sequential(mlp(), 0.0, relaxation=Relaxation(stop=TIGHT)),
    "symmetric": lambda: Layered.from_sequential(mlp(), 0.6, relaxation=Relaxation(stop=TIGHT)),
    "dense": dense,
    "lifted": lifted,
}


def linear(weight: Tensor) -> Layered:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight)
    return Layered.from_sequential(nn.Sequential(layer))
