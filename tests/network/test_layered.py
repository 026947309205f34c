"""Layered networks: how a user's model is cut into stages, what is refused, and what is shared with it."""

import copy
import inspect
import pickle

import pytest
import torch
from cases import ACTIVATIONS, conv_pool, mlp, normed
from torch import Tensor, nn
from torch.testing import assert_close

from dyadnet import (
    Backprop,
    DualPropagation,
    EquilibriumPropagation,
    Lagrangian,
    Layered,
    cross_entropy,
    squared_error,
)
from dyadnet.activation import IDENTITY, Activation
from dyadnet.network.layered import Stage


def nested() -> nn.Sequential:
    """Sequences within sequences; the cuts between stages lie inside them."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Sequential(nn.Linear(7, 6), nn.Linear(6, 6)), nn.Tanh()),
        nn.Sequential(nn.Linear(6, 4)),
    )


MODELS = {
    "mlp": (mlp, (5,)),
    "conv-pool": (conv_pool, (2, 6, 6)),
    "normed": (normed, (5,)),
    "nested": (nested, (2, 3)),
    "linear": (lambda: nn.Sequential(nn.Linear(5, 4)), (5,)),
    "an activation before the first map": (lambda: nn.Sequential(nn.Tanh(), nn.Linear(5, 4)), (5,)),
    "an identity at the end": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Identity()), (5,)),
    "normalised output": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4), nn.LayerNorm(4)), (5,)),
}
models = pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)


def cut(model: nn.Sequential) -> list[tuple[str, str]]:
    return [(stage.name, stage.activation.name) for stage in Layered.from_sequential(model).stages]


@models
def test_the_network_computes_what_the_model_does(make, shape):
    model, x = make(), torch.randn(3, *shape)
    assert_close(Layered.from_sequential(model)(x), model(x), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_can_end_a_stage(name):
    model, x = nn.Sequential(nn.Linear(5, 6), ACTIVATIONS[name](), nn.Linear(6, 4)), torch.randn(3, 5)
    net = Layered.from_sequential(model)
    assert len(net.stages) == 2
    assert_close(net(x), model(x), rtol=1e-13, atol=1e-13)


@models
def test_parameters_and_their_names_are_the_models(make, shape):
    model = make()
    net = Layered.from_sequential(model)
    assert list(net.state_dict()) == list(model.state_dict())
    ours, theirs = dict(net.named_parameters()), dict(model.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)


def test_stages_end_with_activations_and_are_named_after_what_learns():
    assert cut(conv_pool()) == [("0 Conv2d", "tanh"), ("3 Conv2d", "unit-sigmoid"), ("6 Linear", "identity")]
    assert cut(normed()) == [("0 Linear", "tanh"), ("3 Linear", "sigmoid"), ("6 Linear", "identity")]
    assert cut(nested()) == [("1.0 Linear", "relu"), ("1.2.0 Linear", "tanh"), ("2.0 Linear", "identity")]


def test_a_module_that_the_library_does_not_know_is_a_map():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(5, 5)

        def forward(self, s: Tensor) -> Tensor:
            return s + torch.relu(self.inner(s))

    model = nn.Sequential(Block(), nn.Tanh(), nn.Linear(5, 4))
    assert cut(model) == [("0 Block", "tanh"), ("2 Linear", "identity")]


def test_modes_and_devices_reach_the_stages():
    net = Layered.from_sequential(nested())
    net.eval().float()
    assert not any(stage.map.training for stage in net.stages if not isinstance(stage.map, nn.Sequential))
    assert all(p.dtype == torch.float32 for stage in net.stages for p in stage.map.parameters())


def test_training_the_network_trains_the_model():
    model, x = mlp(), torch.randn(3, 5)
    net = Layered.from_sequential(model)
    before = model(x).detach()
    with torch.no_grad():
        next(iter(net.parameters())).add_(1.0)
    assert not torch.allclose(model(x), before)
    assert_close(net(x), model(x))


# --- what is refused ---


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Rewired(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + input


@pytest.mark.parametrize("model", [Branching(), Rewired(nn.Linear(5, 5)), nn.Linear(5, 4)])
def test_what_is_not_a_sequence_is_refused_by_its_name(model):
    plain = inspect.unwrap(Layered.from_sequential.__func__)  # without the type checks of the tests
    with pytest.raises(TypeError, match=rf"nn.Sequential, not a {type(model).__name__}"):
        plain(Layered, model)


@pytest.mark.parametrize(
    ("hidden", "named"),
    [(nn.Softmax(dim=1), "1 Softmax"), (nn.Softplus(), "1 Softplus"), (nn.PReLU(), "1 PReLU"), (nn.ELU(), "1 ELU")],
)
def test_an_unknown_activation_is_refused_by_its_place_and_name(hidden, named):
    with pytest.raises(TypeError, match=named):
        Layered.from_sequential(nn.Sequential(nn.Linear(5, 6), hidden, nn.Linear(6, 4)))


def test_an_unknown_activation_in_a_nested_sequence_is_named_by_its_path():
    model = nn.Sequential(nn.Sequential(nn.Linear(5, 6), nn.Sequential(nn.Softsign())), nn.Linear(6, 4))
    with pytest.raises(TypeError, match=r"0\.1\.0 Softsign"):
        Layered.from_sequential(model)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (nn.Sequential(nn.Linear(5, 4), nn.ReLU()), "nothing"),
        (nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Flatten()), "2 Flatten"),
        (nn.Sequential(nn.Flatten(), nn.MaxPool2d(2)), "0 Flatten, 1 MaxPool2d"),
        (nn.Sequential(), "nothing"),
    ],
)
def test_a_model_without_a_final_linear_map_is_refused(model, named):
    with pytest.raises(TypeError, match=f"no final linear map.*{named}"):
        Layered.from_sequential(model)


@pytest.mark.parametrize("lam", [-0.1, 1.5, float("nan")])
def test_a_feedback_parameter_outside_its_range_is_refused(lam):
    with pytest.raises(ValueError, match=r"lam must lie in \[0, 1\]"):
        Layered.from_sequential(mlp(), lam=lam)


def test_a_state_that_does_not_fit_is_refused_by_the_name_of_the_stage():
    stage = Layered.from_sequential(mlp()).stages[1]
    with pytest.raises(ValueError, match=r"2 Linear cannot take states of shape \(3, 5\)") as caught:
        stage.linearise(lambda: torch.randn(3, 5))
    assert "\n" not in str(caught.value)


# --- modules that stand twice ---


def test_an_activation_that_stands_twice_ends_two_stages():
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(5, 6), act, nn.Linear(6, 6), act, nn.Linear(6, 4))
    net, x = Layered.from_sequential(model), torch.randn(3, 5)
    assert_close(net(x), model(x))
    assert len(net.stages) == 3


def test_a_map_that_stands_twice_makes_two_stages():
    shared = nn.Linear(5, 5)
    model = nn.Sequential(shared, nn.Tanh(), shared, nn.Tanh(), nn.Linear(5, 4))
    net, x = Layered.from_sequential(model), torch.randn(3, 5)
    assert_close(net(x), model(x))
    assert len(net.stages) == 3


# --- copies ---


@models
def test_a_deep_copy_is_a_network_of_its_own(make, shape):
    net, x = Layered.from_sequential(make()), torch.randn(3, *shape)
    twin = copy.deepcopy(net)
    assert_close(twin(x), net(x), rtol=0, atol=0)
    owned = {id(p) for p in twin.parameters()}
    assert owned == {id(p) for stage in twin.stages for p in stage.map.parameters()}
    assert owned.isdisjoint({id(p) for p in net.parameters()})


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_network_survives_pickling(name):
    net = Layered.from_sequential(nn.Sequential(nn.Linear(5, 6), ACTIVATIONS[name](), nn.Linear(6, 4)))
    x = torch.randn(3, 5)
    assert_close(pickle.loads(pickle.dumps(net))(x), net(x), rtol=0, atol=0)


# --- maps that change ---


def test_modules_whose_map_changes_between_visits_are_named_while_training():
    model = nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.0)), nn.Linear(6, 4)
    )
    net = Layered.from_sequential(model)
    assert net.changing() == ["1 BatchNorm1d", "3.0 Dropout"]
    model.eval()
    assert net.changing() == []
    model[1].train()
    assert net.changing() == ["1 BatchNorm1d"]


def test_a_stage_lists_what_it_may_train():
    stage = Stage(nn.Linear(5, 4), IDENTITY, "0 Linear")
    assert len(stage.parameters()) == 2
    stage.map.weight.requires_grad_(False)
    assert [p.shape for p in stage.parameters()] == [(4,)]


# --- modules that compute something else than their type says ---


class Doubling(nn.ReLU):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def hooked_activation() -> nn.Sequential:
    model = mlp(nn.ReLU)
    model[1].register_forward_hook(lambda module, inputs, output: -output)
    return model


def hooked_sequence() -> nn.Sequential:
    model = nn.Sequential(nn.Sequential(nn.Linear(5, 6), nn.ReLU()), nn.Linear(6, 4))
    model[0].register_forward_hook(lambda module, inputs, output: -output)
    return model


@pytest.mark.filterwarnings("ignore:.*Doubling.*taken as part of a map")
@pytest.mark.parametrize("make", [lambda: mlp(Doubling), hooked_activation, hooked_sequence])
def test_a_model_that_computes_something_else_is_followed_or_refused(make):
    model, x = make(), torch.randn(3, 5)
    try:
        net = Layered.from_sequential(model)
    except TypeError:
        return
    assert_close(net(x), model(x))


# --- activations of one's own ---


class Cubic(nn.Module):
    """`a + a^3 / 3`, without an inverse in closed form: for feedforward chains."""

    activation = Activation(
        "cubic",
        f=lambda a: a + a**3 / 3,
        f_=lambda a: a + a**3 / 3,
        inverse=None,
        potential=None,
        derivative=lambda a, s: 1 + a * a,
        slope=float("inf"),
    )

    def forward(self, a: Tensor) -> Tensor:
        return self.activation.f(a)


def test_an_activation_of_one_s_own_ends_a_stage():
    model, x, y = mlp(Cubic).double(), torch.randn(3, 5).double(), torch.randint(4, (3,))
    net = Layered.from_sequential(model)
    assert [stage.activation.name for stage in net.stages] == ["cubic"] * (len(net.stages) - 1) + ["identity"]
    assert_close(net(x), model(x))
    for rule, tolerance in ((Lagrangian(), 1e-12), (DualPropagation(1e-3), 1e-5)):
        found, exact = (each.estimate(net, cross_entropy, x, y).grads for each in (rule, Backprop()))
        assert all(float((found[p] - exact[p]).norm() / exact[p].norm()) < tolerance for p in exact)
    with pytest.raises(ValueError, match="cubic, which is not monotone"):
        EquilibriumPropagation().estimate(net.with_lam(1.0), squared_error, x, torch.randn(3, 4).double())


def test_a_module_that_might_be_an_activation_is_pointed_out():
    with pytest.warns(UserWarning, match="1 Doubling, 3 Doubling: taken as part of a map"):
        net = Layered.from_sequential(mlp(Doubling))
    assert len(net.stages) == 1
