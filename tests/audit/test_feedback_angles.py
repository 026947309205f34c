"""The angle of feedback weights: on hand-made weights whose angle is known."""

import pytest
import torch
from cases import conv_pool, mirrored, mlp
from torch import nn

from dyadnet import Layered
from dyadnet.audit.feedback_angles import feedback_angles
from dyadnet.network.feedback import DirectFeedback, KolenPollack, RandomFeedback, SignSymmetric


def set_to(tensor: torch.Tensor, values: list) -> None:
    with torch.no_grad():
        tensor.copy_(torch.tensor(values))


def two_maps() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    set_to(model[2].weight, [[3.0, 0.0], [0.0, 4.0]])
    set_to(model[4].weight, [[0.0, 1.0], [0.0, 0.0]])
    return model


@pytest.mark.parametrize("path", [RandomFeedback(), KolenPollack()], ids=["random", "kolen-pollack"])
def test_angles_are_those_between_the_weights_as_long_vectors(path):
    net = Layered.from_sequential(two_maps(), feedback=path)
    set_to(net.feedback.B1, [[4.0, 0.0], [0.0, 3.0]])
    set_to(net.feedback.B2, [[0.0, -2.0], [0.0, 0.0]])
    assert feedback_angles(net) == pytest.approx([16.26020470831196, 180.0])  # arccos(24/25)


def test_the_angle_of_signs_is_that_to_the_signs():
    net = Layered.from_sequential(two_maps(), feedback=SignSymmetric())
    assert feedback_angles(net) == pytest.approx([8.130102354155978, 0.0], abs=1e-6)  # arccos(7 / (5 sqrt 2))


def test_mirrored_weights_have_none():
    net = mirrored(Layered.from_sequential(conv_pool()))
    assert feedback_angles(net) == pytest.approx([0.0, 0.0], abs=1e-5)


def test_random_weights_are_nearly_orthogonal():
    net = Layered.from_sequential(
        nn.Sequential(nn.Linear(9, 100), nn.Tanh(), nn.Linear(100, 100), nn.Tanh(), nn.Linear(100, 100)),
        feedback=RandomFeedback(),
    )
    assert feedback_angles(net) == pytest.approx([90.0, 90.0], abs=2)


def test_direct_feedback_is_compared_with_the_product_of_all_transposes():
    net = Layered.from_sequential(two_maps(), feedback=DirectFeedback())
    set_to(net.feedback.B2, [[0.0, 1.0], [0.0, 1.0]])  # W_2 is 0 1, 0 0
    set_to(net.feedback.B1, [[0.0, 2.0], [0.0, 0.0]])  # W_2 W_1 is 0 4, 0 0
    assert feedback_angles(net) == pytest.approx([0.0, 45.0], abs=1e-6)


def test_direct_feedback_to_convolutions_is_compared_as_well():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten())
    model.append(nn.Linear(3, 2))
    net = Layered.from_sequential(model, feedback=DirectFeedback(inputs=(1, 6, 6)))
    a = torch.zeros(1, 2, 4, 4, requires_grad=True)  # through the maps alone, the activations left out
    out = model[6](model[5](model[3](model[2](a))))
    rows = [torch.autograd.grad(out[0, i], a, retain_graph=True)[0][0] for i in range(2)]
    with torch.no_grad():
        net.feedback.B1.copy_(torch.stack(rows))
        net.feedback.B2.copy_(-model[6].weight.view(2, 3, 1, 1))
    assert feedback_angles(net) == pytest.approx([0.0, 180.0], abs=1e-5)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="it has no feedback weights"):
        feedback_angles(Layered.from_sequential(mlp()))
    with pytest.raises(ValueError, match="where all maps are affine"):
        feedback_angles(Layered.from_sequential(conv_pool(), feedback=DirectFeedback(inputs=(2, 6, 6))))


def test_a_network_without_hidden_layers_has_no_angles():
    for path in (RandomFeedback(), DirectFeedback()):
        assert feedback_angles(Layered.from_sequential(nn.Sequential(nn.Linear(3, 2)), feedback=path)) == []
