"""A rehearsal refuses what could only fail later, and changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dyadnet.data import DataError, Dataset
from dyadnet.names import RequestError
from dyadnet.train.rehearsal import rehearse
from dyadnet.train.run import Request


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"network": "cnn"}, "cannot train cnn on digits with adam: convolutions need images"),
        ({"network": "vgg16"}, "convolutions need images"),
        ({"rule": "dual-propagation:schedule=bottom-up,passes=1"}, "needs 2 passes"),
        ({"rule": "dual-propagation:passes=0"}, "needs 1 passes"),
        ({"rule": "dual-propagation:beta=9,output=sprovr"}, "take a smaller beta"),
        ({"rule": "dual-propagation:variant=stabilised", "activation": "gelu"}, "needs monotone activations"),
        (
            {"rule": "equilibrium-propagation", "lam": 0.0},
            "hopfield on digits with adam: .*lam=0 has no energy: take lam",
        ),
        ({"rule": "contrastive-hebbian", "network": "mlp"}, "cannot train mlp .*lam=0.5 has no energy: take lam above"),
        ({"rule": "coupled-learning", "network": "dense", "structure": "skew"}, "no energy: use Dyadic, or structure="),
        ({"rule": "coupled-learning", "activation": "gelu"}, "not monotone"),
        (
            {"rule": "backprop", "network": "hopfield"},
            "lam=0 has loops, .* use Dyadic or RecurrentBackprop, or lam=0.5",
        ),
        ({"rule": "lagrangian", "network": "dense"}, "a densely connected network has loops"),
        ({"rule": "dyadic:form=two-phase", "lam": 0.25}, "use form='joint'"),
        ({"rule": "equilibrium-propagation:beta=3"}, "take a smaller beta"),
        ({"rule": "dyadic", "network": "dense", "hidden": ()}, "cannot have 3 outputs and hidden units besides"),
        ({"rule": "dyadic", "order": "chaos"}, "there is no order 'chaos'"),
        ({"rule": "dyadic", "solver": "damped:factor=3"}, r"the factor must lie in \(0, 2\)"),
        ({"optimizer": "sparse-adam"}, "does not support dense gradients"),
        ({"optimizer": "muon"}, "muon: .*2D"),
        ({"optimizer": "adam:capturable=true"}, "capturable"),
        ({"device": "abacus"}, "there is no device 'abacus'"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    dataset: Dataset, request_for: Callable[..., Request], changes: dict[str, Any], told: str
):
    with pytest.raises(RequestError, match=told) as refusal:
        rehearse(request_for(**changes), dataset)
    assert "\n" not in str(refusal.value)


def test_samples_that_are_no_images_are_not_augmented(dataset: Dataset, request_for: Callable[..., Request]):
    with pytest.raises(DataError, match="are no images"):
        rehearse(request_for(augment=True), dataset)


def test_a_missing_tensorboard_is_told_before_it_is_needed(
    dataset: Dataset, request_for: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(RequestError, match="pip install tensorboard"):
        rehearse(request_for(tensorboard=True), dataset)


def test_a_good_request_passes_and_the_data_stay_as_they_are(dataset: Dataset, request_for: Callable[..., Request]):
    before = dataset.train.images.clone()
    rehearse(request_for("dual-propagation:schedule=random-order", carry_states=True), dataset)
    assert torch.equal(dataset.train.images, before)
