"""Networks on an optical machine: their equilibria, how rules run on it, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.testing import assert_close

from dyadnet import (
    ContrastiveHebbian,
    CoupledLearning,
    Dense,
    DualPropagation,
    Dyadic,
    EquilibriumPropagation,
    Lagrangian,
    squared_error,
)
from dyadnet.hardware.calibration import Calibration, read_calibration
from dyadnet.hardware.light import asymmetry
from dyadnet.hardware.modulator import Modulator
from dyadnet.hardware.optical import OpticalMachine, sampled
from dyadnet.network.dense import Structure
from dyadnet.network.state import Activity
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.schedule import Parallel
from dyadnet.relax.solver import Anderson
from dyadnet.relax.stopping import Residual
from dyadnet.rule.base import AbstractRule
from tests.hardware.optics import drawn, saved, slow_product

EXACT = Relaxation(Parallel(), Anderson(), Residual(1e-12, most=2000), strict=True)
STRUCTURES = ["symmetric", "skew", "free"]
CONTRASTIVE = [EquilibriumPropagation(0.3), ContrastiveHebbian(), CoupledLearning(0.3), Dyadic(0.3)]


def network(structure: Structure = "symmetric", scale: float = 0.8) -> Dense:
    torch.manual_seed(0)
    net = Dense(5, 8, 3, structure, activation=nn.Tanh(), readout=nn.Tanh(), scale=scale, relaxation=EXACT)
    return net.double()


def batch(samples: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(samples, 5, generator=generator, dtype=torch.float64)
    return x, torch.randn(samples, 3, generator=generator, dtype=torch.float64).tanh()


def grads(rule: AbstractRule, machine: OpticalMachine | Dense) -> dict[str, torch.Tensor]:
    net = machine.net if isinstance(machine, OpticalMachine) else machine
    names = {parameter: name for name, parameter in net.named_parameters()}
    return {names[p]: grad for p, grad in rule.estimate(machine, squared_error, *batch()).grads.items()}


@pytest.fixture
def calibration(tmp_path: Path) -> Calibration:
    return read_calibration(saved(drawn(8), tmp_path))


# --- equilibria ---


@pytest.mark.parametrize("structure", STRUCTURES)
def test_an_ideal_machine_has_the_equilibria_of_its_network(structure: Structure):
    net, (x, _) = network(structure), batch()
    machine = OpticalMachine(net, Modulator(bits=None))
    assert_close(machine(x), net(x), rtol=0, atol=1e-10)
    assert_close(machine.matrix(), net.connectivity().detach())


@pytest.mark.parametrize("bits", [2, 4, 9])
def test_weights_of_a_few_bits_have_the_equilibria_of_the_network_with_these_weights(bits: int):
    net, rounded, (x, _) = network("free"), network("free"), batch()
    with torch.no_grad():
        rounded.theta.copy_(Modulator(bits)(net.connectivity()))
    assert_close(OpticalMachine(net, Modulator(bits))(x), rounded(x), rtol=0, atol=1e-10)
    assert float((rounded(x) - net(x)).abs().max()) > 1e-4


def test_a_distorted_machine_settles_where_slow_numpy_says_that_it_is_at_rest(tmp_path: Path):
    found, (x, _), net = drawn(8), batch(), network("free")
    calibration = read_calibration(saved(found, tmp_path))
    machine = OpticalMachine(net, calibration=calibration)
    W = Modulator().elements(net.connectivity().detach()).numpy()
    a, b, c, d, f, g = found["tanh_sigmoid_coeffs"]
    beta = float(machine.written().gain)
    drive = (x @ net.theta_0.T + net.bias).detach().numpy() / a
    z = np.zeros((4, 8))
    for _ in range(2000):
        u = a * z + b
        y = d * u / (1 + np.abs(u) ** c) ** (1 / c) + f + g * z
        light = np.array([slow_product(found, np.maximum(W, 0), np.maximum(-W, 0), row, beta) for row in y[:1]])
        new = light + np.clip(drive[:1], -1.3, 1.3)
        moved, z[:1] = np.abs(new - z[:1]).max(), 0.5 * z[:1] + 0.5 * new
        if moved < 1e-13:
            break
    u = a * z[0] + b
    s = (d * u / (1 + np.abs(u) ** c) ** (1 / c) + f + g * z[0]) / d
    assert_close(machine(x)[0].detach().numpy(), s[5:], rtol=0, atol=1e-9)


def test_inputs_are_clamped_and_states_saturate(calibration: Calibration):
    machine, (x, _) = OpticalMachine(network(), calibration=calibration), batch()
    assert calibration.saturation is not None
    clamped = machine.wire(1e3 * x).inner.input
    assert_close(clamped.abs().max().item(), 1.3 * calibration.saturation.a)
    assert float(OpticalMachine(network()).wire(1e3 * x).inner.input.abs().max()) > 100
    far, farther = machine(1e6 * x), machine(1e9 * x)
    assert_close(far, farther, rtol=0, atol=1e-9)
    assert float(far.abs().max()) < 1.3


def test_the_distorted_matrix_of_a_symmetric_network_is_not_symmetric(calibration: Calibration):
    assert asymmetry(OpticalMachine(network()).matrix()) < 1e-12
    assert 0.05 < asymmetry(OpticalMachine(network(), calibration=calibration).matrix()) < 0.5


# --- learning ---


@pytest.mark.parametrize("rule", CONTRASTIVE, ids=lambda rule: type(rule).__name__)
def test_on_an_ideal_machine_rules_learn_what_they_learn_on_the_network(rule: AbstractRule):
    net = network()
    on_machine, plain = grads(rule, OpticalMachine(net, Modulator(bits=None))), grads(rule, net)
    for name, grad in plain.items():
        assert_close(on_machine[name], grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_dyads_send_their_errors_through_the_transpose(structure: Structure):
    net, rule = network(structure), Dyadic(0.3, form="joint")
    on_machine, plain = grads(rule, OpticalMachine(net, Modulator(bits=None))), grads(rule, net)
    for name, grad in plain.items():
        assert_close(on_machine[name], grad, rtol=1e-6, atol=1e-9)


def test_gradients_are_those_of_the_rounded_network_given_to_the_accumulator():
    net, rounded = network("free"), network("free")
    with torch.no_grad():
        rounded.theta.copy_(Modulator(4)(net.connectivity()))
    found, expected = grads(Dyadic(0.3), OpticalMachine(net, Modulator(4))), grads(Dyadic(0.3), rounded)
    for name, grad in expected.items():
        assert_close(found[name], grad, rtol=1e-6, atol=1e-9)


def test_a_distorted_machine_still_points_uphill_but_not_quite_the_way_of_its_network(calibration: Calibration):
    for structure in STRUCTURES:
        net = network(structure, scale=0.5)
        distorted = grads(Dyadic(0.1), OpticalMachine(net, calibration=calibration))["theta"]
        exact = grads(Dyadic(0.1), net)["theta"]
        cosine = float(torch.cosine_similarity(distorted.flatten(), exact.flatten(), 0))
        assert 0.5 < cosine < 0.9999


@pytest.fixture
def at_a_users_speed() -> Iterator[None]:
    """Shapes are checked by the other tests; here thousands of products are made."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    bunch = load_digits()
    x = torch.tensor(bunch.data, dtype=torch.get_default_dtype()) / 16
    y = torch.tensor(bunch.target)
    return x[:1300], y[:1300], x[1300:], y[1300:]


@pytest.mark.usefixtures("at_a_users_speed")
@pytest.mark.parametrize(
    ("rule", "structure", "distorted"),
    [(EquilibriumPropagation(0.5), "symmetric", True), (Dyadic(1.0), "skew", False)],
    ids=["equilibrium propagation, distorted", "skew dyads"],
)
def test_digits_are_learned_with_nine_bits(rule: AbstractRule, structure: Structure, distorted: bool, tmp_path: Path):
    torch.manual_seed(0)
    net = Dense(64, 58, 10, structure, activation=nn.Tanh(), readout=nn.Tanh(), scale=0.5)
    calibration = read_calibration(saved(drawn(58), tmp_path)) if distorted else None
    how = Relaxation(Parallel(), Anderson(), Residual(1e-2, most=60))
    machine = OpticalMachine(net, calibration=calibration, relaxation=how)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-2)
    x, y, x_test, y_test = digits()

    def accuracy() -> float:
        return float((machine(x_test).argmax(1) == y_test).double().mean())

    untrained = accuracy()
    for _ in range(2):
        for at in torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).split(65):
            optimizer.zero_grad()
            rule.backward(machine, squared_error, x[at], y[at])
            optimizer.step()
    assert untrained < 0.3
    assert accuracy() > 0.75
    assert len(Modulator().elements(net.connectivity()).unique()) <= 512


# --- reading ---


def test_readings_average_their_noise_away_as_the_root_of_their_number():
    states = [Activity(torch.full((400, 100), 0.3, dtype=torch.float64))]
    for samples in (1, 40):
        (read,) = sampled(states, 0.2, samples, torch.Generator().manual_seed(3))
        expected = 0.2 / samples**0.5
        error = 5 * expected / 40_000**0.5  # five deviations of the mean; of the deviation, less than that
        assert abs(float(read.s.mean()) - 0.3) < error
        assert abs(float(read.s.std()) - expected) < error


def test_readings_come_from_their_generator_and_without_noise_are_the_states():
    states = [Activity(torch.rand(3, 2))]
    assert_close(sampled(states, 0.0)[0].s, states[0].s, rtol=0, atol=0)
    once, again, other = (sampled(states, 0.1, generator=torch.Generator().manual_seed(n))[0].s for n in (1, 1, 2))
    assert bool((once == again).all())
    assert not bool((once == other).any())


@pytest.mark.parametrize(("noise", "samples"), [(-0.1, 40), (0.1, 0)])
def test_impossible_readings_are_refused(noise: float, samples: int):
    with pytest.raises(ValueError, match="noise of at least 0 and a sample"):
        sampled([], noise, samples)


# --- what is refused ---


def test_a_network_that_does_not_saturate_is_refused():
    with pytest.raises(ValueError, match=r"identity has no bounds, and light saturates"):
        OpticalMachine(Dense(4, 6, 2, activation=nn.Tanh()))


def test_a_calibration_of_another_size_is_refused(calibration: Calibration):
    net = Dense(4, 6, 2, activation=nn.Tanh(), readout=nn.Tanh())
    with pytest.raises(ValueError, match=r"8 channels, the network 6 units: take calibration.repeated\(6\)"):
        OpticalMachine(net, calibration=calibration)


@pytest.mark.parametrize("rule", [DualPropagation(), Lagrangian()], ids=lambda rule: type(rule).__name__)
def test_rules_of_one_sweep_are_refused(rule: AbstractRule):
    with pytest.raises((TypeError, ValueError)):
        rule.estimate(OpticalMachine(network()), squared_error, *batch())


def test_rules_that_need_an_energy_are_told_that_there_is_none():
    with pytest.raises(ValueError, match="has no energy"):
        EquilibriumPropagation().estimate(OpticalMachine(network("skew")), squared_error, *batch())


def test_complex_nudges_are_refused():
    with pytest.raises(TypeError, match="light carries real states"):
        EquilibriumPropagation(variant="holomorphic").estimate(OpticalMachine(network()), squared_error, *batch())
