"""Messages between layers against dense matrices, and the norm of their coupling."""

from math import sqrt

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from dyadnet import BottomUp, Dense, Layered, OddEven, Parallel, RandomOrder, Sweeps
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.state import Activity, Pair
from dyadnet.network.wiring import AbstractWiring
from dyadnet.relax.relaxation import NotSettledWarning, Relaxation
from dyadnet.relax.solver import OverRelaxed, Plain
from dyadnet.relax.stopping import Residual
from hopfield import reference
from hopfield.cases import (
    NETWORKS,
    as_gradients,
    as_reference,
    batch,
    dense,
    error,
    layer_rows,
    layered,
    mlp,
    pooled,
    scaled,
    strong_skew,
)

SCALE = 0.7
networks = pytest.mark.parametrize("name", NETWORKS)


def rows_of(net: AbstractNetwork) -> list[slice]:
    if isinstance(net, Layered):
        return layer_rows(net)
    assert isinstance(net, Dense)
    return [slice(0, len(net.bias) - net.outputs), slice(len(net.bias) - net.outputs, len(net.bias))]


def wired(net: AbstractNetwork, x: Tensor, plus: Tensor, minus: Tensor) -> AbstractWiring:
    """With dyads as states, the reference's units spread over layers."""
    return net.wire(x, [Pair(plus[:, rows], minus[:, rows], SCALE) for rows in rows_of(net)])


def spread(net: AbstractNetwork, units: Tensor) -> dict[int, Tensor]:
    return {k: units[:, rows] for k, rows in enumerate(rows_of(net), 1)}


def at_random(net: AbstractNetwork) -> tuple[AbstractWiring, reference.Net, np.ndarray, Tensor, Tensor]:
    """A wiring with random dyads, its dense system, the inputs, and the dyads' means and errors."""
    slow, (x, _) = as_reference(net), batch()
    plus, minus = torch.randn(3, len(slow.b)), torch.randn(3, len(slow.b))
    return wired(net, x, plus, minus), slow, x.numpy(), (plus + minus) / 2, (minus - plus) / SCALE


def dense_or_zero(message: Tensor | None, like: Tensor) -> Tensor:
    """A message, of which None stands for zero."""
    return torch.zeros_like(like) if message is None else message


@networks
def test_means_travel_through_the_weights_and_errors_through_their_transpose(name: str):
    net = NETWORKS[name]()
    wiring, slow, x, mean, errors = at_random(net)
    drives = mean @ torch.tensor(slow.W.T) + torch.tensor(x @ slow.U.T + slow.b)
    sent = mean @ torch.tensor(slow.theta.T) + torch.tensor(x @ slow.U.T + slow.b)
    for k, rows in enumerate(rows_of(net), 1):
        assert_close(wiring.drive(k), drives[:, rows])
        assert_close(wiring.sent(k), sent[:, rows])
        assert_close(dense_or_zero(wiring.feedback(k), drives[:, rows]), (errors @ torch.tensor(slow.W))[:, rows])


@networks
def test_vectors_are_coupled_through_any_mixture_of_the_weights_and_their_transpose(name: str):
    net = NETWORKS[name]()
    wiring, slow, _, mean, _ = at_random(net)
    for k in range(1, wiring.depth + 1):
        wiring.drive(k)
    v = torch.randn_like(mean)
    for up, down in ((1.0, 0.0), (0.0, 1.0), (1.0, -1.0), (0.3, 0.5)):
        expected = v @ torch.tensor(up * slow.theta + down * slow.theta.T).T
        for k, rows in enumerate(rows_of(net), 1):
            coupled = wiring.couple(k, spread(net, v), up, down)
            assert_close(dense_or_zero(coupled, expected[:, rows]), expected[:, rows])


@networks
def test_missing_vectors_stand_for_zero(name: str):
    net = NETWORKS[name]()
    wiring, slow, _, mean, _ = at_random(net)
    for k in range(1, wiring.depth + 1):
        wiring.drive(k)
    last = rows_of(net)[-1]
    v = torch.zeros_like(mean)
    v[:, last] = torch.randn(3, 3)
    expected = v @ torch.tensor(slow.W).T
    for k, rows in enumerate(rows_of(net), 1):
        coupled = wiring.couple(k, {wiring.depth: v[:, last]}, 1.0, net.gain)
        assert_close(dense_or_zero(coupled, expected[:, rows]), expected[:, rows])
        assert wiring.couple(k, {}, 1.0, 1.0) is None


@networks
def test_weights_learn_from_means_and_errors_on_both_of_their_ways(name: str):
    net = NETWORKS[name]()
    wiring, slow, x, mean, errors = at_random(net)
    samples = [reference.told_by(slow, *each) for each in zip(x, mean.numpy(), errors.numpy(), strict=True)]
    expected = as_gradients(net, reference.summed(samples, [1.0] * len(samples)))
    assert error(wiring.gradients(), expected) < 1e-12


@networks
def test_a_state_that_was_not_visited_is_silent(name: str):
    net, (x, _) = NETWORKS[name](), batch()
    wiring = net.wire(x, copies=2)
    for k, rows in enumerate(rows_of(net), 1):
        assert_close(wiring.state(k).mean(), torch.zeros(6, rows.stop - rows.start), rtol=0, atol=0)


@networks
def test_copies_of_a_batch_hear_the_same_inputs(name: str):
    net = NETWORKS[name]()
    slow, (x, _) = as_reference(net), batch(2)
    s = torch.randn(6, len(slow.b))
    wiring = net.wire(x, [Activity(s[:, rows]) for rows in rows_of(net)], 3)
    drives = s @ torch.tensor(slow.W.T) + (x @ torch.tensor(slow.U.T)).repeat(3, 1) + torch.tensor(slow.b)
    for k, rows in enumerate(rows_of(net), 1):
        assert_close(wiring.drive(k), drives[:, rows])


@networks
def test_complex_means_travel_as_their_two_parts(name: str):
    net = NETWORKS[name]()
    slow, (x, _) = as_reference(net), batch()
    s = torch.complex(torch.randn(3, len(slow.b)), torch.randn(3, len(slow.b)))
    wiring = net.wire(x, [Activity(s[:, rows]) for rows in rows_of(net)])
    drives = s @ torch.tensor(slow.W.T).to(s) + torch.tensor(x.numpy() @ slow.U.T + slow.b)
    for k, rows in enumerate(rows_of(net), 1):
        heard = wiring.drive(k)  # real where a layer hears the inputs alone
        assert_close(heard.to(s), drives[:, rows])


# --- the norm of the coupling, and the factor that follows from it ---


@pytest.mark.parametrize("widths", [(5, 7, 3), (5, 7, 6, 3), (5, 4, 6, 5, 7, 3)])
def test_the_coupling_norm_is_that_of_the_block_between_odd_and_even_layers(widths):
    net = Layered.from_sequential(mlp(widths=widths, gain=2.0), 0.0)
    exact, wiring = reference.odd_even_norm(as_reference(net)), net.wire(batch()[0])
    assert wiring.coupling_norm(400) == pytest.approx(exact, rel=1e-8)
    assert exact / 1.02 < wiring.coupling_norm(8) <= exact * (1 + 1e-12)


def test_pooled_convolutions_couple_through_their_switches():
    net, x = pooled(0.0)
    wiring = net.wire(x).probe()
    columns = []
    size = sum(wiring.state(k).mean().numel() for k in range(1, 4))
    for unit in torch.eye(size):
        parts, vectors = unit.split([wiring.state(k).mean().numel() for k in range(1, 4)]), {}
        for k, part in enumerate(parts, 1):
            vectors[k] = part.view_as(wiring.state(k).mean())
        columns.append(torch.cat([wiring.couple(k, vectors, 1.0, 1.0).flatten() for k in range(1, 4)]))  # pyright: ignore
    both_ways = torch.stack(columns)
    assert_close(both_ways, both_ways.T)
    assert net.wire(x).coupling_norm(300) == pytest.approx(float(torch.linalg.matrix_norm(both_ways, 2)), rel=1e-6)


def test_a_network_of_one_layer_has_no_coupling():
    net = Layered.from_sequential(nn.Sequential(nn.Linear(5, 3)), 0.0)
    assert net.wire(batch()[0]).coupling_norm(8) == 0
    assert net.wire(batch()[0]).best_factor(OddEven(), 8, 1.05) == 1


@pytest.mark.parametrize("lam", [0.0, 0.1, 0.25, 0.4])
def test_negative_feedback_is_damped_by_the_factor_of_young_and_niethammer(lam: float):
    net = layered(lam)
    sigma = 1.05 * reference.odd_even_norm(as_reference(net))
    expected = 2 / (1 + sqrt(1 + (1 - 2 * lam) * sigma**2))
    assert net.wire(batch()[0]).best_factor(OddEven(), 400, 1.05) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("lam", [0.5, 0.75, 1.0])
def test_other_feedback_needs_no_damping(lam: float):
    assert layered(lam).wire(batch()[0]).best_factor(OddEven(), 8, 1.05) == 1


def test_the_factor_allows_for_the_slope_of_the_activations():
    steep = layered(0.0, lambda: nn.LeakyReLU(2.0))
    sigma = 2 * reference.odd_even_norm(as_reference(layered_like(steep)))
    assert steep.wire(batch()[0]).best_factor(OddEven(), 400, 1.0) == pytest.approx(
        2 / (1 + sqrt(1 + sigma**2)), rel=1e-8
    )


def layered_like(net: Layered) -> Layered:
    """The same maps with activations that the reference knows."""
    maps = [stage.map for stage in net.stages]
    return Layered.from_sequential(nn.Sequential(maps[0], nn.Tanh(), maps[1], nn.Tanh(), maps[2]), 0.0)


def test_the_factor_is_the_best_one_for_the_linear_network():
    net = strong_skew()
    slow, best = as_reference(net), net.wire(batch()[0]).best_factor(OddEven(), 400, 1.0)
    order = [(1, 3), (2,)]
    rates = {factor: reference.spectral_radius(slow, order, factor * best, 1.0) for factor in (0.8, 0.9, 1.0, 1.05)}
    assert min(rates, key=rates.__getitem__) == 1.0
    assert rates[1.0] == pytest.approx(1 - best, rel=1e-3)


def test_simultaneous_updates_of_a_skew_chain_have_the_factor_that_is_best_for_the_linear_network():
    net = strong_skew()
    slow, best = as_reference(net), net.wire(batch()[0]).best_factor(Parallel(), 400, 1.0)
    rates = {factor: reference.spectral_radius(slow, [(1, 2, 3)], factor * best, 1.0) for factor in (0.9, 1.0, 1.1)}
    assert min(rates, key=rates.__getitem__) == 1.0
    assert rates[1.0] == pytest.approx(sqrt(1 - best), rel=1e-6)


@pytest.mark.parametrize("schedule", [OddEven(), BottomUp(), Sweeps(), Parallel(), RandomOrder()])
@pytest.mark.parametrize("lam", [0.0, 0.25, 1.0])
def test_large_weights_settle_in_every_order_with_the_default_factor(lam: float, schedule):
    net = layered(lam)
    scaled(net, 4.0)
    solution = net.relax(batch()[0], relaxation=Relaxation(schedule, OverRelaxed(), Residual(1e-8, 20000)))
    assert bool(solution.converged.all())


def test_undamped_they_do_not():
    net = layered(0.0)
    scaled(net, 4.0)
    with pytest.warns(NotSettledWarning):
        net.relax(batch()[0], relaxation=Relaxation(Sweeps(), Plain(), Residual(1e-8, 2000)))


def test_simultaneous_updates_of_dense_skew_networks_are_damped_by_their_norm():
    net = dense("skew", scale=3.0)
    sigma = 1.05 * 3.0
    assert net.wire(batch()[0]).best_factor(OddEven(), 400, 1.05) == pytest.approx(1 / (1 + sigma**2), rel=1e-6)


def test_the_weights_of_layers_in_the_energy_are_powers_of_the_gain():
    wiring = layered(0.75).wire(batch()[0])
    assert [wiring.discount(k) for k in (1, 2, 3)] == [4.0, 2.0, 1.0]
    assert [dense("symmetric").wire(batch()[0]).discount(k) for k in (1, 2)] == [1.0, 1.0]
