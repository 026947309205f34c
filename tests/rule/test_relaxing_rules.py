"""What every rule owes its user, also where states relax: shapes of outputs, randomness, states that nobody wants."""

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from dyadnet import (
    LRRN,
    AuxiliaryCoordinates,
    Backprop,
    ContrastiveHebbian,
    CoupledLearning,
    DualPropagation,
    Dyadic,
    EquilibriumPropagation,
    Layered,
    PredictiveCoding,
    RecurrentBackprop,
    squared_error,
)
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.lifted import Lifted, Terms
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import BottomUp, RandomOrder
from dyadnet.relax.stopping import Count, Residual
from dyadnet.rule.base import AbstractRule, Estimate

EXACTLY = Relaxation(stop=Residual(1e-12, 4000))
RANDOMLY = Relaxation(schedule=RandomOrder(), stop=Count(2))
Make = Callable[[Relaxation], AbstractRule]
RULES: dict[str, tuple[float, Make]] = {
    "dyadic, joint": (0.25, lambda how: Dyadic(0.1, relaxation=how)),
    "dyadic, two-phase": (1.0, lambda how: Dyadic(0.1, relaxation=how)),
    "dyadic, skew": (0.0, lambda how: Dyadic(0.1, relaxation=how)),
    "equilibrium propagation": (1.0, lambda how: EquilibriumPropagation(0.1, relaxation=how)),
    "recurrent backpropagation": (0.0, lambda how: RecurrentBackprop(relaxation=how)),
    "contrastive Hebbian": (1.0, lambda how: ContrastiveHebbian(relaxation=how)),
    "coupled learning": (1.0, lambda how: CoupledLearning(relaxation=how)),
}
rules = pytest.mark.parametrize("name", RULES)


def drawn(model: nn.Sequential, lam: float = 1.0) -> Layered:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            size = parameter[0].numel() ** 0.5 if parameter.dim() > 1 else 10
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator) / size)
    return Layered.from_sequential(model.double(), lam, relaxation=EXACTLY)


def chain(lam: float = 1.0, activation: type[nn.Module] = nn.Tanh) -> Layered:
    layers = nn.Linear(5, 6), activation(), nn.Linear(6, 7), activation(), nn.Linear(7, 3)
    return drawn(nn.Sequential(*layers), lam)


def batch(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gap(ours: Estimate, theirs: Estimate) -> float:
    def flat(estimate: Estimate) -> Tensor:
        return torch.cat([estimate.grads[p].flatten() for p in theirs.grads])

    return float((flat(ours) - flat(theirs)).norm() / flat(theirs).norm())


@pytest.mark.parametrize("lam", [1.0, 0.0])
@pytest.mark.parametrize("size", [2, 3])
def test_outputs_may_be_images(size: int, lam: float):
    """Strengths of stacked phases belong to samples: to none of the places of an image, however many it has."""
    convolutions = nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 2, 3, padding=1)
    net, x, y = drawn(nn.Sequential(*convolutions), lam), batch(1, 1, size, size), batch(1, 2, size, size)
    exact = RecurrentBackprop().estimate(net, squared_error, x, y)
    every = [Dyadic(0.01), Dyadic(0.01, form="joint")] + ([EquilibriumPropagation(0.01)] if lam == 1 else [])
    for rule in every:
        assert gap(rule.estimate(net, squared_error, x, y), exact) < 1e-3


@rules
def test_states_that_nobody_wants_are_not_kept(name: str):
    lam, make = RULES[name]
    found = make(EXACTLY).estimate(chain(lam), squared_error, batch(4, 5), batch(4, 3), keep_states=False)
    assert found.states is None
    assert found.solution is not None
    assert not found.solution.states
    assert bool(found.solution.converged.all())


@rules
@pytest.mark.filterwarnings("ignore:.*not settled")
def test_a_random_order_follows_the_generator(name: str):
    lam, make = RULES[name]
    net, x, y = chain(lam), batch(4, 5), batch(4, 3)

    def with_seed(seed: int | None) -> Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        found = make(RANDOMLY).estimate(net, squared_error, x, y, generator=generator)
        return torch.cat([found.grads[p].flatten() for p in net.parameters()])

    assert torch.equal(with_seed(1), with_seed(1))
    assert torch.equal(with_seed(None), with_seed(None))
    assert not all(torch.equal(with_seed(1), with_seed(seed)) for seed in range(2, 8))


@rules
@pytest.mark.filterwarnings("ignore:.*not settled")
def test_every_trainable_parameter_gets_a_gradient_even_where_no_error_has_come(name: str):
    lam, make = RULES[name]
    net = chain(lam)
    once = Relaxation(schedule=BottomUp(), stop=Count(2))
    found = make(once).estimate(net, squared_error, batch(4, 5), batch(4, 3))
    assert set(found.grads) == set(net.parameters())


@pytest.mark.parametrize("lam", [0.0, 1.0])
@pytest.mark.parametrize("error", [1e-1, 1e-3])
def test_the_exact_gradient_is_exact_however_small_the_error_is(lam: float, error: float):
    net, x = chain(lam), batch(8, 5)
    y = net(x).detach() + error * batch(8, 3)
    coarse = RecurrentBackprop(Relaxation(stop=Residual(1e-5, 2000))).estimate(net, squared_error, x, y)
    assert gap(coarse, RecurrentBackprop(EXACTLY).estimate(net, squared_error, x, y)) < 1e-3


@pytest.mark.parametrize("lam", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("rule", [RecurrentBackprop(), Dyadic()], ids=["recurrent backpropagation", "dyadic"])
def test_loops_through_maps_with_a_changing_jacobian_are_refused_and_elsewhere_they_are_not(
    rule: AbstractRule, lam: float
):
    normalised = nn.Linear(6, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3)
    above = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), *normalised)
    with pytest.raises(ValueError, match="2 Linear's LayerNorm is not known to be one"):
        rule.estimate(drawn(above, lam), squared_error, batch(4, 5), batch(4, 3))
    below = nn.Sequential(nn.Linear(5, 6), *normalised)
    rule.estimate(drawn(below, lam), squared_error, batch(4, 5), batch(4, 3))
    rule.estimate(drawn(above, 0.5), squared_error, batch(4, 5), batch(4, 3))


def test_complex_nudges_refuse_maps_that_are_not_holomorphic():
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3))
    with pytest.raises(ValueError, match="holomorphic nudges need affine maps"):
        EquilibriumPropagation(variant="holomorphic").estimate(drawn(model), squared_error, batch(4, 5), batch(4, 3))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (lambda: nn.BatchNorm1d(6, track_running_stats=False).eval(), "BatchNorm1d"),
        (lambda: spectral_norm(nn.Linear(6, 6)), "Linear"),
        (lambda: nn.utils.spectral_norm(nn.Linear(6, 6)), "Linear"),
    ],
)
def test_maps_that_change_at_every_visit_are_refused(module: Callable[[], nn.Module], name: str):
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), module(), nn.Tanh(), nn.Linear(6, 3))
    net = Layered.from_sequential(model, 1.0)
    with pytest.raises(ValueError, match=f"{name} gives another map at every visit"):
        EquilibriumPropagation().estimate(net, squared_error, torch.randn(4, 5), torch.randn(4, 3))


@pytest.mark.parametrize("kappa", [1.0, 4.0])
def test_a_clamped_regression_learns_the_squared_error_whatever_its_weight(kappa: float):
    layers = nn.Sequential(nn.Linear(5, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)).double()
    how = Relaxation(stop=Residual(1e-13, 20_000))
    net = Lifted(
        Layered.from_sequential(layers), Terms(gamma=1e-3, regression=kappa, reconstruction=kappa), relaxation=how
    )
    x = batch(4, 5)
    y = net(x).detach() + 1e-2 * batch(4, 3)
    clamped = LRRN().estimate(net, squared_error, x, y)
    assert gap(clamped, Backprop().estimate(net, squared_error, x, y)) < 1e-2


@pytest.mark.parametrize("rule", [PredictiveCoding(), AuxiliaryCoordinates()], ids=["predictive coding", "MAC"])
def test_units_without_a_bounded_slope_need_a_step(rule: AbstractRule):
    from dyadnet.activation import Sign

    with pytest.raises(ValueError, match="no step is short enough for sign"):
        rule.estimate(chain(0.5, Sign), squared_error, batch(4, 5), batch(4, 3))


def test_hooks_of_a_whole_model_are_refused():
    model = nn.Sequential(nn.Linear(5, 3))
    model.register_forward_hook(lambda module, inputs, output: output + 1)
    with pytest.raises(TypeError, match="the model has hooks of its own"):
        Layered.from_sequential(model)


@pytest.mark.parametrize("name", ["gain", "lam", "stages", "activations", "relax", "free", "on", "feedback"])
def test_names_of_the_network_s_own_are_refused(name: str):
    model = nn.Sequential(OrderedDict({name: nn.Linear(5, 3)}))
    with pytest.raises(TypeError, match=f"a module named {name}, which is a name of the network's own"):
        Layered.from_sequential(model)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_refused(kind: torch.dtype):
    net, x, y = chain(0.5).to(kind), batch(4, 5).to(kind), batch(4, 3).to(kind)
    with pytest.raises(ValueError, match="keep weights in float32"):
        DualPropagation().estimate(net, squared_error, x, y)


@rules
def test_an_empty_batch_is_refused(name: str):
    lam, make = RULES[name]
    with pytest.raises(ValueError, match="the batch is empty"):
        make(EXACTLY).estimate(chain(lam), squared_error, batch(0, 5), batch(0, 3))


def test_a_network_is_left_as_it_was():
    for lam, make in RULES.values():
        net: AbstractNetwork = chain(lam)
        before = {name: value.clone() for name, value in net.state_dict().items()}
        make(EXACTLY).estimate(net, squared_error, batch(4, 5), batch(4, 3))
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
