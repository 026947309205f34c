"""Training: a network, a rule and an optimiser over epochs, so that a resumed run equals an unbroken one."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import nn

from dyadnet import data, names
from dyadnet.audit.alignment import alignment
from dyadnet.loss import AbstractLoss
from dyadnet.network.layered import Layered
from dyadnet.rule.base import AbstractRule
from dyadnet.train.models import build, initialise
from dyadnet.train.settings import Settings

Metrics = dict[str, Any]
Tick = Callable[[int, int, float], None]
"""Called now and then within an epoch with `(step, steps, mean loss so far)`."""

_LOOK_EVERY = 25  # steps between two looks at the loss: on an accelerator each look waits for the device


class Diverged(RuntimeError):
    """The loss is no longer a number."""


@dataclass
class Training:
    """A run under way. Everything that the next step depends on is in `state`."""

    settings: Settings
    dataset: data.Dataset
    net: Layered
    rule: AbstractRule
    loss: AbstractLoss
    optimizer: torch.optim.Optimizer
    rates: torch.optim.lr_scheduler.LambdaLR
    order: torch.Generator
    rule_generator: torch.Generator
    history: list[Metrics] = field(default_factory=list)

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
        self.history = state["history"]


def prepare(settings: Settings, rule: str, seed: int, dataset: data.Dataset) -> Training:
    """Set up a run; the seed decides the weights, the order of the samples and the rule's own randomness."""
    torch.manual_seed(seed)
    device = pick_device(settings.device)
    model = build(settings.network, dataset.shape, dataset.classes, settings.hidden, settings.activation)
    initialise(model, settings.init)
    net = Layered.from_sequential(model.to(device))
    optimizer = names.optimizer(settings.optimizer, net.parameters(), settings.learning_rate)
    steps = math.ceil(len(dataset.train.labels) / settings.batch_size)
    return Training(
        settings,
        data.resident(dataset, device),
        net,
        names.rule(rule),
        names.loss(settings.loss),
        optimizer,
        torch.optim.lr_scheduler.LambdaLR(optimizer, rate_factor(settings, steps)),
        order=torch.Generator().manual_seed(seed),
        rule_generator=torch.Generator().manual_seed(seed),
    )


def pick_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is an accelerator where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise names.RequestError(f"device {name!r} is not to be had here: {str(error).splitlines()[0]}") from error


def rate_factor(settings: Settings, steps: int) -> Callable[[int], float]:
    """Return the learning rate over its highest value as a function of the step, for epochs of `steps` steps.

    >>> factor = rate_factor(Settings(epochs=10, warmup_epochs=2, decay="cosine"), steps=5)
    >>> [round(factor(step), 3) for step in (0, 5, 10, 30, 50)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    start, end = settings.warmup_start / settings.learning_rate, settings.final_learning_rate / settings.learning_rate
    rise = settings.warmup_epochs * steps
    total = (settings.decay_epochs if settings.decay_epochs is not None else settings.epochs) * steps

    def factor(step: int) -> float:
        if step < rise:
            return start + (1 - start) * step / rise
        if settings.decay == "constant":
            return 1.0
        done = min(1.0, (step - rise) / max(1.0, total - rise))
        return end + (1 - end) * (1 + math.cos(math.pi * done)) / 2

    return factor


def train_epoch(training: Training, tick: Tick = lambda step, steps, loss: None) -> Metrics:
    """Train for one epoch, measure, and append the metrics to the history.

    Raises:
        Diverged: if the loss stops being a finite number; the history is left as it was.
    """
    settings, split = training.settings, training.dataset.train
    training.net.train()
    epoch, steps = len(training.history) + 1, math.ceil(len(split.labels) / settings.batch_size)
    total, right, seen = torch.zeros((), device=training.device), torch.zeros((), device=training.device), 0
    times, states, start = [], None, time.perf_counter()
    batches = data.batches(
        training.dataset,
        split,
        settings.batch_size,
        generator=training.order,
        augment=settings.augment,
        normalise=settings.normalise,
    )
    rate = training.optimizer.param_groups[0]["lr"]
    for step, (x, y) in enumerate(batches, 1):
        began = time.perf_counter()
        estimate = _step(training, x, y, states)
        times.append(time.perf_counter() - began)
        states = estimate.states if settings.carry_states else None
        total += estimate.loss * len(x)
        right += (estimate.output.argmax(1) == y).sum()
        seen += len(x)
        if step % _LOOK_EVERY == 0 or step == steps:
            mean = total.item() / seen
            if not math.isfinite(mean):
                raise Diverged(f"the loss became {mean} in epoch {epoch}, step {step}")
            tick(step, steps, mean)
    seconds = time.perf_counter() - start
    metrics = {"epoch": epoch, "train_loss": total.item() / seen, "train_accuracy": right.item() / seen}
    metrics |= {f"test_{name}": value for name, value in evaluate(training).items()}
    if not math.isfinite(metrics["test_loss"]):
        raise Diverged(f"the test loss became {metrics['test_loss']} after epoch {epoch}")
    metrics |= {"learning_rate": rate, "seconds": seconds, "step_ms": 1e3 * median(times)}
    if settings.align_every and (epoch % settings.align_every == 0 or epoch == settings.epochs):
        metrics |= agreement(training)
    training.history = [*training.history, metrics]
    return metrics


def _step(training: Training, x: torch.Tensor, y: torch.Tensor, states: Any) -> Any:
    """One update of the weights."""
    settings = training.settings
    states = states if states is not None and len(states[-1].mean()) == len(x) else None
    training.optimizer.zero_grad()
    with torch.autocast(training.device.type, torch.bfloat16, enabled=settings.bf16):
        estimate = training.rule.backward(
            training.net,
            training.loss,
            x,
            y,
            states=states,
            generator=training.rule_generator,
            keep_states=settings.carry_states,
        )
    if settings.clip is not None:
        nn.utils.clip_grad_norm_(training.net.parameters(), settings.clip)
    training.optimizer.step()
    training.rates.step()
    return estimate


@torch.no_grad()
def evaluate(training: Training) -> dict[str, float]:
    """Return loss and accuracy on the test split."""
    training.net.eval()
    split, total, right = training.dataset.test, 0.0, 0
    for x, y in data.batches(training.dataset, split, 1000, normalise=training.settings.normalise):
        output = training.net(x)
        total += training.loss(output, y).sum().item()
        right += int((output.argmax(1) == y).sum())
    return {"loss": total / len(split.labels), "accuracy": right / len(split.labels)}


def agreement(training: Training) -> dict[str, list[float | None]]:
    """Return cosine, norm ratio and straddling share of every layer on the first training samples."""
    training.net.eval()
    x, y = first_batch(training, training.settings.align_samples)
    layers = alignment(training.rule, training.net, training.loss, x, y)
    return {
        "alignment": [_finite(layer.cosine) for layer in layers],
        "norm_ratio": [_finite(layer.norm_ratio) for layer in layers],
        "straddling": [layer.straddling for layer in layers],
    }


def first_batch(training: Training, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first training samples, not augmented."""
    return next(data.batches(training.dataset, training.dataset.train, size, normalise=training.settings.normalise))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
