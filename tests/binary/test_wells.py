"""A step in one pass: against the base optimiser's steps in double precision, and when it is taken."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dyadnet.binary import wells as module
from dyadnet.binary.adaste import AdaSTE
from dyadnet.binary.course import Course
from dyadnet.binary.groups import binary_groups
from dyadnet.binary.method import AbstractMethod
from dyadnet.binary.optimizer import BinaryOptimizer
from dyadnet.binary.straight_through import STE, BinaryConnect
from dyadnet.binary.wells import compiled

pytestmark = pytest.mark.skipif(compiled() is None, reason="there is no C compiler here")

STEPS = 16
METHODS: dict[str, AbstractMethod] = {
    "ste": STE(),
    "ste, clipped": STE(clip=0.15),
    "binary-connect": BinaryConnect(),
    "adaste": AdaSTE(),
    "adaste, the paper's wells": AdaSTE(alpha=0.01, mu=0.01, anneal=0.5),
    "adaste, annealed": AdaSTE(anneal=0.0, clip=0.15),
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what was moved in one pass."""
    counts: list[int] = []
    kernel = compiled()
    assert kernel is not None

    def spy(*arguments: Any) -> None:
        counts.append(arguments[5])
        kernel(*arguments)

    monkeypatch.setattr(module, "compiled", lambda: spy)
    return counts


def model(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """A network whose sizes are no multiples of a processor's vectors."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 7)).to(dtype)


def wrapped(net: nn.Module, method: AbstractMethod, scale: str | None = None, **adam: Any) -> BinaryOptimizer:
    base = torch.optim.Adam(binary_groups(net), **{"lr": 0.02, "fused": True} | adam)
    return BinaryOptimizer(base, method, Course(STEPS), scale=scale)


def learn(net: nn.Module, optimizer: BinaryOptimizer, steps: int, seed: int = 0) -> None:
    """Make updates with gradients that do not depend on the weights, so that rounding does not grow."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for p in net.parameters():
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        optimizer.step()


def seen(optimizer: BinaryOptimizer) -> list[Tensor]:
    return [t.double() for one in optimizer.owned for t in (one.latent, one.parameter.detach())]


@pytest.mark.parametrize("scale", [None, "channel"])
@pytest.mark.parametrize("name", METHODS)
def test_steps_are_those_in_double_precision(name: str, scale: str | None, calls: list[int]) -> None:
    coarse, fine = model(), model(torch.float64)
    ours, theirs = (wrapped(net, METHODS[name], scale) for net in (coarse, fine))
    for place in range(STEPS):
        learn(coarse, ours, 1, seed=place)
        learn(fine, theirs, 1, seed=place)
        for a, b in zip(seen(ours), seen(theirs), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert len(calls) == 2 * (STEPS - 1)  # the first steps are the base optimiser's


def test_other_numbers_make_other_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agreement above is of the wells, not of Adam."""
    first, second = model(), model()
    ours, theirs = wrapped(first, METHODS["adaste"]), wrapped(second, METHODS["adaste"])
    learn(first, ours, 12)
    monkeypatch.setattr(AdaSTE, "wells", lambda self, course: STE(clip=1.0).wells(course))
    learn(second, theirs, 12)
    assert max(float((a - b).abs().max()) for a, b in zip(seen(ours), seen(theirs), strict=True)) > 0.01


def test_settings_of_adam_are_its_own() -> None:
    adam = {"lr": 0.05, "betas": (0.5, 0.8), "eps": 0.1}
    coarse, fine = model(), model(torch.float64)
    ours, theirs = (wrapped(net, STE(clip=1.0), **adam) for net in (coarse, fine))
    for net, optimizer in ((coarse, ours), (fine, theirs)):
        rates = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.9)
        for place in range(10):
            learn(net, optimizer, 1, seed=place)
            rates.step()
    for a, b in zip(seen(ours), seen(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_step_may_be_made_here_or_there(monkeypatch: pytest.MonkeyPatch, calls: list[int]) -> None:
    """Adam's state is the same, and so is what is stored: resumed without a compiler, training goes on."""
    net, again = model(), model()
    optimizer, resumed = wrapped(net, METHODS["adaste"]), wrapped(again, METHODS["adaste"])
    learn(net, optimizer, 5)
    again.load_state_dict(net.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    learn(net, optimizer, 5, seed=1)
    assert len(calls) == 2 * 9
    monkeypatch.setattr(module, "compiled", lambda: None)
    learn(again, resumed, 5, seed=1)
    for a, b in zip(seen(optimizer), seen(resumed), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    steps = [{float(own["step"]) for own in one.base.state.values()} for one in (optimizer, resumed)]
    assert steps == [{10}, {10}]


def test_gradients_are_kept_and_others_left_alone(calls: list[int]) -> None:
    net = model()
    optimizer = wrapped(net, METHODS["adaste"])
    learn(net, optimizer, 2)
    conv, linear = (one.parameter for one in optimizer.owned)
    before = [one.latent.clone() for one in optimizer.owned]
    grad = torch.ones_like(conv)
    net.zero_grad()
    conv.grad = grad
    optimizer.step()
    assert conv.grad is grad
    assert linear.grad is None
    assert torch.equal(grad, torch.ones_like(conv))
    assert calls == [27, 84, 27]
    assert not torch.equal(optimizer.owned[0].latent, before[0])
    assert torch.equal(optimizer.owned[1].latent, before[1])


@pytest.mark.parametrize("name", ["adaste", "adaste, annealed"])
def test_a_zero_has_the_side_of_its_weight(name: str, calls: list[int]) -> None:
    p = nn.Parameter(torch.tensor([0.0, 0.0, -0.0, -0.0], dtype=torch.float32))
    base = torch.optim.Adam([{"params": [p], "binary": True}], lr=0.02, fused=True)
    optimizer = BinaryOptimizer(base, METHODS[name], Course(STEPS))
    for grad in ([0.0] * 4, [1.0, -1.0, 1.0, -1.0]):
        course, theta = optimizer.course, optimizer.owned[0].latent.clone()
        p.grad = torch.tensor(grad, dtype=torch.float32)
        optimizer.step()
    assert calls == [4]
    assert (theta.tolist(), theta.signbit().tolist()) == ([0.0] * 4, [False, False, True, True])
    wells = METHODS[name].wells(course)
    assert wells is not None
    ahead = wells.ahead if wells.edge > 0 else 0.0
    assert base.state[p]["exp_avg"].tolist() == pytest.approx([0.1, -0.1 * ahead, 0.1 * ahead, -0.1], rel=1e-6)


def test_a_base_optimiser_that_fails_moves_nothing_here(monkeypatch: pytest.MonkeyPatch, calls: list[int]) -> None:
    first, second = model(), model()
    ours, theirs = (wrapped(net, METHODS["adaste, annealed"], "channel") for net in (first, second))
    learn(first, ours, 3)
    learn(second, theirs, 3)
    before, grads = seen(ours), [torch.ones_like(one.parameter) for one in ours.owned]

    def fail() -> None:
        raise RuntimeError("out of memory")

    for one, grad in zip(ours.owned, grads, strict=True):
        one.parameter.grad = grad
    with monkeypatch.context() as patched:
        patched.setattr(ours.base, "step", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            ours.step()
    assert all(torch.equal(a, b) for a, b in zip(seen(ours), before, strict=True))
    assert all(one.parameter.grad is grad for one, grad in zip(ours.owned, grads, strict=True))
    learn(first, ours, 2, seed=1)
    learn(second, theirs, 2, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(seen(ours), seen(theirs), strict=True))
    assert len(calls) == 2 * 4 * 2


@pytest.mark.parametrize(
    "change",
    [
        {"fused": False},
        {"weight_decay": 0.1},
        {"amsgrad": True},
        {"maximize": True},
        {"method": AdaSTE(cap=2.0)},
        {"method": AdaSTE(clip=0.0)},
        {"method": BinaryConnect(stochastic=True)},
        {"dtype": torch.float64},
        {"base": torch.optim.AdamW},
        {"base": torch.optim.SGD, "fused": False},
        {"strided": True},
    ],
    ids=str,
)
def test_what_the_pass_does_not_know_is_left_to_the_base_optimiser(change: dict[str, Any], calls: list[int]) -> None:
    change = {
        "method": STE(),
        "dtype": torch.float32,
        "base": torch.optim.Adam,
        "fused": True,
        "strided": False,
    } | change
    weight = torch.randn(5, 6, dtype=change.pop("dtype"))
    p = nn.Parameter(weight.T if change.pop("strided") else weight)
    method, base = change.pop("method"), change.pop("base")
    optimizer = BinaryOptimizer(base([{"params": [p], "binary": True}], lr=0.1, **change), method, Course(STEPS))
    for _ in range(3):
        p.grad = torch.ones_like(p)
        before = optimizer.owned[0].latent.clone()
        optimizer.step()
        assert not torch.equal(optimizer.owned[0].latent, before)
    assert calls == []


def test_without_a_compiler_the_base_optimiser_moves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    quick, slow = model(), model()
    ours, theirs = (wrapped(net, METHODS["adaste"]) for net in (quick, slow))
    learn(quick, ours, 10)
    monkeypatch.setattr(module, "compiled", lambda: None)
    learn(slow, theirs, 10)
    for a, b in zip(seen(ours), seen(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def single(size: int, steps: int) -> tuple[nn.Parameter, BinaryOptimizer]:
    """A parameter, trained until it is annealed."""
    torch.manual_seed(0)
    p = nn.Parameter(torch.randn(size, dtype=torch.float32))
    base = torch.optim.Adam([{"params": [p], "binary": True}], lr=0.01, fused=True)
    optimizer = BinaryOptimizer(base, AdaSTE(), Course(steps))
    for _ in range(steps):
        p.grad = torch.randn(size, dtype=torch.float32)
        optimizer.step()
    return p, optimizer


def test_weights_are_exactly_binary_once_annealed_and_what_is_not_a_number_is_not_hidden() -> None:
    p, optimizer = single(1000, 8)
    assert set(p.unique().tolist()) == {-1, 1}
    assert p.grad is not None
    p.grad[3] = torch.nan
    optimizer.step()
    assert p.isnan().nonzero().tolist() == [[3]]


def test_threads_share_the_weights() -> None:
    before = torch.get_num_threads()
    alone = single(50_001, 4)[0]
    torch.set_num_threads(3)
    shared = single(50_001, 4)[0]
    torch.set_num_threads(before)
    assert torch.equal(alone, shared)
