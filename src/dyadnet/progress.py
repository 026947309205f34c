"""Live progress on a terminal: one line for the run under way, one for each that is done; silent elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from dyadnet.train.loop import Metrics
from dyadnet.train.run import Request

_BESIDES = 70  # columns that the live line takes besides the name of the rule
_RELAXED = 28  # and besides them, how its states settle


class _Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} steps/s" if task.speed else "", style="progress.data.speed", no_wrap=True)


@dataclass
class Watcher:
    """Turns the calls of a running job into one live line."""

    bars: Progress
    task: TaskID
    request: Request | None = None
    place: str = ""
    epoch: int = 0
    accuracy: str = ""
    settling: str = ""

    def say(self, what: str) -> None:
        """Something without steps is under way; nothing, if `what` is empty."""
        self.bars.reset(self.task, total=None, description=what, note="", visible=bool(what))

    def begin(self, request: Request, number: int = 1, runs: int = 1) -> None:
        """A run starts."""
        self.request, self.epoch, self.accuracy, self.settling = request, 0, "", ""
        self.place = f"{number:{len(str(runs))}}/{runs} " if runs > 1 else ""
        self.say(self._named(_BESIDES))

    def relaxed(self, metrics: Metrics) -> None:
        """Show, from the next tick on, how the states settle."""
        if not self.settling:  # the name makes room
            self.bars.update(self.task, description=self._named(_BESIDES + _RELAXED))
        self.settling = settling(metrics)

    def tick(self, step: int, steps: int, loss: float) -> None:
        """Some steps of an epoch are done."""
        if self.request is None:
            return
        epochs, done = self.request.settings.epochs, self.epoch * steps + step
        if self.bars.tasks[0].total is None:  # steps of an earlier session must not count into the rate
            self.bars.reset(self.task, total=epochs * steps, completed=done)
        shown = f"{loss:.4f}" if loss < 1000 else f"{loss:.1e}"
        note = f"epoch {self.epoch + 1}/{epochs} loss {shown}{self.accuracy}"
        note += f" {self.settling}" if self.settling else ""
        self.bars.update(self.task, completed=done, note=note)

    def watch(self, metrics: Metrics) -> None:
        """An epoch is done; the last one leaves a line on the terminal."""
        self.epoch = metrics["epoch"]
        self.accuracy = f" test {100 * metrics['test_accuracy']:.2f} %"
        if "unconverged" in metrics:
            self.relaxed(metrics)
        if self.request is not None and self.epoch == self.request.settings.epochs and not self.bars.disable:
            self.bars.console.print(self._finished(self.request), no_wrap=True, overflow="ellipsis", highlight=False)
            self.say("")

    def _named(self, besides: int) -> str:
        """Return the place and the rule, cut so that the line has room for what stands besides."""
        assert self.request is not None
        return self.place + shortened(self.request.rule, self.bars.console.width - besides - len(self.place))

    def _finished(self, request: Request) -> str:
        """What is left of a run: its accuracy, how long it took (if it ran just now), seed, settling and rule."""
        task = self.bars.tasks[0]
        took = str(timedelta(seconds=int(task.elapsed or 0))) if task.total is not None else "before"
        line = f"{self.place}{self.accuracy.strip()}  {took:>7}  seed {request.seed}  "
        line += f"{self.settling}  " if self.settling else ""
        return line + shortened(request.rule, self.bars.console.width - len(line))


def settling(metrics: Metrics) -> str:
    """Say how the states of an epoch settle.

    >>> settling({"iterations": 12.34, "unconverged": 0.00123})
    '12.3 passes, 0.1 % unsettled'
    """
    return f"{metrics['iterations']:.1f} passes, {percent(metrics['unconverged'])} unsettled"


def percent(share: float) -> str:
    """Write a share in per cent; one that rounds to nothing is not called nothing.

    >>> percent(0.0), percent(0.0001), percent(0.25)
    ('0 %', '<0.1 %', '25.0 %')
    """
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.1f} %" if share else "0 %"


def shortened(name: str, width: int) -> str:
    """Return `name` cut to `width` characters in its middle, so that what rules differ in stays in sight.

    >>> shortened("dual-propagation:alpha=0.5", 15)
    'dual-pr…pha=0.5'
    """
    width = max(width, 9)
    if len(name) <= width:
        return name
    return f"{name[: (width - 1) // 2]}…{name[-(width // 2) :]}"


@contextmanager
def watcher(console: Console) -> Iterator[Watcher]:
    """Yield a watcher that draws on `console`, if that is a terminal."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(10),
        _Rate(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield Watcher(bars, bars.add_task("setting up", total=None, note=""))
