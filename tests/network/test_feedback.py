"""Feedback paths: what they replace on the way down, what they leave, how their weights are drawn, kept and learned."""

import copy
from math import sqrt

import numpy as np
import pytest
import torch
from cases import NETWORKS, SMOOTH, conv_pool, mirrored, mlp, normed, problem
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.testing import assert_close

from dyadnet import Backprop, Dense, DualPropagation, Dyadic, Lagrangian, Layered, RecurrentBackprop, cross_entropy
from dyadnet.audit.certificate import certify
from dyadnet.network.feedback import DirectFeedback, FeedbackPath, KolenPollack, RandomFeedback, SignSymmetric
from dyadnet.network.linearise import linearise
from dyadnet.network.modules import modules_of
from dyadnet.relax.relaxation import Relaxation
from dyadnet.relax.stopping import Residual

LAYERWISE: dict[str, FeedbackPath] = {
    "random": RandomFeedback(),
    "sign-symmetric": SignSymmetric(),
    "kolen-pollack": KolenPollack(),
}
PATHS: dict[str, FeedbackPath] = LAYERWISE | {"direct": DirectFeedback()}
RANDOM = {name: path for name, path in PATHS.items() if name != "sign-symmetric"}

paths = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
layerwise = pytest.mark.parametrize("path", LAYERWISE.values(), ids=LAYERWISE)
random_paths = pytest.mark.parametrize("path", RANDOM.values(), ids=RANDOM)
networks = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def laid(path: FeedbackPath, model: nn.Sequential | None = None) -> Layered:
    return Layered.from_sequential(model or mlp(), feedback=path)


def feedback_weights(net: Layered) -> dict[str, Tensor]:
    """What a network keeps of its path."""
    assert net.feedback is not None
    return net.feedback.state_dict()


def on_image(path: FeedbackPath) -> FeedbackPath:
    return DirectFeedback(inputs=(2, 6, 6)) if isinstance(path, DirectFeedback) else path


# --- what travels down ---


def test_a_linear_map_is_left_through_the_other_weight_and_entered_through_its_own():
    module, B, s, delta = nn.Linear(5, 3), torch.randn(3, 5), torch.randn(4, 5), torch.randn(4, 3)
    at, own = linearise(module, lambda: s, {module: B}), linearise(module, lambda: s)
    below, grads = at.pull(delta)
    assert_close(at.value, own.value, rtol=0, atol=0)
    assert_close(at.push(s), own.push(s), rtol=0, atol=0)
    assert_close(below, delta @ B)
    assert_close(at.feedback(delta, s, 0.5), s + 0.5 * delta @ B)
    assert_close(grads, own.pull(delta)[1], rtol=0, atol=0)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_is_left_through_the_transposed_convolution_with_the_other_kernel(stride: int, groups: int):
    module = nn.Conv2d(4, 6, 3, stride=stride, padding=1, dilation=2, groups=groups)
    other, s = copy.deepcopy(module), torch.randn(2, 4, 9, 9, requires_grad=True)
    nn.init.normal_(other.weight)
    at = linearise(module, lambda: s.detach(), {module: other.weight.detach()})
    delta = torch.randn_like(at.value)
    expected = torch.autograd.grad((other(s) * delta).sum(), s)[0]
    below, grads = at.pull(delta)
    assert_close(below, expected)
    assert_close(at.feedback(delta), expected)
    assert_close(grads, linearise(module, lambda: s.detach()).pull(delta)[1])
    assert_close(at.value, module(s))


def test_what_stands_between_weights_keeps_its_own_transpose():
    """Of a convolution, a normalisation, a pooling and a linear map, two have other weights on the way down."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)).eval()
    nn.init.uniform_(model[1].weight, 0.5, 2)
    other = copy.deepcopy(model)
    s = torch.randn(3, 2, 6, 6)
    detours = {model[k]: nn.init.normal_(other[k].weight).detach() for k in (0, 4)}
    delta, leaves = torch.randn(3, 3), [s.clone().requires_grad_()]
    for module in model:
        leaves.append(module(leaves[-1]))
    below = delta
    for k in reversed(range(5)):  # the transpose of every module at the true state, of the weights at the others
        source = other[k] if k in (0, 4) else model[k]
        leaf = leaves[k].detach().requires_grad_()
        below = torch.autograd.grad((source(leaf) * below).sum(), leaf)[0]
    assert_close(linearise(model, lambda: s, detours).feedback(delta), below)


@pytest.mark.parametrize("make", SMOOTH.values(), ids=SMOOTH)
def test_a_path_of_the_transposes_is_no_path(make):
    case = make()
    for rule in (Lagrangian(), DualPropagation(0.3), Dyadic(0.3)):
        ours = rule.estimate(mirrored(case.net), cross_entropy, case.x, case.y)
        theirs = rule.estimate(case.net, cross_entropy, case.x, case.y)
        assert_close(ours.grads, theirs.grads, rtol=1e-12, atol=1e-14)


def test_signs_have_the_size_of_the_largest_entries_that_torch_draws():
    net = laid(SignSymmetric(scale=2.0))
    assert net.feedback is not None
    (second, third) = net.feedback.detours().items()
    assert_close(second[1], torch.sign(net.stages[1].map.weight) * 2 / sqrt(7))
    assert_close(third[1], torch.sign(net.stages[2].map.weight) * 2 / sqrt(6))


def test_signs_follow_the_weights():
    net = laid(SignSymmetric())
    assert net.feedback is not None
    weight = net.stages[1].map.weight
    before = net.feedback.detours()[net.stages[1].map]
    with torch.no_grad():
        weight.neg_()
    assert_close(net.feedback.detours()[net.stages[1].map], -before, rtol=0, atol=0)


def test_the_output_reaches_every_hidden_layer_in_its_own_shape():
    net = laid(DirectFeedback(inputs=(2, 6, 6)), conv_pool())
    weights = feedback_weights(net)
    shapes = [net.stages[0].activation.f(net.stages[0].map(torch.zeros(1, 2, 6, 6))).shape[1:], (4, 1, 1)]
    assert [tuple(B.shape) for B in weights.values()] == [(4, *shape) for shape in shapes]
    error = torch.randn(3, 4)
    for k, B in enumerate(weights.values(), 1):
        expected = torch.stack([sum(e[i] * B[i] for i in range(4)) for e in error])
        assert_close(net.feedback.send(k, error), expected)


# --- what does not change ---


@paths
@networks
def test_a_path_does_not_change_what_a_feedforward_network_computes(path, make):
    case = make()
    net = case.net.with_feedback(on_image(path) if case.x.dim() == 4 else path)
    assert torch.equal(net(case.x), case.net(case.x))
    assert torch.equal(net.relax(case.x).states[-1].mean(), case.net.relax(case.x).states[-1].mean())


@paths
def test_backpropagation_does_not_see_the_path(path):
    case = problem(mlp(), 5)
    grads = Backprop().estimate(case.net.with_feedback(path), cross_entropy, case.x, case.y).grads
    for name, exact in case.exact(cross_entropy).items():
        assert_close(grads[case.parameters[name]], exact)


@layerwise
def test_a_certificate_of_a_feedforward_network_is_that_without_the_path(path):
    net, x = laid(path), torch.randn(1, 5)
    assert certify(net, x) == certify(net.with_feedback(None), x)


# --- how weights are drawn ---


@random_paths
def test_the_same_seed_draws_the_same_weights_and_another_seed_others(path):
    model = mlp()
    one, same = feedback_weights(laid(path, model)), feedback_weights(laid(path, model))
    other = feedback_weights(laid(type(path)(seed=1), model))
    assert list(one) == ["B1", "B2"]
    for name in one:
        assert torch.equal(one[name], same[name])
        assert not torch.isclose(one[name], other[name]).any()


@random_paths
def test_the_global_random_state_has_no_part_and_is_left_alone(path):
    model = mlp()
    random = torch.get_rng_state()
    one = feedback_weights(laid(path, model))
    assert torch.equal(torch.get_rng_state(), random)
    torch.manual_seed(7)
    assert_close(feedback_weights(laid(path, model)), one, rtol=0, atol=0)


def test_layers_have_weights_of_their_own_and_not_those_of_the_map():
    net = laid(RandomFeedback(), mlp())
    square = feedback_weights(laid(RandomFeedback(), nn.Sequential(*[nn.Linear(4, 4), nn.Tanh()] * 2, nn.Linear(4, 4))))
    assert not torch.isclose(square["B1"], square["B2"]).any()
    assert not torch.isclose(feedback_weights(net)["B1"], net.stages[1].map.weight).any()


@random_paths
def test_weights_are_the_same_in_both_precisions_but_for_rounding(path):
    double, single = (feedback_weights(laid(path, mlp().to(dtype))) for dtype in (torch.float64, torch.float32))
    for name, weight in single.items():
        assert weight.dtype == torch.float32
        assert_close(weight, double[name].float(), rtol=0, atol=0)


def test_entries_are_uniform_within_a_bound_that_falls_with_the_fan_in_and_grows_with_the_scale():
    model = nn.Sequential(nn.Linear(3, 400), nn.Tanh(), nn.Linear(400, 300))
    for scale in (1.0, 3.0):
        B = feedback_weights(laid(RandomFeedback(scale), model))["B1"]
        assert B.shape == (300, 400)
        assert scale / 20 * 0.999 < float(B.abs().max()) <= scale / 20
        assert float(B.std()) == pytest.approx(scale / 20 / sqrt(3), rel=0.01)
        assert abs(float(B.mean())) < 1e-3 * scale


def test_kernels_have_the_geometry_and_the_bound_of_those_that_they_stand_in_for():
    weights = feedback_weights(laid(RandomFeedback(), conv_pool()))
    assert {name: tuple(B.shape) for name, B in weights.items()} == {"B1": (4, 3, 3, 3), "B2": (4, 4)}
    assert 0.8 / sqrt(27) < float(weights["B1"].abs().max()) <= 1 / sqrt(27)


def test_direct_feedback_to_the_only_hidden_layer_is_drawn_like_feedback_through_the_output_map():
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
    one, other = laid(RandomFeedback(seed=3), model), laid(DirectFeedback(seed=3), model)
    assert_close(feedback_weights(one), feedback_weights(other), rtol=0, atol=0)


# --- which maps have feedback weights ---


def test_the_lowest_map_has_none_unless_something_learns_below_it():
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Linear(5, 4))
    assert {name: tuple(B.shape) for name, B in feedback_weights(laid(RandomFeedback(), model)).items()} == {
        "B0": (5, 5),
        "B1": (5, 5),
        "B1_1": (4, 5),
    }
    normalised = nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 4))
    assert list(feedback_weights(laid(RandomFeedback(), normalised))) == ["B0", "B1"]


@layerwise
def test_weights_are_also_replaced_within_a_map(path):
    """Two linear maps without an activation between them: the lower one learns by the feedback weight of the upper."""
    model = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 4))
    net, x, y = laid(path, model), torch.randn(3, 5), torch.tensor([0, 1, 2])
    assert net.feedback is not None
    error = (torch.softmax(model(x), 1) - torch.eye(4)[y]) / 3
    grads = Lagrangian().estimate(net, cross_entropy, x, y).grads
    assert_close(grads[model[0].weight], (error @ net.feedback.detours()[model[1]]).T @ x)


@pytest.mark.parametrize("path", [RandomFeedback(), KolenPollack()], ids=["random", "kolen-pollack"])
def test_maps_that_share_a_weight_share_the_one_on_the_way_down(path):
    lower, upper = nn.Linear(5, 5), nn.Linear(5, 5)
    upper.weight = lower.weight
    model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), lower, nn.Tanh(), upper, nn.Tanh(), nn.Linear(5, 4))
    net = laid(path, model)
    assert list(feedback_weights(net)) == ["B1", "B3"]
    assert net.feedback is not None
    assert net.feedback.detours()[lower] is net.feedback.detours()[upper]


@layerwise
def test_normalisations_need_no_feedback_weights(path):
    net = laid(path, normed())
    assert net.feedback is not None
    linear = [m for stage in net.stages[1:] for m in modules_of(stage.map) if isinstance(m, nn.Linear)]
    assert list(net.feedback.detours()) == linear


class Block(nn.Module):
    """A branch around a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


@paths
@pytest.mark.parametrize(
    "module",
    [
        Block(),
        nn.Bilinear(5, 5, 5),
        nn.Conv1d(5, 5, 1),
        nn.Conv2d(5, 5, 3, padding="same"),
        nn.ConvTranspose2d(5, 5, 1),
    ],
    ids=lambda module: type(module).__name__,
)
def test_maps_with_weights_that_cannot_be_replaced_are_refused_by_name(path, module):
    model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), module, nn.Tanh(), nn.Linear(5, 4))
    with pytest.raises(TypeError, match=rf"2 {type(module).__name__}: no feedback weights can stand in for those of"):
        laid(path, model)


def test_direct_feedback_does_not_reach_within_a_map():
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 4))
    with pytest.raises(TypeError, match=r"2 Linear learns below a weight of its own map.*put an activation between"):
        laid(DirectFeedback(), model)


def test_direct_feedback_needs_the_shape_of_images():
    with pytest.raises(ValueError, match=r"needs the shape of an input here: inputs=\(channels, height, width\)"):
        laid(DirectFeedback(), conv_pool())
    with pytest.raises(ValueError, match=r"6 Linear cannot take states of shape"):
        laid(DirectFeedback(inputs=(2, 20, 20)), conv_pool())


def test_finding_the_shapes_leaves_the_model_alone():
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(), nn.Linear(6, 4)).train()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    laid(DirectFeedback(), model)
    assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
@paths
def test_scales_that_are_none_are_refused(path, scale: float):
    with pytest.raises(ValueError, match="feedback: scale must be a positive number"):
        type(path)(scale)


# --- weights computed by devices and hooks ---


def test_a_weight_that_is_computed_is_left_through_the_other_one():
    model = mlp()
    parametrizations.weight_norm(model[2])
    case = problem(model, 5)
    exact = case.exact(cross_entropy)
    found = Lagrangian().estimate(mirrored(case.net), cross_entropy, case.x, case.y).grads
    assert_close({name: found[case.parameters[name]] for name in exact}, exact)
    random = Lagrangian().estimate(case.net.with_feedback(RandomFeedback()), cross_entropy, case.x, case.y).grads
    assert float((random[model[0].weight] - exact["0.weight"]).norm()) > 0.1 * float(exact["0.weight"].norm())


def test_kolen_pollack_cannot_learn_like_a_weight_that_is_computed():
    model = mlp()
    parametrizations.weight_norm(model[2])
    with pytest.raises(TypeError, match=r"2 Parametrized\w*Linear computes its weight"):
        laid(KolenPollack(), model)


# --- Kolen-Pollack ---


def test_learned_feedback_weights_get_the_gradient_of_those_that_they_stand_in_for():
    net = laid(KolenPollack(), conv_pool())
    x, y = torch.randn(4, 2, 6, 6), torch.tensor([0, 1, 2, 3])
    named = dict(net.named_parameters())
    for rule in (Lagrangian(), DualPropagation(), Dyadic(0.3)):
        grads = rule.estimate(net, cross_entropy, x, y).grads
        assert set(grads) == set(net.parameters())
        for weight, B in (("3.weight", "feedback.B1"), ("6.weight", "feedback.B2")):
            assert torch.equal(grads[named[weight]], grads[named[B]])
            assert grads[named[weight]].data_ptr() != grads[named[B]].data_ptr()


@pytest.mark.parametrize("apart", [True, False], ids=["two modules", "one module"])
def test_weights_that_the_lowest_map_shares_learn_what_they_learn_there_too(apart):
    lowest, above = nn.Linear(5, 5), nn.Linear(5, 5)
    above.weight = lowest.weight
    model = nn.Sequential(lowest, nn.Tanh(), above if apart else lowest, nn.Tanh(), nn.Linear(5, 3))
    net = laid(KolenPollack(), model)
    grads = Lagrangian().estimate(net, cross_entropy, torch.randn(4, 5), torch.tensor([0, 1, 2, 0])).grads
    assert_close(grads[net.feedback.B1], grads[lowest.weight])


def test_they_get_none_while_those_are_frozen():
    net = laid(KolenPollack())
    net.stages[1].map.weight.requires_grad_(False)
    grads = Lagrangian().estimate(net, cross_entropy, torch.randn(4, 5), torch.tensor([0, 1, 2, 3])).grads
    assert grads[net.feedback.B1].eq(0).all()
    assert grads[net.feedback.B2].ne(0).any()


# --- how weights are kept ---


@paths
def test_the_network_holds_what_it_saves_and_the_model_nothing_more(path):
    model = mlp()
    net = laid(path, model)
    learned = {name for name, _ in net.named_parameters() if name.startswith("feedback")}
    saved = {name for name in net.state_dict() if name.startswith("feedback")}
    assert learned == ({"feedback.B1", "feedback.B2"} if isinstance(path, KolenPollack) else set())
    assert saved == (set() if isinstance(path, SignSymmetric) else {"feedback.B1", "feedback.B2"})
    assert set(net.state_dict()) - saved == set(model.state_dict())


@random_paths
def test_feedback_weights_are_restored_with_the_network(path):
    net, other = laid(path), laid(type(path)(seed=5))
    other.load_state_dict(net.state_dict())
    assert_close(feedback_weights(other), feedback_weights(net), rtol=0, atol=0)
    x, y = torch.randn(4, 5), torch.tensor([0, 1, 2, 3])
    ours, theirs = (Lagrangian().estimate(n, cross_entropy, x, y).grads for n in (net, other))
    assert_close(list(ours.values()), list(theirs.values()), rtol=0, atol=0)


@paths
def test_they_follow_the_network_to_another_dtype_and_into_a_copy(path):
    net = laid(path).float()
    assert all(weight.dtype == torch.float32 for weight in net.state_dict().values())
    twin = copy.deepcopy(net)
    x, y = torch.randn(4, 5, dtype=torch.float32), torch.tensor([0, 1, 2, 3])
    before = Lagrangian().estimate(net, cross_entropy, x, y).grads
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    after = Lagrangian().estimate(twin, cross_entropy, x, y).grads
    assert_close(list(before.values()), list(after.values()), rtol=0, atol=0)


@layerwise
def test_the_same_feedback_weights_serve_under_another_lam(path):
    net = laid(path)
    assert net.with_lam(0.75).feedback is net.feedback
    assert net.with_feedback(None).feedback is None
    assert list(net.with_feedback(None).state_dict()) == list(mlp().state_dict())


def test_a_model_with_a_module_of_the_name_is_refused():
    model = nn.Sequential()
    model.add_module("feedback", nn.Linear(5, 4))
    with pytest.raises(TypeError, match="the model has a module named feedback"):
        Layered.from_sequential(model)


# --- networks with loops ---

TIGHT = Relaxation(stop=Residual(1e-13, 2000), strict=True)


@pytest.mark.parametrize("lam", [0.0, 0.25, 0.6, 1.0])
def test_means_that_travel_down_take_the_path(lam: float):
    """The equilibrium is that of `W = theta + c B`, by fixed-point iteration in NumPy."""
    torch.manual_seed(3)
    net = Layered.from_sequential(mlp(), lam, relaxation=TIGHT, feedback=RandomFeedback())
    W, b = zip(
        *((stage.map.weight.detach().numpy(), stage.map.bias.detach().numpy()) for stage in net.stages), strict=True
    )
    B, c, x = [weight.numpy() for weight in feedback_weights(net).values()], 2 * lam - 1, torch.randn(5)
    s1, s2, s3 = np.zeros(7), np.zeros(6), np.zeros(4)
    for _ in range(2000):
        s1 = 0.5 * s1 + 0.5 * np.tanh(W[0] @ x.numpy() + b[0] + c * B[0].T @ s2)
        s2 = 0.5 * s2 + 0.5 * np.tanh(W[1] @ s1 + b[1] + c * B[1].T @ s3)
        s3 = 0.5 * s3 + 0.5 * (W[2] @ s2 + b[2])
    assert_close(net(x[None])[0], torch.tensor(s3))


@pytest.mark.parametrize("lam", [0.0, 0.25, 0.75, 1.0])
@pytest.mark.parametrize("form", ["joint", "auto"])
def test_dyads_along_a_path_of_the_transposes_are_those_without_one(lam: float, form):
    model = mlp()
    with torch.no_grad():
        for stage in (model[2], model[4]):
            stage.weight *= 0.5
    net = Layered.from_sequential(model, lam, relaxation=TIGHT)
    x, y = torch.randn(3, 5), torch.tensor([0, 1, 2])
    ours = Dyadic(0.3, form).estimate(mirrored(net), cross_entropy, x, y).grads
    assert_close(ours, Dyadic(0.3, form).estimate(net, cross_entropy, x, y).grads, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_dyads_along_a_random_path_decouple_as_they_do_without(lam: float):
    net = Layered.from_sequential(mlp(), lam, relaxation=TIGHT, feedback=KolenPollack(seed=2))
    x, y = torch.randn(3, 5), torch.tensor([0, 1, 2])
    joint, phases = (Dyadic(0.3, form).estimate(net, cross_entropy, x, y).grads for form in ("joint", "two-phase"))
    assert_close(joint, phases, rtol=1e-8, atol=1e-10)


def test_there_is_no_energy_no_certificate_and_no_exact_gradient_along_a_path():
    net, x, y = laid(RandomFeedback()).with_lam(0.75), torch.randn(3, 5), torch.tensor([0, 1, 2])
    assert "feedback through weights of its own has no energy" in str(net.energy_missing())
    with pytest.raises(ValueError, match="no certificate exists where means travel down through weights of their own"):
        certify(net, x)
    with pytest.raises(
        ValueError, match=r"RecurrentBackprop sends errors through the transpose: take net.with_feedback"
    ):
        RecurrentBackprop().estimate(net, cross_entropy, x, y)
    with pytest.raises(TypeError, match=r"no feedback path: take net.with_feedback\(None\)"):
        Dense.from_layered(net)


def test_direct_feedback_is_for_feedforward_chains():
    with pytest.raises(ValueError, match=r"direct feedback is for feedforward chains, lam=0.5, not 0.75"):
        laid(DirectFeedback()).with_lam(0.75)
