"""Maps at a point: closed forms and fallbacks against autograd and against loops in NumPy."""

import weakref

import pytest
import reference
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.testing import assert_close

from dyadnet.network import linearise as module_under_test
from dyadnet.network.linearisation import AbstractLinearisation, Gradients, merge
from dyadnet.network.linearise import linearise

CLOSED = {
    "linear": (lambda: nn.Linear(5, 3), (4, 5)),
    "linear without bias": (lambda: nn.Linear(5, 3, bias=False), (4, 5)),
    "linear over tokens": (lambda: nn.Linear(5, 3), (4, 2, 3, 5)),
    "convolution": (lambda: nn.Conv2d(2, 4, 3), (3, 2, 7, 6)),
    "convolution without bias": (lambda: nn.Conv2d(2, 4, 3, bias=False), (3, 2, 7, 6)),
    "stride and padding": (lambda: nn.Conv2d(2, 4, (3, 2), stride=(2, 3), padding=(2, 1)), (3, 2, 8, 7)),
    "stride that leaves a rest": (lambda: nn.Conv2d(2, 4, 2, stride=3), (3, 2, 7, 8)),
    "dilation": (lambda: nn.Conv2d(2, 4, 3, dilation=(2, 1)), (3, 2, 7, 6)),
    "groups": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), (3, 4, 5, 5)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4), (3, 4, 5, 5)),
    "pooling": (lambda: nn.MaxPool2d(2), (3, 2, 6, 6)),
    "overlapping windows": (lambda: nn.MaxPool2d(3, stride=2, padding=1), (3, 2, 7, 6)),
    "windows that hang over": (lambda: nn.MaxPool2d(3, stride=2, ceil_mode=True), (3, 2, 6, 8)),
    "flatten": (nn.Flatten, (3, 2, 6, 6)),
    "dilated windows": (lambda: nn.MaxPool2d(2, stride=1, dilation=2), (3, 2, 6, 6)),
}
FALLBACK = {
    "same padding": (lambda: nn.Conv2d(2, 4, 3, padding="same"), (3, 2, 6, 6)),
    "reflecting padding": (lambda: nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), (3, 2, 6, 6)),
    "one dimension": (lambda: nn.Conv1d(2, 4, 3), (3, 2, 6)),
    "transposed convolution": (lambda: nn.ConvTranspose2d(2, 4, 3), (3, 2, 6, 6)),
    "layer norm": (lambda: nn.LayerNorm(5), (4, 5)),
    "average pooling": (lambda: nn.AvgPool2d(2), (3, 2, 6, 6)),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(5, 3)), (4, 5)),
    "orthogonal convolution": (lambda: parametrizations.orthogonal(nn.Conv2d(2, 4, 3)), (3, 2, 6, 6)),
    "subclass": (lambda: Doubled(5, 3), (4, 5)),
    "hook": (lambda: hooked(nn.Linear(5, 3)), (4, 5)),
    "forward of its own": (lambda: overridden(nn.Linear(5, 3)), (4, 5)),
    "sequence with a forward of its own": (lambda: overridden(nn.Sequential(nn.Linear(5, 3))), (4, 5)),
    "hook before": (lambda: hooked_before(nn.Conv2d(2, 4, 3)), (3, 2, 6, 6)),
}
CHAINS = {
    "conv-pool-flatten-linear": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 4)),
        (3, 2, 6, 6),
    ),
    "nothing to learn below": (lambda: nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(2, 3, 3)), (3, 2, 6, 6)),
    "nothing to learn": (lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten()), (3, 2, 6, 6)),
    "a module twice": (lambda: twice(nn.Linear(5, 5)), (4, 5)),
    "chain in a chain": (lambda: nn.Sequential(nn.Sequential(nn.Linear(5, 3)), nn.LayerNorm(3)), (4, 5)),
}
ALL = CLOSED | FALLBACK | CHAINS


class Doubled(nn.Linear):
    """A subclass may compute anything."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def triple(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return 3 * output


def hooked(module: nn.Module) -> nn.Module:
    module.register_forward_hook(triple)
    return module


def overridden(module: nn.Module) -> nn.Module:
    usual = module.forward
    module.forward = lambda s: 2 * usual(s).tanh()
    return module


def hooked_before(module: nn.Module) -> nn.Module:
    module.register_forward_pre_hook(lambda module, inputs: (inputs[0].tanh(),))
    return module


def twice(module: nn.Module) -> nn.Sequential:
    return nn.Sequential(module, nn.LayerNorm(5), module)


def made(cases, name) -> tuple[nn.Module, Tensor, AbstractLinearisation]:
    make, shape = cases[name]
    module, state = make(), torch.randn(shape)
    return module, state, linearise(module, lambda: state)


def autograd(module: nn.Module, state: Tensor, delta: Tensor) -> tuple[Tensor, dict[Tensor, Tensor]]:
    """Gradients of `sum(module(state) * delta)`."""
    leaf = state.clone().requires_grad_()
    parameters = list(module.parameters())
    below, *grads = torch.autograd.grad((module(leaf) * delta).sum(), [leaf, *parameters])
    return below, dict(zip(parameters, grads, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_value_feedback_and_local_update_are_those_of_autograd(name):
    module, state, at = made(ALL, name)
    delta = torch.randn_like(at.value)
    below, grads = at.pull(delta)
    expected, expected_grads = autograd(module, state, delta)
    assert_close(at.value, module(state).detach(), rtol=1e-13, atol=1e-13)
    assert_close(below, expected, rtol=1e-12, atol=1e-12)
    assert set(grads) == set(expected_grads)
    for parameter in grads:
        assert_close(grads[parameter], expected_grads[parameter], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_a_push_forward_is_that_of_differences_and_the_pull_backs_own_transpose(name):
    module, state, at = made(ALL, name)
    direction, delta = torch.randn_like(state), torch.randn_like(at.value)
    pushed = at.push(direction)
    with torch.no_grad():  # 1e-6 is small enough for no switch to turn, and balances truncation and rounding
        difference = (module(state + 1e-6 * direction) - module(state - 1e-6 * direction)) / 2e-6
    assert_close(pushed, difference, rtol=1e-6, atol=1e-7)
    assert_close((pushed * delta).sum(), (direction * at.feedback(delta)).sum(), rtol=1e-10, atol=1e-10)
    assert not pushed.requires_grad


@pytest.mark.parametrize("name", ALL)
def test_what_is_not_wanted_is_not_given_and_changes_nothing_else(name):
    _, _, at = made(ALL, name)
    delta = torch.randn_like(at.value)
    below, grads = at.pull(delta)
    nothing, same_grads = at.pull(delta, down=False)
    same_below, no_grads = at.pull(delta, learn=False)
    assert nothing is None
    assert no_grads == {}
    assert_close(same_below, below)
    assert_close(at.feedback(delta), below)
    assert set(same_grads) == set(grads)
    assert all(torch.equal(same_grads[p], grads[p]) for p in grads)
    assert at.pull(delta, down=False, learn=False) == (None, {})


@pytest.mark.parametrize("name", ALL)
def test_frozen_parameters_learn_nothing(name):
    make, shape = ALL[name]
    module, state = make().requires_grad_(False), torch.randn(shape)
    at = linearise(module, lambda: state)
    delta = torch.randn_like(at.value)
    below, grads = at.pull(delta)
    assert grads == {}
    assert_close(below, autograd_below(module, state, delta), rtol=1e-12, atol=1e-12)


def autograd_below(module: nn.Module, state: Tensor, delta: Tensor) -> Tensor:
    leaf = state.clone().requires_grad_()
    return torch.autograd.grad((module(leaf) * delta).sum(), leaf)[0]


@pytest.mark.parametrize("name", ALL)
def test_the_point_is_not_written_to(name):
    make, shape = ALL[name]
    module, state = make(), torch.randn(shape)
    before = state.clone()
    at = linearise(module, lambda: state)
    at.pull(torch.randn_like(at.value))
    assert torch.equal(state, before)
    assert not at.value.requires_grad


@pytest.mark.parametrize("name", ALL)
def test_works_where_autograd_is_off(name):
    make, shape = ALL[name]
    module, state = make(), torch.randn(shape)
    with torch.no_grad():
        at = linearise(module, lambda: state)
        delta = torch.randn_like(at.value)
        below, _ = at.pull(delta)
    assert_close(below, autograd(module, state, delta)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_need_no_graph(name):
    _, _, at = made(CLOSED, name)
    assert not isinstance(at, module_under_test._Graph)


@pytest.mark.parametrize("name", FALLBACK)
def test_everything_else_goes_through_autograd(name):
    _, _, at = made(FALLBACK, name)
    assert isinstance(at, module_under_test._Graph)


@pytest.mark.parametrize(
    ("size", "stride", "padding", "ceil"), [(2, 2, 0, False), (3, 2, 1, False), (3, 1, 0, False), (3, 2, 0, True)]
)
@pytest.mark.parametrize("ties", [False, True])
def test_pooling_takes_its_switches_once_as_loops_in_numpy_do(size, stride, padding, ceil, ties):
    image = torch.randint(3, (6, 8)).double() if ties else torch.randn(6, 8)
    at = linearise(nn.MaxPool2d(size, stride, padding, ceil_mode=ceil), lambda: image[None, None])
    places = reference.switches(image.numpy(), size, stride, padding, ceil=ceil)
    delta = torch.randn_like(at.value)
    assert_close(at.value[0, 0], torch.tensor(reference.pooled(image.numpy(), places)), rtol=0, atol=0)
    expected = reference.unpooled(delta[0, 0].numpy(), places, (6, 8))
    assert_close(at.feedback(delta)[0, 0], torch.tensor(expected), rtol=1e-14, atol=1e-14)


def test_an_empty_chain_is_the_identity():
    state, delta = torch.randn(4, 5), torch.randn(4, 5)
    at = linearise(nn.Sequential(), lambda: state)
    assert torch.equal(at.value, state)
    assert torch.equal(at.feedback(delta), delta)


def test_a_lower_state_is_used_once_and_then_computed_again_rather_than_kept():
    made: list[weakref.ref[Tensor]] = []

    def point() -> Tensor:
        state = torch.ones(4, 5)
        made.append(weakref.ref(state))
        return state

    at = linearise(nn.Linear(5, 3), point)
    at.feedback(torch.ones(4, 3))
    value = at.value
    assert len(made) == 1
    assert made[0]() is None  # nobody holds it any more
    grads = at.pull(torch.ones(4, 3))[1]
    assert len(made) == 2
    assert torch.equal(at.value, value)
    assert torch.equal(next(iter(grads.values())), torch.full((3, 5), 4.0))


def test_a_chain_does_not_descend_below_the_lowest_module_that_learns():
    class Blocked(nn.Module):
        def forward(self, s: Tensor) -> Tensor:
            def refuse(grad: Tensor) -> None:
                raise AssertionError("nothing below needs a difference")

            out = s.clone()
            out.register_hook(refuse)
            return out

    at = linearise(nn.Sequential(Blocked(), nn.Linear(5, 3)), lambda: torch.randn(4, 5))
    _, grads = at.pull(torch.randn(4, 3), down=False)
    assert len(grads) == 2


def test_merging_adds_where_a_parameter_is_used_twice_and_leaves_the_summands_alone():
    p, q = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    first = torch.tensor([1.0, 2.0])
    grads: Gradients = {p: first}
    merge(grads, {p: torch.tensor([10.0, 20.0]), q: torch.ones(2)})
    assert grads[p].tolist() == [11.0, 22.0]
    assert grads[q].tolist() == [1.0, 1.0]
    assert first.tolist() == [1.0, 2.0]


def test_under_autocast_the_map_is_that_of_the_users_model():
    module, state = nn.Linear(5, 3).float(), torch.randn(4, 5, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        at = linearise(module, lambda: state)
        below, grads = at.pull(torch.ones(4, 3, dtype=torch.float32))
        assert torch.equal(at.value, module(state))
    assert at.value.dtype == torch.bfloat16
    assert below is not None
    assert below.dtype == torch.float32
    assert all(grad.dtype == torch.float32 for grad in grads.values())
