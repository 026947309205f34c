"""Training: a network, a rule and an optimiser over epochs, so that a resumed run equals an unbroken one."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from dyadnet import data, names
from dyadnet.audit.alignment import alignment
from dyadnet.audit.feedback_angles import feedback_angles
from dyadnet.binary import diagnostics
from dyadnet.binary.course import Course
from dyadnet.binary.optimizer import BinaryOptimizer
from dyadnet.binary.statistics import reestimated
from dyadnet.hardware.chip import Chip
from dyadnet.loss import AbstractLoss
from dyadnet.network.base import AbstractNetwork
from dyadnet.network.feedback import Straight
from dyadnet.network.layered import Layered
from dyadnet.network.state import States
from dyadnet.relax.relaxation import Relaxation, Solution
from dyadnet.rule.base import AbstractRule, Estimate
from dyadnet.rule.lrrn import LRRN
from dyadnet.train.environment import pick_device
from dyadnet.train.on_hardware import installed, judged
from dyadnet.train.optimizing import make_optimizer, rate_factor
from dyadnet.train.plan import Plan, choose, make, tolerance
from dyadnet.train.settings import Settings
from dyadnet.train.settling import Tally, counted, finite, unsettled

Metrics = dict[str, Any]
Tick = Callable[[int, int, float], None]
"""Called now and then within an epoch with `(step, steps, mean loss so far)`."""
Relaxed = Callable[[Metrics], None]
"""Called ahead of a tick with what the relaxations of the epoch took and left so far, where there are any."""

_STATISTICS, _BATCHES = 500, 10  # samples of a batch, and batches, that statistics are estimated from
_LOOK_EVERY = 25  # steps between two looks at the loss: on an accelerator each look waits for the device


class Diverged(RuntimeError):
    """The loss is no longer a number."""


@dataclass
class Training:
    """A run under way. Everything that the next step depends on is in `state`."""

    settings: Settings
    dataset: data.Dataset
    plan: Plan
    net: AbstractNetwork
    rule: AbstractRule
    relaxation: Relaxation | None
    loss: AbstractLoss
    optimizer: torch.optim.Optimizer
    rates: torch.optim.lr_scheduler.LambdaLR
    order: torch.Generator
    rule_generator: torch.Generator
    history: list[Metrics] = field(default_factory=list)
    chip: Chip | None = None

    @property
    def steps(self) -> int:
        """The number of steps of an epoch."""
        return math.ceil(len(self.dataset.train) / self.settings.batch_size)

    @property
    def current_rule(self) -> AbstractRule:
        """The rule of the epoch that comes next: while a lifted network is pre-trained, it learns without labels."""
        if len(self.history) >= (self.settings.pretrain_epochs or 0):
            return self.rule
        assert isinstance(self.rule, LRRN)
        return replace(self.rule, beta=None, supervised=False)

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return next(self.net.parameters()).device

    def state(self) -> dict[str, Any]:
        """Return everything that resuming needs, as tensors and plain values."""
        return {
            "model": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rates": self.rates.state_dict(),
            "order": self.order.get_state(),
            "rule_generator": self.rule_generator.get_state(),
            "global": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "history": self.history,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken."""
        self.net.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rates.load_state_dict(state["rates"])
        self.order.set_state(state["order"])
        self.rule_generator.set_state(state["rule_generator"])
        torch.set_rng_state(state["global"])
        if state["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)
        self.history = state["history"]


def prepare(settings: Settings, rule: str, seed: int, dataset: data.Dataset) -> Training:
    """Set up a run; the seed decides the weights, the order of the samples and the rule's own randomness.

    Raises:
        RequestError: for a rule, an optimiser or a device that is not to be had.
        ValueError: if the network cannot take samples of the data's shape.
    """
    torch.manual_seed(seed)
    device = pick_device(settings.device)
    named = names.rule(rule)
    plan = choose(settings, named)
    net, made, relaxation = make(plan, settings, named, dataset.shape, dataset.classes)
    net = net.to(device)
    steps, last = math.ceil(len(dataset.train) / settings.batch_size), len(dataset.train) % settings.batch_size
    if settings.batch_norm and 1 in (last, settings.batch_size):
        raise names.RequestError("batch-norm cannot normalise a last batch of one sample: take another batch-size")
    course = Course(settings.epochs * steps, steps, len(dataset.train))
    optimizer = make_optimizer(net, settings, course, seed)
    training = Training(
        settings,
        data.resident(dataset, device),
        plan,
        net,
        made,
        relaxation,
        names.loss(plan.loss),
        optimizer,
        torch.optim.lr_scheduler.LambdaLR(optimizer, rate_factor(settings, steps)),
        order=torch.Generator().manual_seed(seed),
        rule_generator=torch.Generator().manual_seed(seed),
    )
    return installed(training, seed, *first_batch(training, settings.batch_size))


def training_batches(training: Training) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the batches of the next epoch, shuffled, and augmented where that is asked for."""
    settings = training.settings
    return data.batches(
        training.dataset,
        training.dataset.train,
        settings.batch_size,
        generator=training.order,
        augment=settings.augment,
        normalise=settings.normalise,
    )


def step(training: Training, x: Tensor, y: Tensor, states: States | None = None) -> Estimate:
    """Update the weights once; `states` of a batch of another size are not used."""
    settings = training.settings
    training.optimizer.zero_grad()
    with counted(), torch.autocast(training.device.type, torch.bfloat16, enabled=settings.bf16):
        estimate = training.current_rule.backward(
            training.net,
            training.loss,
            x,
            y,
            states=states if states is not None and len(states[-1].mean()) == len(x) else None,
            generator=training.rule_generator,
            keep_states=settings.carry_states,
        )
    if settings.clip is not None:
        nn.utils.clip_grad_norm_(training.net.parameters(), settings.clip)
    training.optimizer.step()
    training.net.project_()
    training.rates.step()
    return estimate


def train_epoch(
    training: Training, tick: Tick = lambda step, steps, loss: None, relaxed: Relaxed = lambda metrics: None
) -> Metrics:
    """Train for one epoch, measure, and append the metrics to the history.

    Raises:
        Diverged: if the loss stops being a finite number; the history is left as it was.
    """
    settings, epoch = training.settings, len(training.history) + 1
    rate, before, start = training.optimizer.param_groups[0]["lr"], _signs(training), time.perf_counter()
    loss, accuracy, tally = _pass(training, epoch, tick, relaxed)
    seconds = time.perf_counter() - start
    metrics: Metrics = {"epoch": epoch, "train_loss": loss, "train_accuracy": accuracy}
    with final_weights(training):
        tested = evaluate(training)
        if not math.isfinite(tested["loss"]):
            raise Diverged(f"the test loss became {tested['loss']} after epoch {epoch}")
        metrics |= {f"test_{name}": value for name, value in tested.items()}
        if training.dataset.validation is not None:
            held_out = evaluate(training, training.dataset.validation)
            metrics |= {f"validation_{name}": value for name, value in held_out.items()}
    metrics |= tally.metrics() | _latents(training, before)
    metrics |= {"saturated": training.chip.saturated()} if training.chip else {}
    metrics |= {"learning_rate": rate, "seconds": seconds, "step_ms": 1e3 * seconds / training.steps}
    if settings.align_every and (epoch % settings.align_every == 0 or epoch == settings.epochs):
        metrics |= agreement(training)
    metrics |= _angles(training.net)
    training.history = [*training.history, metrics]
    return metrics


def _pass(
    training: Training, epoch: int, tick: Tick, relaxed: Relaxed = lambda metrics: None
) -> tuple[float, float, Tally]:
    """See the training set once; return mean loss and accuracy as the samples were met, and how states settled."""
    training.net.train()
    total, right, seen = torch.zeros((), device=training.device), torch.zeros((), device=training.device), 0
    states, tally = None, Tally(tolerance(training.settings, training.relaxation))
    for number, (x, y) in enumerate(training_batches(training), 1):
        estimate = step(training, x, y, states)
        states = estimate.states if training.settings.carry_states else None
        tally.add(estimate.solution)
        total += estimate.loss * len(x)
        right += (estimate.output.argmax(1) == y).sum()
        seen += len(x)
        if number % _LOOK_EVERY == 0 or number == training.steps:
            mean = total.item() / seen
            if not math.isfinite(mean):
                raise Diverged(f"the loss became {mean} in epoch {epoch}, by step {number}")
            if tally.steps:
                relaxed(tally.metrics())
            tick(number, training.steps, mean)
    return total.item() / seen, right.item() / seen, tally


@contextmanager
def final_weights(training: Training) -> Iterator[None]:
    """Put in place what a run is to be judged by: binary weights, and batch statistics that are theirs.

    These are taken from training samples that are not augmented, always the same. Afterwards all is as it was.
    """
    if not isinstance(training.optimizer, BinaryOptimizer):
        yield
        return
    settings, split = training.settings, training.dataset.train
    inputs = (x for x, _ in data.batches(training.dataset, split, _STATISTICS, normalise=settings.normalise))
    with training.optimizer.binarized(), reestimated(training.net, islice(inputs, _BATCHES)):
        yield


def _signs(training: Training) -> Sequence[Tensor]:
    """The signs of binary weights, where there are any."""
    return diagnostics.signs(training.optimizer) if isinstance(training.optimizer, BinaryOptimizer) else []


def _latents(training: Training, before: Sequence[Tensor]) -> Metrics:
    """Say what the epoch did to binary weights, where there are any."""
    optimizer = training.optimizer
    if not isinstance(optimizer, BinaryOptimizer):
        return {}
    training.net.eval()
    x, y = first_batch(training, training.settings.batch_size)
    grads = training.current_rule.estimate(training.net, training.loss, x, y, keep_states=False).grads
    return {
        "flipped": diagnostics.flipped(optimizer, before),
        "multiplied": diagnostics.active(optimizer, grads),
        "latents": diagnostics.histogram(optimizer),
    }


@torch.no_grad()
def evaluate(training: Training, split: data.Split | None = None) -> dict[str, float]:
    """Return loss and accuracy on a split, by default the test split.

    Where the states have to relax, also the share of samples that have not settled.
    """
    training.net.eval()
    split, total, right, missing = split or training.dataset.test, 0.0, 0, 0
    with judged(training) as net:
        for x, y in data.batches(training.dataset, split, 1000, normalise=training.settings.normalise):
            output, solution = _predict(net, x)
            total += training.loss(output, y).sum().item()
            right += int((output.argmax(1) == y).sum())
            missing += 0 if solution is None else unsettled(solution, tolerance(training.settings, training.relaxation))
    found = {"loss": total / len(split), "accuracy": right / len(split)}
    return found | {"unconverged": missing / len(split)} if training.net.relaxes else found


def _predict(net: AbstractNetwork, x: Tensor) -> tuple[Tensor, Solution | None]:
    """Return the output, and how it settled in a network whose states have to."""
    if not net.relaxes:
        return net(x), None
    with counted():
        solution = net.relax(x)
    return net.prediction(solution.states), solution


def agreement(training: Training) -> dict[str, list[float | None]]:
    """Return how every layer agrees with the exact gradient on the first training samples."""
    training.net.eval()
    x, y = first_batch(training, training.settings.align_samples)
    with counted():
        layers = alignment(training.rule, training.net, training.loss, x, y)
    return {
        "alignment": [finite(layer.cosine) for layer in layers],
        "norm_ratio": [finite(layer.norm_ratio) for layer in layers],
        "same_sign": [finite(layer.same_sign) for layer in layers],
        "straddling": [layer.straddling for layer in layers],
    }


def _angles(net: AbstractNetwork) -> Metrics:
    """Return the angles between the weights that errors travel through and the transposes, where there are any."""
    path = net.feedback if isinstance(net, Layered) else None
    if not isinstance(net, Layered) or path is None or (isinstance(path, Straight) and not net.affine()):
        return {}
    return {"feedback_angles": [finite(angle) for angle in feedback_angles(net)]}


def first_batch(training: Training, size: int) -> tuple[Tensor, Tensor]:
    """Return the first training samples, not augmented."""
    return next(data.batches(training.dataset, training.dataset.train, size, normalise=training.settings.normalise))
