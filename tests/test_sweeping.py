"""The command `robustness` as a process: what ends it."""

import os
import signal

import pytest

from dyadnet.sweeping import ended_as_interrupted


def ended() -> None:
    with ended_as_interrupted():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()


def test_a_request_to_end_is_an_interruption_while_a_sweep_runs() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        ended()
    assert signal.getsignal(signal.SIGTERM) is before
