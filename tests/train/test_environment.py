"""What a result was computed with."""

import json

import pytest
import torch

from dyadnet.train.environment import commit, environment


def test_an_environment_is_plain_and_complete():
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["device"] == "cpu"
    assert all(str(value) for value in found.values())


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert commit() == "unknown"
