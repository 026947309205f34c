"""Settings: what they refuse, and that they come back from JSON as they were."""

import dataclasses
import json
from math import inf, nan
from typing import Any

import pytest

from dyadnet.names import RequestError
from dyadnet.train.settings import Settings, from_dict


def test_settings_come_back_from_json_as_they_were():
    settings = Settings(hidden=(3, 4), clip=1.5, augment=True, data_root="here", decay_epochs=7)
    assert from_dict(json.loads(json.dumps(dataclasses.asdict(settings)))) == settings
    assert from_dict({}) == Settings()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"epochs": 2.5}, "epochs must be a whole number, not 2.5"),
        ({"epochs": "3"}, "epochs must be a whole number, not '3'"),
        ({"epochs": True}, "epochs must be a whole number, not True"),
        ({"batch_size": -1}, "batch-size must be at least 1"),
        ({"learning_rate": 0.0}, "learning-rate must be a positive number"),
        ({"learning_rate": nan}, "learning-rate must be a positive number"),
        ({"learning_rate": inf}, "learning-rate must be a positive number"),
        ({"clip": 0.0}, "clip must be a positive number"),
        ({"clip": "1"}, "clip must be a number or nothing, not '1'"),
        ({"warmup_epochs": -1.0}, "warmup-epochs must be zero or a positive number"),
        ({"warmup_start": nan}, "warmup-start must be zero or a positive number"),
        ({"warmup_epochs": 20}, "warmup-epochs must be below 20, where the cosine ends"),
        ({"warmup_epochs": 5, "decay_epochs": 4}, "warmup-epochs must be below 4"),
        ({"hidden": (8, 0)}, "hidden must hold positive widths"),
        ({"hidden": 8}, "hidden must be a list of whole numbers, not 8"),
        ({"hidden": ("8",)}, "hidden must be a list of whole numbers"),
        (
            {"network": "resnet"},
            "network must be mlp or cnn or vgg or vgg16 or resnet18 or hopfield or lifted or dense or resistive or "
            "nothing, not 'resnet'",
        ),
        ({"network": ["mlp"]}, "network must be mlp"),
        ({"pretrain_epochs": 20}, "pretrain-epochs must lie in [0, 20), not 20"),
        ({"output_gain": 0.0}, "output-gain must be a positive number, not 0.0"),
        ({"lam": 1.5}, "lam must lie in [0, 1], not 1.5"),
        ({"lam": "1"}, "lam must be a number or nothing, not '1'"),
        ({"structure": "ring"}, "structure must be free or lower or symmetric or skew or interpolated or nothing"),
        ({"tolerance": 0.0}, "tolerance must be a positive number, not 0.0"),
        ({"most_passes": 0}, "most-passes must be at least 1, not 0"),
        ({"iterations": 0}, "iterations must be at least 1, not 0"),
        ({"iterations": 3, "most_passes": 5}, "iterations makes a fixed number of passes: leave most-passes out"),
        ({"augment": "yes"}, "augment must be true or false"),
        ({"dataset": None}, "dataset must be text, not None"),
        ({"hiden": [8]}, "'hiden' is not a setting"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(changes: dict[str, Any], told: str):
    with pytest.raises(RequestError) as refusal:
        from_dict(changes)
    assert told in str(refusal.value)


def test_a_whole_number_will_do_for_a_number():
    assert from_dict({"learning_rate": 1, "clip": 2}).learning_rate == 1


def test_a_constant_rate_may_rise_all_the_time():
    assert Settings(decay="constant", warmup_epochs=20, epochs=20).warmup_epochs == 20
