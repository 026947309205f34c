"""Live progress on a terminal: a bar over a run's steps, with rate and remaining time; silent elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dyadnet.train.loop import Metrics
from dyadnet.train.run import Request


@dataclass
class Watcher:
    """Turns the calls of a running job into one bar a run."""

    bars: Progress
    request: Request | None = None
    epoch: int = 0
    accuracy: str = ""

    def begin(self, request: Request, number: int = 1, runs: int = 1, epochs_done: int = 0) -> None:
        """A run starts."""
        self.request, self.epoch, self.accuracy = request, epochs_done, ""
        label = f"{number}/{runs} " if runs > 1 else ""
        self.task = self.bars.add_task(f"{label}{request.rule} (seed {request.seed})", total=None, note="")

    def tick(self, step: int, steps: int, loss: float) -> None:
        """Some steps of an epoch are done."""
        if self.request is None:
            return
        epochs = self.request.settings.epochs
        note = f"epoch {self.epoch + 1}/{epochs}  loss {loss:.4f}{self.accuracy}"
        self.bars.update(self.task, total=epochs * steps, completed=self.epoch * steps + step, note=note)

    def watch(self, metrics: Metrics) -> None:
        """An epoch is done."""
        self.epoch = metrics["epoch"]
        self.accuracy = f"  test {100 * metrics['test_accuracy']:.2f} %"


@contextmanager
def watcher(console: Console) -> Iterator[Watcher]:
    """Yield a watcher that draws on `console`, if that is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        yield Watcher(bars)
