"""Progress on a terminal of 100 columns, and silence elsewhere."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from dyadnet.progress import shortened, watcher
from dyadnet.train.run import Request
from dyadnet.train.settings import Settings

LONG = "dual-propagation:alpha=0.5,beta=0.1,variant=original,output=sprovr,schedule=random-order,passes=12"


def screen(terminal: bool = True) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, legacy_windows=False, color_system=None)


def shown(console: Console) -> list[str]:
    """The lines that were drawn, in order."""
    file: Any = console.file
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


def drive(console: Console, runs: int = 2, epochs: int = 20) -> None:
    with watcher(console) as live:
        live.say("timing a step of every rule")
        live.bars.refresh()
        for number in range(1, runs + 1):
            live.begin(Request(LONG, 7, Settings(epochs=epochs)), number, runs)
            for epoch in range(1, epochs + 1):
                live.tick(300, 600, 2.3456)
                live.bars.refresh()
                live.watch({"epoch": epoch, "test_accuracy": 0.97531})


def test_every_run_has_one_line_of_at_most_100_columns():
    console = screen()
    drive(console)
    lines = shown(console)
    assert max(map(len, lines)) <= 100
    assert any("timing a step of every rule" in line for line in lines)
    under_way = [line for line in lines if "epoch 12/20 loss 2.3456 test 97.53 %" in line]
    assert under_way
    assert all(re.match(r"[12]/2 dual-prop\S*…\S+passes=12 ", line) for line in under_way)


def test_every_finished_run_leaves_one_tidy_line():
    console = screen()
    drive(console)
    left = [
        line for line in shown(console) if re.match(r"[12]/2 test 97\.53 %  0:00:0\d  seed 7  dual-.*passes=12$", line)
    ]
    assert len(left) == 2


def test_a_run_that_was_finished_before_says_so():
    console = screen()
    with watcher(console) as live:
        live.begin(Request("backprop", 0, Settings(epochs=3)), 10, 12)
        live.watch({"epoch": 3, "test_accuracy": 0.5})
    assert "10/12 test 50.00 %   before  seed 0  backprop" in shown(console)


def test_a_resumed_run_goes_on_where_it_stood():
    console = screen()
    with watcher(console) as live:
        live.begin(Request("backprop", 0, Settings(epochs=4)))
        live.watch({"epoch": 2, "test_accuracy": 0.5})
        live.tick(25, 100, 1.0)
        live.bars.refresh()
        assert (live.bars.tasks[0].completed, live.bars.tasks[0].total) == (225, 400)
        assert live.bars.tasks[0].speed is None  # what an earlier session did counts for nothing
    assert any("epoch 3/4 loss 1.0000 test 50.00 %" in line for line in shown(console))


def test_nothing_is_drawn_where_there_is_no_terminal():
    console = screen(terminal=False)
    drive(console)
    assert shown(console) == []


def test_a_run_shows_how_its_states_settle():
    console, request = screen(), Request("equilibrium-propagation:beta=0.1", 0, Settings(epochs=2))
    with watcher(console) as live:
        live.begin(request, 1, 2)
        live.relaxed({"iterations": 12.34, "unconverged": 0.0})
        live.tick(300, 600, 2.3456)
        live.bars.refresh()
        for epoch in (1, 2):
            live.watch({"epoch": epoch, "test_accuracy": 0.97531, "iterations": 40.0, "unconverged": 0.001})
    lines = shown(console)
    assert max(map(len, lines)) <= 100
    assert any("epoch 1/2 loss 2.3456 12.3 passes, 0 % unsettled" in line for line in lines)
    left = re.compile(r"1/2 test 97\.53 %  0:00:0\d  seed 0  40\.0 passes, 0\.1 % unsettled  equilibrium-.*beta=0\.1$")
    assert any(left.match(line) for line in lines)


def test_the_next_run_does_not_inherit_how_states_settled():
    console = screen()
    with watcher(console) as live:
        live.begin(Request("dyadic", 0, Settings(epochs=1)), 1, 2)
        live.watch({"epoch": 1, "test_accuracy": 0.5, "iterations": 4.0, "unconverged": 0.5})
        live.begin(Request("backprop", 0, Settings(epochs=1)), 2, 2)
        live.watch({"epoch": 1, "test_accuracy": 0.5})
    first, second = (line for line in shown(console) if "seed 0" in line)
    assert "4.0 passes, 50.0 % unsettled" in first
    assert "passes" not in second


@pytest.mark.parametrize("width", [-5, 9, 10, 11, 40, 97, 98, 99, 200])
def test_a_name_is_shortened_in_its_middle(width: int):
    short = shortened(LONG, width)
    assert len(short) == min(len(LONG), max(width, 9))
    head, mark, tail = short.partition("…")
    assert LONG.startswith(head)
    assert LONG.endswith(tail)
    assert bool(mark) == (width < len(LONG))
