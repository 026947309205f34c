"""Traces: tensors are found again on whatever device they were."""

import torch
from torch import nn

from dyadnet import Backprop, Layered, squared_error
from dyadnet.audit.replay import ancestors, replay
from dyadnet.audit.trace import record, ref


def test_a_window_onto_a_storage_that_is_not_on_the_cpu_is_on_its_device():
    whole = torch.ones(3, 4, dtype=torch.float32, device="meta")
    part = whole.T[1:]
    found = ref(part).on({ref(part).storage: whole.untyped_storage()})
    assert (found.device, found.dtype) == (whole.device, whole.dtype)
    assert (found.shape, found.stride(), found.storage_offset()) == (part.shape, part.stride(), part.storage_offset())


def test_a_step_on_another_device_is_run_again_there():
    net = Layered.from_sequential(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).to("meta"))
    x, y = torch.rand(2, 5, device="meta"), torch.rand(2, 3, device="meta")
    step, trace = record(lambda: Backprop().estimate(net, squared_error, x, y))
    for grad in step.grads.values():
        again = ref(grad).on(replay(trace, ancestors(trace, [ref(grad)])))
        assert (again.device, again.shape) == (grad.device, grad.shape)
