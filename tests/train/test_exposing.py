"""What the networks of runs withstand: measured once, in the box that their data lie in."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from dyadnet.data import Dataset, Split
from dyadnet.train import folder
from dyadnet.train.compare import Comparison, compare
from dyadnet.train.exposing import box, exposed, limits
from dyadnet.train.run import Request, execute
from dyadnet.train.settings import Settings

RequestFor = Callable[..., Request]


def ran(request: Request, path: Path, dataset: Dataset) -> Path:
    folder.create(path, request.config())
    execute(request, path, dataset)
    return path


@pytest.mark.parametrize(
    ("rule", "changes"),
    [("backprop", {"normalise": True}), ("dyadic", {"tolerance": 1e-2}), ("backprop", {"binary": "ste"})],
)
def test_a_run_is_measured_once_and_kept(tmp_path: Path, dataset: Dataset, request_for: RequestFor, rule, changes):
    request = request_for(rule, epochs=1, **changes)
    path = ran(request, tmp_path / "run", dataset)
    found = exposed(request, path, dataset, 20)
    assert (found["samples"], found["looked_at"], found["normalised"]) == (20, 20, "normalise" in changes)
    assert {trial["kind"] for trial in found["trials"]} >= {"fast gradient", "inputs", "weights"}
    assert found["lipschitz"]["pairs"] <= found["lipschitz"]["bound"]
    written = (path / folder.EXPOSURE).stat().st_mtime_ns
    assert exposed(request, path, dataset, 20) == found
    assert (path / folder.EXPOSURE).stat().st_mtime_ns == written
    folder.check(path, overwrite=True)  # the file is the run's own


def test_binary_weights_are_measured_as_they_are_shipped(tmp_path: Path, dataset: Dataset, request_for: RequestFor):
    request = request_for("backprop", epochs=1, binary="ste", hidden=(3,))
    found = exposed(request, ran(request, tmp_path, dataset), dataset, 45)
    assert found["accuracy"] == pytest.approx(folder.read_json(tmp_path / folder.RESULT)["test_accuracy"])
    bound = found["lipschitz"]["bound"]
    assert 8 <= bound**2 <= 24 * 9  # of 3 x 8 and 3 x 3 signs, none of which is small


@pytest.mark.parametrize("normalise", [False, True])
def test_the_box_of_images_in_bytes_goes_from_black_to_white(normalise: bool):
    images = torch.randint(50, 200, (6, 2, 3, 3), dtype=torch.uint8)
    split = Split(images, torch.arange(6) % 3)
    bytes_ = Dataset("bytes", split, split, 3, (2, 3, 3), 255.0, (0.25, 0.5), (0.5, 0.2))
    x = torch.zeros(4, 2, 3, 3)
    found = box(bytes_, x, normalise=normalise)
    mean, std = (torch.tensor([[[a]], [[b]]]) for a, b in ((0.25, 0.5), (0.5, 0.2)))
    ends = [((end - mean) / std if normalise else torch.tensor(end)).expand(1, 2, 3, 3) for end in (0.0, 1.0)]
    assert_close([found.low, found.high, found.unit], [*ends, ends[1] - ends[0]])


def test_the_box_of_floats_is_their_range(dataset: Dataset):
    moved = replace(dataset, test=Split(dataset.test.images - 3, dataset.test.labels))
    assert limits(moved) == (-3.0, 1.0)
    assert torch.equal(torch.as_tensor(box(moved, torch.zeros(2, 8), normalise=False).unit), torch.full((1, 8), 4.0))


def test_a_comparison_keeps_what_its_networks_withstand(tmp_path: Path, dataset: Dataset):
    settings = Settings(hidden=(4,), epochs=1, batch_size=26, align_samples=20)
    asked = Comparison(("backprop",), (0, 1), settings, audit=True, audit_samples=10)
    folder.create(tmp_path / "compared", asked.config())
    records = compare(asked, tmp_path / "compared", dataset)
    assert [record["exposure"]["samples"] for record in records] == [10, 10]
    assert records[0]["exposure"] != records[1]["exposure"]
    again = compare(asked, tmp_path / "compared", dataset)
    assert [record["exposure"] for record in again] == [record["exposure"] for record in records]
