"""What `backward` leaves in `p.grad`, and what any network refuses: the habits of `loss.backward()`."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.testing import assert_close

import dyadnet as dn
from dyadnet.hardware.resistive import ResistiveNetwork
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.dense import Dense
from dyadnet.network.energetic import AbstractNeuronEnergy
from dyadnet.network.lifted import Lifted
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.stopping import Count
from dyadnet.rule.base import AbstractRule


class Transposed(nn.Module):
    """A linear map whose gradient autograd returns as a transposed view."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(7, 5) / 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bi,oi->bo", x, self.weight)


class TwoWeights(nn.Module):
    """A linear map with a sum of weights, whose gradients are one tensor to autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.randn(7, 5) / 5) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.a + self.b)


FIRST: dict[str, Callable[[], nn.Module]] = {
    "transposed": Transposed,
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(5, 7)),
    "channels last": lambda: nn.Sequential(
        nn.Unflatten(1, (5, 1, 1)), nn.Conv2d(5, 7, 1).to(memory_format=torch.channels_last), nn.Flatten()
    ),
    "two weights": TwoWeights,
}
RULES = {"backprop": dn.Backprop(), "dual propagation": dn.DualPropagation(beta=1e-3), "lagrangian": dn.Lagrangian()}


def model(first: str) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(FIRST[first](), nn.Tanh(), nn.Linear(7, 4))


def batch(size: int = 6) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(size, 5), torch.randint(4, (size,))


def by_autograd(net: nn.Module) -> list[Tensor]:
    x, y = batch()
    net.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    return [p.grad.clone() for p in net.parameters() if p.grad is not None]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("first", FIRST)
def test_gradients_are_laid_out_as_parameters_and_fused_steps_are_those_of_autograd(first: str, rule: AbstractRule):
    exact, ours = model(first), model(first)
    net, x, y = dn.Layered.from_sequential(ours), *batch()
    steps = [torch.optim.SGD(m.parameters(), 0.1, fused=True) for m in (exact, ours)]
    by_autograd(exact)
    rule.backward(net, dn.cross_entropy, x, y)
    assert all(p.grad is not None and p.grad.stride() == p.stride() for p in ours.parameters())
    for step in steps:
        step.step()
    for p, q in zip(exact.parameters(), ours.parameters(), strict=True):
        assert_close(q, p, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("first", FIRST)
def test_no_two_parameters_share_a_gradient_so_that_a_second_batch_adds(first: str, rule: AbstractRule):
    ours = model(first)
    net, x, y = dn.Layered.from_sequential(ours), *batch()
    for _ in range(2):
        rule.backward(net, dn.cross_entropy, x, y)
    twice = [p.grad for p in ours.parameters() if p.grad is not None]
    assert len({grad.untyped_storage().data_ptr() for grad in twice}) == len(list(ours.parameters()))
    for grad, exact in zip(twice, by_autograd(model(first)), strict=True):
        assert_close(grad, 2 * exact, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("rule", [*RULES.values(), dn.PredictiveCoding()], ids=[*RULES, "predictive coding"])
def test_an_embedding_learns_from_indices(rule: AbstractRule):
    torch.manual_seed(0)
    words = nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    x, y = torch.randint(9, (8, 2)), torch.randint(4, (8,))
    net = dn.Layered.from_sequential(words)
    assert_close(net(x), words(x))
    exact = dn.Backprop().estimate(net, dn.cross_entropy, x, y).grads
    found = rule.estimate(net, dn.cross_entropy, x, y).grads
    assert exact[words[0].weight].abs().max() > 0
    cosine = torch.cosine_similarity(found[words[0].weight].flatten(), exact[words[0].weight].flatten(), 0)
    assert cosine > 0.9


def test_gradients_of_a_sparse_embedding_stay_sparse():
    words = nn.Sequential(nn.Embedding(9, 3, sparse=True), nn.Flatten(), nn.Linear(6, 4))
    x, y = torch.randint(9, (8, 2)), torch.randint(4, (8,))
    for rule in RULES.values():
        words.zero_grad()
        rule.backward(dn.Layered.from_sequential(words), dn.cross_entropy, x, y)
        assert words[0].weight.grad.is_sparse


def chain(lam: float = 0.5) -> dn.Layered:
    return dn.Layered.from_sequential(nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4)), lam)


class Pull(AbstractNeuronEnergy):
    """Units that are pulled to a multiple of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.5))

    def predicted(self, mean: Tensor, x: Tensor) -> Tensor:
        return torch.cat([self.w * x, self.w * mean[:, :4]], 1)

    def energies(self, s: Tensor, mean: Tensor, x: Tensor) -> Tensor:
        return (s - self.predicted(mean, x)).square() / 2

    def minimiser(self, mean: Tensor, x: Tensor, tilt: Tensor) -> Tensor:
        return self.predicted(mean, x) + tilt


NETWORKS: dict[str, Callable[[], AbstractNetwork]] = {
    "feedforward": chain,
    "skew": lambda: chain(0.0),
    "dense": lambda: Dense(5, 10, 4, "skew"),
    "lifted": lambda: Lifted(chain()),
    "resistive": lambda: ResistiveNetwork([5, 6, 4]),
    "energetic": lambda: dn.Energetic(Pull(), units=9, outputs=4),
}
PRECISE = [name for name in NETWORKS if name not in ("feedforward", "skew")]


@pytest.mark.parametrize("name", NETWORKS)
def test_states_of_another_batch_are_refused(name: str):
    net, (x, _) = NETWORKS[name](), batch(3)
    states = net.relax(x).states
    for other in (x[:1], torch.cat([x, x])):
        with pytest.raises(ValueError, match=f"the states given belong to a batch of 3, not of {len(other)}"):
            net.relax(other, states=states)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_empty_batch_is_refused(name: str):
    with pytest.raises(ValueError, match="the batch is empty"):
        NETWORKS[name]().relax(torch.zeros(0, 5))


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_in_half_precision_are_refused(name: str):
    with pytest.raises(ValueError, match="half precision"):
        NETWORKS[name]().bfloat16().relax(batch()[0].bfloat16())


@pytest.mark.parametrize("name", NETWORKS)
def test_autocast_keeps_states_in_full_precision_or_is_refused(name: str):
    net, x = NETWORKS[name]().float(), batch()[0].float()
    with torch.autocast("cpu", torch.bfloat16):
        if name in PRECISE:
            with pytest.raises(ValueError, match="needs all digits to settle"):
                net.relax(x)
        else:
            solution = net.relax(x, relaxation=Relaxation(stop=Count(20)))
            assert {state.mean().dtype for state in solution.states} == {torch.float32}


@pytest.mark.parametrize("name", ["skew", "dense", "energetic"])
def test_networks_can_be_wired_where_there_are_no_numbers(name: str):
    net = NETWORKS[name]().to("meta")
    assert net.wire(torch.randn(3, 5, device="meta")).depth == 2


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_copied_chains_are_lifted_as_the_first_one(copied: Callable[[dn.Layered], dn.Layered]):
    net, (x, y) = chain(), batch()
    ours = dn.LRRN().estimate(copied(net), dn.squared_error, x, y)
    assert_close(ours.output, dn.LRRN().estimate(net, dn.squared_error, x, y).output)


def test_a_network_of_frozen_energies_learns_nothing():
    net, (x, _) = NETWORKS["energetic"]().requires_grad_(False), batch()
    assert dn.Dyadic().estimate(net, dn.squared_error, x, torch.zeros(len(x), 4)).grads == {}
