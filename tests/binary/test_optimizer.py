"""The wrapper: what stands in the parameters and when, what it shares with its base, and resuming."""

import copy
import io
import pickle
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from dyadnet.binary.authors import PublishedAdaSTE
from dyadnet.binary.course import Course
from dyadnet.binary.diagnostics import active, exact, flipped, histogram, signs
from dyadnet.binary.groups import binary_groups
from dyadnet.binary.optimizer import BinaryOptimizer
from dyadnet.binary.straight_through import STE
from dyadnet.names import BINARY

COURSE = Course(steps=20, epoch=5, samples=16)
METHODS = {name: made() for name, made in BINARY.items()}


def model() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 2))


def weight_of(net: nn.Sequential, place: int) -> nn.Parameter:
    return cast("nn.Parameter", net[place].weight)


def wrapped(net: nn.Module, method: str = "adaste", scale: str | None = None, **layers: bool) -> BinaryOptimizer:
    base = torch.optim.Adam(binary_groups(net, **layers), lr=0.02)
    return BinaryOptimizer(base, METHODS[method], COURSE, scale=scale)


def learn(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x, y = torch.randn(16, 1, 4, 4, generator=generator), torch.randint(2, (16,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()


@pytest.mark.parametrize("scale", [None, "channel"])
@pytest.mark.parametrize("method", METHODS)
def test_evaluation_weights_are_exactly_binary_and_go_afterwards(method: str, scale: str | None) -> None:
    net = model()
    first = weight_of(net, 0).detach().clone()
    optimizer = wrapped(net, method, scale)
    learn(net, optimizer, 4)
    before = [p.detach().clone() for p in net.parameters()]
    with optimizer.binarized():
        sizes = first.abs().mean((1, 2, 3), keepdim=True) if scale else torch.ones(3, 1, 1, 1)
        assert torch.equal(weight_of(net, 0).abs(), sizes.expand_as(first))
        assert exact(optimizer) == (27 + 60 + 10, 97)
        assert all(p.dim() == 1 or (p != 0).all() for p in net.parameters())
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))


def test_relaxed_weights_of_training_are_not_counted_as_binary() -> None:
    net = model()
    found, total = exact(wrapped(net, "md-tanh-stable"))
    assert found < total


@pytest.mark.parametrize("method", METHODS)
def test_interrupted_and_resumed_training_has_the_same_latents(method: str) -> None:
    net = model()
    optimizer = wrapped(net, method, "channel")
    learn(net, optimizer, 3)
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
    learn(net, optimizer, 6, seed=1)

    file.seek(0)
    state = torch.load(file, weights_only=True)
    again = model()
    for p in again.parameters():
        nn.init.normal_(p)
    resumed = wrapped(again, method, "channel")
    again.load_state_dict(state["net"])
    resumed.load_state_dict(state["optimizer"])
    learn(again, resumed, 6, seed=1)
    for one, other in zip(optimizer.owned, resumed.owned, strict=True):
        assert torch.equal(one.latent, other.latent)
        assert torch.equal(one.parameter, other.parameter)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), again.parameters(), strict=True))


def test_the_place_in_the_annealing_is_resumed() -> None:
    net = model()
    optimizer = wrapped(net)
    learn(net, optimizer, 7)
    resumed = wrapped(model())
    resumed.load_state_dict(optimizer.state_dict())
    assert resumed.course == Course(20, 5, 16, done=7)


def test_other_parameters_are_those_of_the_base_optimiser_alone() -> None:
    """With the weights that training used, a plain Adam on the biases does the same."""
    net = model()
    optimizer = wrapped(net, "ste")
    twin = copy.deepcopy(net)
    plain = torch.optim.Adam([p for p in twin.parameters() if p.dim() == 1], lr=0.02)
    for k in range(5):
        twin.load_state_dict({n: p for n, p in net.state_dict().items() if p.dim() > 1}, strict=False)
        learn(net, optimizer, 1, seed=k)
        learn(twin, plain, 1, seed=k)
    biases = [(p, q) for p, q in zip(net.parameters(), twin.parameters(), strict=True) if p.dim() == 1]
    assert len(biases) == 3
    assert all(torch.equal(p, q) for p, q in biases)


def test_a_parameter_without_a_gradient_is_left_alone() -> None:
    net = model()
    optimizer = wrapped(net)
    latents = [one.latent.clone() for one in optimizer.owned]
    weight_of(net, 3).grad = torch.ones_like(weight_of(net, 3))
    optimizer.step()
    moved = [not torch.equal(one.latent, old) for one, old in zip(optimizer.owned, latents, strict=True)]
    assert moved == [False, True, False]


def test_annealing_goes_on_for_what_has_no_gradient() -> None:
    """A layer that is frozen later ends with weights of -1 and 1 like the others."""
    net = model()
    optimizer = wrapped(net)
    learn(net, optimizer, 5)
    frozen = weight_of(net, 3).requires_grad_(False)
    latent = optimizer.owned[1].latent.clone()
    frozen.grad = None
    learn(net, optimizer, 15)
    assert torch.equal(optimizer.owned[1].latent, latent)
    assert torch.equal(frozen.abs(), torch.ones_like(frozen))


def fail() -> None:
    raise RuntimeError("out of memory")


@pytest.mark.parametrize("scale", [None, "channel"])
@pytest.mark.parametrize("method", ["adaste", "published-adaste", "ste", "prox-quant", "md-tanh"])
def test_a_base_optimiser_that_fails_leaves_weights_latents_and_later_steps_as_they_are(
    method: str, scale: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets = model(), model()
    ours, theirs = (wrapped(net, method, scale) for net in nets)
    for net, optimizer in zip(nets, (ours, theirs), strict=True):
        learn(net, optimizer, 2)
    before = [t.detach().clone() for one in ours.owned for t in (one.parameter, one.latent)]
    with monkeypatch.context() as patched:
        patched.setattr(ours.base, "step", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            learn(nets[0], ours, 1)
    after = [t for one in ours.owned for t in (one.parameter, one.latent)]
    assert all(torch.equal(one, other) for one, other in zip(after, before, strict=True))
    for net, optimizer in zip(nets, (ours, theirs), strict=True):
        learn(net, optimizer, 2, seed=1)
    for one, other in zip(ours.owned, theirs.owned, strict=True):
        assert torch.equal(one.latent, other.latent)
        assert torch.equal(one.parameter, other.parameter)


def test_a_scale_multiplies_weights_and_gradients() -> None:
    weight = torch.tensor([[1.0, -3.0], [0.5, 0.5]])
    p = nn.Parameter(weight.clone())
    base = torch.optim.SGD([{"params": [p], "binary": True}], lr=0.1)
    optimizer = BinaryOptimizer(base, STE(), COURSE, scale="channel")
    torch.testing.assert_close(p.detach(), torch.tensor([[2.0, -2.0], [0.5, 0.5]]))
    before = optimizer.owned[0].latent.clone()
    p.grad = torch.ones(2, 2)
    optimizer.step()
    moved = before - optimizer.owned[0].latent
    torch.testing.assert_close(moved, 0.1 * torch.tensor([[2.0, 2.0], [0.5, 0.5]]))


def test_a_scheduler_and_zero_grad_work_as_on_the_base() -> None:
    net = model()
    optimizer = wrapped(net)
    rates = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    learn(net, optimizer, 1)
    rates.step()
    assert [group["lr"] for group in optimizer.base.param_groups] == pytest.approx([0.002, 0.002])
    assert all(p.grad is not None for p in net.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_a_group_that_comes_later_has_latents() -> None:
    net, extra = model(), nn.Parameter(torch.randn(2, 2))
    optimizer = wrapped(net)
    optimizer.add_param_group({"params": [extra], "binary": True, "lr": 0.5})
    assert optimizer.owned[-1].parameter is extra
    extra.grad = torch.ones(2, 2)
    optimizer.step()
    assert optimizer.base.param_groups[-1]["lr"] == 0.5
    assert exact(optimizer)[1] == 97 + 4


@pytest.mark.parametrize(
    ("layers", "sizes"),
    [
        ({}, [27, 60, 10]),
        ({"first": False}, [60, 10]),
        ({"last": False}, [27, 60]),
        ({"first": False, "last": False}, [60]),
    ],
)
def test_the_first_and_the_last_layer_are_binary_as_asked(layers: dict[str, bool], sizes: list[int]) -> None:
    net = model()
    optimizer = wrapped(net, "adaste", None, **layers)
    assert [one.parameter.numel() for one in optimizer.owned] == sizes
    listed = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in listed} == {id(p) for p in net.parameters()}


def refusals() -> list[tuple[Any, str]]:
    net = nn.Linear(2, 1)
    unmarked = torch.optim.Adam(net.parameters())
    marked = torch.optim.Adam([{"params": net.parameters(), "binary": True}])
    other = wrapped(model()).state_dict()
    scaled = wrapped(model(), scale="channel").state_dict()
    return [
        (lambda: BinaryOptimizer(unmarked, STE(), COURSE), "no group of parameters is binary"),
        (lambda: BinaryOptimizer(marked, STE(), COURSE, scale="row"), "scale must be None or 'channel', not 'row'"),
        (lambda: BinaryOptimizer(marked, STE(), COURSE).step(lambda: 0.0), "call step without a closure"),
        (lambda: BinaryOptimizer(marked, STE(), COURSE).load_state_dict(other), "latents are not of the shapes"),
        (lambda: wrapped(model(), "pmf").load_state_dict(other), "or of another method"),
        (lambda: wrapped(model()).load_state_dict(scaled), "have scales and the state has none"),
        (lambda: binary_groups(nn.Linear(2, 1), first=False), "no weight is left to be binary"),
    ]


@pytest.mark.parametrize("number", range(7))
def test_what_cannot_be_done_is_refused(number: int) -> None:
    request, told = refusals()[number]
    with pytest.raises(ValueError, match=told):
        request()


def test_diagnostics_count_flips_multipliers_and_latents() -> None:
    p = nn.Parameter(torch.tensor([[1.0, -1.0, 2.0, -2.0]]))
    base = torch.optim.SGD([{"params": [p], "binary": True}], lr=1.0)
    optimizer = BinaryOptimizer(base, PublishedAdaSTE(), COURSE)
    latent: Tensor = optimizer.owned[0].latent
    latent.copy_(torch.tensor([[0.5, -0.5, 1.0, -1.0]]))
    before = signs(optimizer)
    latent[0, 0] = -0.5
    assert flipped(optimizer, before) == 0.25
    assert active(optimizer, {p: torch.tensor([[1.0, 1e-4, -1.0, 0.0]])}) == 0.5
    assert active(BinaryOptimizer(base, STE(), COURSE), {p: torch.ones(1, 4)}) is None
    assert histogram(optimizer, bins=4) == {"largest": 1.0, "counts": [1, 2, 0, 1]}


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("method", METHODS)
def test_a_copy_goes_on_as_the_first_one(method: str, copied: Any) -> None:
    net = model()
    optimizer = wrapped(net, method, "channel")
    learn(net, optimizer, 3)
    twin, other = copied((net, optimizer))
    assert other.owned[0].parameter is next(twin.parameters())
    learn(net, optimizer, 3, seed=1)
    learn(twin, other, 3, seed=1)
    for ours, theirs in zip(optimizer.owned, other.owned, strict=True):
        assert torch.equal(ours.latent, theirs.latent)
        assert torch.equal(ours.parameter, theirs.parameter)


@pytest.mark.parametrize("method", METHODS)
def test_a_channel_of_zeros_stays_a_number(method: str) -> None:
    net = model()
    weight_of(net, 3).data[1] = 0
    optimizer = wrapped(net, method, "channel")
    learn(net, optimizer, 4)
    assert all(bool(one.latent.isfinite().all() and one.parameter.isfinite().all()) for one in optimizer.owned)
