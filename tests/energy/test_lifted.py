"""Lifted energies against what the thesis states, by autograd; that they fall, and to which minimum."""

from dataclasses import replace
from itertools import pairwise

import lifted
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from dyadnet import Layered, OddEven, Parallel, RandomOrder, Sweeps
from dyadnet.energy.gaps import LiftedWiring
from dyadnet.energy.lifted import LiftedEnergy
from dyadnet.energy.potential import Auxiliary, Fenchel, Predictive, Proximal
from dyadnet.energy.unknown import Unknown
from dyadnet.network.state import Activity
from dyadnet.relax.relaxation import NotSettledWarning, Relaxation, settle
from dyadnet.relax.schedule import TopDown
from dyadnet.relax.solver import Accelerated, Anderson, Damped, Plain
from dyadnet.relax.stopping import Count, Residual

GAMMA = 0.6
TIGHT = Residual(1e-12, 3000)


def chains(kind: str) -> dict[str, lifted.Chain]:
    smooth = nn.ReLU if kind in lifted.PROJECTING else nn.Tanh
    return {
        "mlp": lifted.mlp(smooth),
        "hard sigmoid mlp": lifted.mlp(lambda: nn.Hardtanh(0, 1)),
        "average pooling": lifted.conv(smooth, nn.AvgPool2d(2)),
        "maximum pooling": lifted.conv(smooth, nn.MaxPool2d(2)),
    }


kinds = pytest.mark.parametrize("kind", lifted.POTENTIALS)
networks = pytest.mark.parametrize("network", ["mlp", "hard sigmoid mlp", "average pooling", "maximum pooling"])


def energy_of(kind: str, chain: lifted.Chain, **settings: float) -> LiftedEnergy:
    return LiftedEnergy(chain.net, lifted.POTENTIALS[kind], **settings)


def placed(energy: LiftedEnergy, chain: lifted.Chain, states: list[Tensor]) -> LiftedWiring:
    return energy.wire(chain.x, [Activity(s) for s in states])


def pulled(energy: LiftedEnergy, x: Tensor, y: Tensor) -> LiftedWiring:
    """A forward pass, its output replaced by a target."""
    wiring = energy.wire(x)
    last = wiring.state(wiring.depth)
    wiring.states[wiring.depth] = Unknown(y, last.allowed, last.shows)
    return wiring


def unknowns(wiring: LiftedWiring) -> list[Tensor]:
    return [wiring.state(k).s for k in range(1, wiring.depth + 1)]


# --- values and derivatives ---


@kinds
@networks
def test_the_value_is_the_sum_of_the_potentials(kind, network):
    chain = chains(kind)[network]
    states = chain.somewhere(inside=kind in lifted.PROJECTING)
    found = energy_of(kind, chain, gamma=GAMMA).value(chain.x, [Activity(s) for s in states])
    assert_close(found, lifted.energy(kind, chain, states, GAMMA).detach(), rtol=1e-12, atol=1e-12)


@kinds
@networks
def test_layers_are_drawn_along_the_derivative_in_their_own_states(kind, network):
    chain = chains(kind)[network]
    states = [s.requires_grad_() for s in chain.somewhere(inside=kind in lifted.PROJECTING)]
    slopes = lifted.gradients(lifted.energy(kind, chain, states, GAMMA).sum(), states)
    energy = energy_of(kind, chain, gamma=GAMMA, step=1.0)
    wiring = placed(energy, chain, [s.detach() for s in states])
    neuron = energy.neuron(wiring, None)
    for k in range(1, wiring.depth):
        target = neuron(k, wiring.drive(k), wiring.feedback(k), wiring.state(k))
        assert_close(GAMMA ** (k - 1) * (states[k - 1] - target.s).detach(), slopes[k - 1], rtol=1e-12, atol=1e-12)


@kinds
@networks
def test_weights_learn_the_derivative_of_the_value(kind, network):
    chain = chains(kind)[network]
    states = chain.somewhere(inside=kind in lifted.PROJECTING)
    expected = lifted.gradients(lifted.energy(kind, chain, states, GAMMA).sum(), chain.parameters)
    energy = energy_of(kind, chain, gamma=GAMMA)
    found = energy.gradients(placed(energy, chain, states), [1.0])
    for parameter, gradient in zip(chain.parameters, expected, strict=True):
        assert_close(found[parameter], gradient, rtol=1e-12, atol=1e-12)
    assert placed(energy, chain, states).gradients().keys() == found.keys()


@kinds
def test_copies_count_with_their_weights(kind):
    chain = chains(kind)["mlp"]
    one, other = chain.somewhere(inside=True), chain.somewhere(inside=True)
    energy = energy_of(kind, chain, gamma=GAMMA)
    both = [Activity(torch.cat(pair)) for pair in zip(one, other, strict=True)]
    together = energy.gradients(energy.wire(chain.x, both, 2), [2.0, -0.5])
    apart = [energy.gradients(placed(energy, chain, states), [1.0]) for states in (one, other)]
    for parameter, gradient in together.items():
        assert_close(gradient, 2 * apart[0][parameter] - 0.5 * apart[1][parameter], rtol=1e-12, atol=1e-12)


@kinds
def test_states_start_where_a_forward_pass_leaves_them(kind):
    chain = chains(kind)["mlp"]
    energy = energy_of(kind, chain)
    below = chain.x
    for k, (map_, f) in enumerate(chain.layers, 1):
        a = map_(below).detach()
        below = f(a)
        state = energy.wire(chain.x).state(k)
        assert_close(state.s, a if kind == "predictive" else below)
        assert_close(state.mean(), below)
    value = energy.wire(chain.x).value()
    if kind == "proximal":
        assert bool((value > 0.01).all())
    else:
        assert float(value.abs().max()) < 1e-30


# --- simultaneous steps ---


def descended(kind: str, chain: lifted.Chain, y: Tensor, steps: int, step: float, momentum: float) -> list[Tensor]:
    """Projected gradient descent by autograd; the output, held at a target, is never drawn anywhere else."""
    states, below = [], chain.x
    for map_, f in chain.layers:
        a = map_(below).detach()
        below = f(a)
        states.append(a if kind == "predictive" else below)
    states[-1] = y
    before = states
    for _ in range(steps):
        ahead = [s + momentum * (s - last) for s, last in zip(states, before, strict=True)]
        if kind in lifted.PROJECTING:
            ahead = [f(s) for s, (_, f) in zip(ahead, chain.layers, strict=True)]
        leaves = [s.detach().requires_grad_() for s in ahead]
        slopes = lifted.gradients(lifted.energy(kind, chain, leaves, GAMMA).sum(), leaves)
        before, moved = states, []
        for k, (s, slope, (_, f)) in enumerate(zip(ahead, slopes, chain.layers, strict=True)):
            s = s - step * slope / GAMMA**k
            moved.append(f(s) if kind in lifted.PROJECTING else s)
        states = [*moved[:-1], y]
    return states


@kinds
@networks
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_simultaneous_updates_are_gradient_descent(kind, network, momentum):
    chain, y = chains(kind)[network], torch.randn(3, 4)
    energy = energy_of(kind, chain, gamma=GAMMA, step=0.1)
    solver = Accelerated(momentum, 1.0) if momentum else Plain()
    for steps in (1, 2, 3, 7):
        wiring = pulled(energy, chain.x, y)
        energy.minimise(wiring, lambda drive, before: y, Relaxation(Parallel(), solver, Count(steps)))
        for found, expected in zip(unknowns(wiring), descended(kind, chain, y, steps, 0.1, momentum), strict=True):
            assert_close(found, expected, rtol=1e-11, atol=1e-12)


@kinds
@pytest.mark.parametrize("network", ["mlp", "maximum pooling"])
@pytest.mark.parametrize("solver", [Plain(), Damped(0.7), Accelerated(0.5), Accelerated(0.5, 0.8)], ids=str)
def test_the_short_way_is_that_of_the_relaxation_loop(kind, network, solver):
    chain, y = chains(kind)[network], torch.randn(3, 4)
    energy = energy_of(kind, chain, gamma=GAMMA)
    for steps in (1, 2, 5):
        how, found = Relaxation(Parallel(), solver, Count(steps)), []
        for way in (
            lambda w, o, how: energy.minimise(w, o, how),
            lambda w, o, how: settle(w, energy.neuron(w, o), how),
        ):
            wiring = pulled(energy, chain.x, y)
            solution = way(wiring, lambda drive, before: (drive + y) / 2, how)
            found.append([*unknowns(wiring), solution.residual, *energy.gradients(wiring, [1.0]).values()])
        for short, long in zip(*found, strict=True):
            assert_close(short, long, rtol=1e-12, atol=1e-13)


def test_a_layer_that_no_error_has_reached_stays_exactly_where_it_is():
    chain, y = lifted.mlp(nn.Tanh, widths=(5, 6, 6, 6, 6, 4)), torch.randn(3, 4)
    energy = energy_of("predictive", chain, step=0.1)
    start = unknowns(energy.wire(chain.x))
    for steps in range(1, 6):
        wiring = pulled(energy, chain.x, y)
        energy.minimise(wiring, lambda drive, before: y, Relaxation(Parallel(), Plain(), Count(steps)))
        moved = [not torch.equal(a, b) for a, b in zip(unknowns(wiring), start, strict=True)]
        assert moved == [k >= 5 - steps for k in range(1, 6)]


def test_nothing_is_computed_that_has_not_changed():
    """Products with the weights: up at the forward pass, then up and down where something has moved, then to learn."""
    widths, steps, batch = (50, 20, 30, 40, 7), 6, 3
    chain = lifted.mlp(nn.ReLU, widths=widths, batch=batch)
    energy, y = energy_of("predictive", chain, step=0.1), torch.randn(batch, 7)
    sizes = {k: below * above for k, (below, above) in enumerate(pairwise(widths), 1)}
    with FlopCounterMode(display=False) as counter:
        wiring = pulled(energy, chain.x, y)
        energy.minimise(wiring, lambda drive, before: y, Relaxation(Parallel(), Plain(), Count(steps)))
        energy.gradients(wiring, [1.0])
    L = len(sizes)
    forward = learn = sum(sizes.values())
    # layer k moves in step L - k and after; map k + 1 then carries its gap down, and its new activity up
    moving = sum(2 * sizes[k + 1] * (steps - (L - k) + 1) for k in range(1, L))
    assert counter.get_total_flops() / 2 / batch == forward + moving + learn


# --- descent ---

orders = st.sampled_from([Sweeps(), OddEven(), TopDown(visits=2), RandomOrder(), Parallel()])


def energies(energy: LiftedEnergy, wiring: LiftedWiring, y: Tensor, order, passes: int = 12) -> Tensor:
    """The energy after 0, 1, ... passes, `(passes + 1, batch)`."""
    values = [wiring.value()]
    for _ in range(passes):
        how = replace(energy.settling(), schedule=order, stop=Count(1))
        energy.minimise(wiring, lambda drive, before: y, how)
        values.append(wiring.value())
    return torch.stack(values).detach()


@kinds
@settings(max_examples=5)
@given(
    seed=st.integers(0, 10**6),
    gain=st.floats(0.3, 3.0),
    gamma=st.floats(0.05, 2.0),
    widths=st.lists(st.integers(1, 7), min_size=3, max_size=5),
    order=orders,
)
def test_no_update_raises_the_energy(kind, seed, gain, gamma, widths, order):
    """With steps of the layers' own choice. The others are linear here, so that their energies are quadratic too."""
    torch.manual_seed(seed)
    chain = lifted.mlp(nn.ReLU if kind in lifted.PROJECTING else nn.Identity, widths=widths)
    with torch.no_grad():
        for map_, _ in chain.layers:
            map_.weight *= gain
    energy = energy_of(kind, chain, gamma=gamma)
    y = torch.randn(3, widths[-1])
    values = energies(energy, pulled(energy, chain.x, y), y, order)
    assert bool((values.diff(dim=0) <= 1e-12 * (1 + values.abs().max())).all())


@pytest.mark.parametrize("kind", lifted.PROJECTING)
@pytest.mark.parametrize("network", ["hard sigmoid mlp", "average pooling"])
@pytest.mark.parametrize("order", [Sweeps(), OddEven(), Parallel()], ids=str)
def test_nor_with_convolutions_pooling_and_boxes(kind, network, order):
    chain, y = chains(kind)[network], torch.randn(3, 4)
    energy = energy_of(kind, chain, gamma=GAMMA)
    values = energies(energy, pulled(energy, chain.x, y), y, order)
    assert bool((values.diff(dim=0) <= 1e-12).all())
    assert bool((values[-1] < values[0]).all())


@pytest.mark.parametrize("kind", ["auxiliary", "predictive"])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid, nn.ReLU])
def test_nor_where_derivatives_of_activations_take_part(kind, activation):
    chain, y = lifted.mlp(activation), torch.randn(3, 4)
    energy = energy_of(kind, chain)
    values = energies(energy, pulled(energy, chain.x, y), y, Sweeps())
    assert bool((values.diff(dim=0) <= 1e-12).all())


def test_maxima_may_raise_it():
    """Negative control: a window gives its largest unit away as soon as that one is moved below the next."""
    chain, y = chains("proximal")["maximum pooling"], torch.randn(3, 4)
    energy = energy_of("proximal", chain, gamma=GAMMA)
    values = energies(energy, pulled(energy, chain.x, y), y, Sweeps())
    assert float(values.diff(dim=0).max()) > 1e-4


def test_steps_longer_than_the_curvature_allows_raise_it():
    """Negative control."""
    chain, y = lifted.mlp(nn.ReLU), torch.randn(3, 4)
    energy = energy_of("proximal", chain, step=1.0)
    values = energies(energy, pulled(energy, chain.x, y), y, Parallel())
    assert float(values.diff(dim=0).max()) > 1


# --- the minimum ---

WAYS = {
    "sweeps": Relaxation(Sweeps(), Plain(), TIGHT),
    "odd-even, accelerated": Relaxation(OddEven(), Accelerated(), TIGHT),
    "odd-even, Anderson": Relaxation(OddEven(), Anderson(factor=1.0), TIGHT),
    "simultaneous": Relaxation(Parallel(), Damped(0.9), TIGHT),
    "simultaneous, accelerated": Relaxation(Parallel(), Accelerated(None, 0.5), TIGHT),
    "simultaneous, momentum": Relaxation(Parallel(), Accelerated(0.8, 0.3), TIGHT),
}


def minimum(chain: lifted.Chain, gamma: float, y: Tensor | None) -> list[np.ndarray]:
    """The least proximal energy of the first sample as one bounded least-squares problem, of all layers together."""
    maps = [map_ for map_, _ in chain.layers]
    widths = [map_.out_features for map_ in maps]
    starts = np.cumsum([0, *widths])
    rows, right = np.zeros((starts[-1], starts[-1])), np.zeros(starts[-1])
    for k, map_ in enumerate(maps):
        here, scale = slice(starts[k], starts[k + 1]), gamma ** (k / 2)
        rows[here, here] = scale * np.eye(widths[k])
        right[here] = scale * map_.bias.detach().numpy()
        if k == 0:
            right[here] += scale * map_.weight.detach().numpy() @ chain.x[0].numpy()
        else:
            rows[here, starts[k - 1] : starts[k]] = -scale * map_.weight.detach().numpy()
    lower, upper = np.full(starts[-1], -np.inf), np.full(starts[-1], np.inf)
    lower[: starts[-2]] = 0
    if y is not None:
        lower[starts[-2] :], upper[starts[-2] :] = y[0].numpy() - 1e-13, y[0].numpy() + 1e-13
    found = lsq_linear(rows, right, (lower, upper), tol=1e-15, max_iter=500, lsq_solver="exact").x
    return [found[starts[k] : starts[k + 1]] for k in range(len(maps))]


@pytest.mark.parametrize(
    ("way", "clamp"), [*((way, True) for way in WAYS), ("odd-even, accelerated", False)], ids=[*WAYS, "free"]
)
def test_the_proximal_minimum_is_that_of_one_convex_problem_however_it_is_approached(way, clamp):
    chain, y = lifted.mlp(nn.ReLU), torch.randn(3, 4)
    energy = energy_of("proximal", chain, gamma=GAMMA)
    output = (lambda drive, before: y) if clamp else None
    expected = minimum(chain, GAMMA, y if clamp else None)
    for wiring in (energy.wire(chain.x), placed(energy, chain, chain.somewhere(inside=True))):
        energy.minimise(wiring, output, WAYS[way])
        for found, exact in zip(unknowns(wiring), expected, strict=True):
            assert np.abs(found[0].numpy() - exact).max() < 1e-6  # of the reference


@pytest.mark.parametrize("kind", lifted.PROJECTING)
@pytest.mark.parametrize("activation", [nn.ReLU, lambda: nn.Hardtanh(0, 1)], ids=["relu", "hard sigmoid"])
def test_settled_states_obey_the_conditions_of_karush_kuhn_and_tucker(kind, activation):
    chain, y = lifted.mlp(activation), torch.randn(3, 4)
    energy = energy_of(kind, chain, gamma=GAMMA)
    wiring = pulled(energy, chain.x, y)
    energy.minimise(wiring, lambda drive, before: y, WAYS["odd-even, accelerated"])
    states = [s.clone().requires_grad_() for s in unknowns(wiring)]
    slopes = lifted.gradients(lifted.energy(kind, chain, states, GAMMA).sum(), states)
    upper = 1.0 if activation is not nn.ReLU else np.inf
    kinds_of_units = set()
    for s, slope in zip(states[:-1], slopes, strict=False):
        low, high = s == 0, s == upper
        assert bool((s >= 0).all() and (s <= upper).all())
        assert bool((slope[low] >= -1e-10).all() and (slope[high] <= 1e-10).all())
        assert float(slope[~(low | high)].abs().max()) < 1e-10
        kinds_of_units |= {("low", bool(low.any())), ("inside", bool((~(low | high)).any()))}
    assert ("low", True) in kinds_of_units


@pytest.mark.parametrize("kind", ["auxiliary", "predictive", "fenchel"])
def test_steps_and_momentum_lead_to_the_same_minimum(kind):
    chain = lifted.mlp(nn.Hardtanh if kind == "fenchel" else nn.Tanh)
    y = 0.5 + chain.model(chain.x).detach()
    found = []
    for step, momentum in ((0.1, 0.0), (0.05, 0.7)):
        energy = energy_of(kind, chain, step=step)
        wiring = pulled(energy, chain.x, y)
        solver = Accelerated(momentum, 1.0) if momentum else Plain()
        energy.minimise(wiring, lambda drive, before: y, Relaxation(Parallel(), solver, Residual(1e-9, 3000)))
        found.append(unknowns(wiring))
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            assert_close(one, same, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["auxiliary", "predictive", "proximal"])
def test_a_clamped_linear_network_has_the_energy_of_its_closed_form(kind):
    """`1/2 r^T S^{-1} r` with `r` the forward pass's error, `S = I + sum_l (W_L .. W_l)(W_L .. W_l)^T` over l > 1."""
    chain, y = lifted.mlp(nn.Identity), torch.randn(3, 4)
    weights = [map_.weight.detach() for map_, _ in chain.layers]
    S, product = torch.eye(4), torch.eye(4)
    for weight in reversed(weights[1:]):
        product = product @ weight
        S = S + product @ product.T
    r = y - chain.model(chain.x).detach()
    expected = (r * torch.linalg.solve(S, r.T).T).sum(1) / 2
    energy = energy_of(kind, chain)
    wiring = pulled(energy, chain.x, y)
    energy.minimise(wiring, lambda drive, before: y, WAYS["odd-even, accelerated"])
    assert_close(wiring.value().detach(), expected, rtol=1e-10, atol=1e-12)


def test_a_minimum_that_is_not_reached_is_warned_about():
    chain, y = lifted.mlp(nn.ReLU), torch.randn(3, 4)
    energy = energy_of("proximal", chain)
    for order in (Sweeps(), Parallel()):
        with pytest.warns(NotSettledWarning, match="samples have not settled"):
            energy.minimise(
                pulled(energy, chain.x, y), lambda drive, before: y, Relaxation(order, Plain(), Residual(1e-9, 4))
            )


# --- what is refused ---


@pytest.mark.parametrize("potential", [Proximal, Fenchel])
def test_units_that_are_no_projections_are_refused_by_name(potential):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
    with pytest.raises(ValueError, match="2 Linear has the activation tanh"):
        LiftedEnergy(Layered.from_sequential(model), potential)
    LiftedEnergy(Layered.from_sequential(model), Predictive)


@pytest.mark.parametrize("gamma", [0.0, -1.0, float("nan"), float("inf")])
def test_a_discount_that_is_not_positive_is_refused(gamma):
    with pytest.raises(ValueError, match="gamma must be a positive number"):
        LiftedEnergy(lifted.mlp(nn.ReLU).net, Proximal, gamma=gamma)


def test_networks_with_loops_and_squashed_outputs_are_refused():
    chain = lifted.mlp(nn.Tanh)
    with pytest.raises(ValueError, match="feedforward"):
        LiftedEnergy(chain.net.with_lam(1.0), Auxiliary)
    stages = chain.net.stages
    squashed = Layered({}, (*stages[:-1], replace(stages[-1], activation=stages[0].activation)))
    with pytest.raises(ValueError, match="linear output, not tanh"):
        LiftedEnergy(squashed, Predictive)
