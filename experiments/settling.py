"""How many passes does each solver need, against the feedback parameter and the size of the weights?

    python experiments/settling.py

Layered networks of three hidden layers with hard-sigmoid units and a linear readout, random weights and inputs. The
norm is that of the coupling between odd and even layers, `sigma = |theta|_2`; passes are odd-even. Undamped updates of
a skew network diverge or cycle from `sigma = 1` on, although its equilibrium is unique at every norm.
"""

import dataclasses
import warnings
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from common import RESULTS
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from dyadnet import Layered
from dyadnet.relax.relaxation import NotSettledWarning, Relaxation
from dyadnet.relax.solver import AbstractSolver, Anderson, Damped, OverRelaxed, Plain
from dyadnet.relax.stopping import Residual
from dyadnet.train.environment import environment
from dyadnet.train.folder import write_json
from dyadnet.train.models import initialise, mlp

SOLVERS: dict[str, AbstractSolver] = {
    "plain": Plain(),
    "damped, 0.5": Damped(0.5),
    "over-relaxed": OverRelaxed(),
    "Anderson": Anderson(),
}


@dataclass(frozen=True)
class Experiment:
    """Which networks to relax."""

    width: int = 256
    """Of the inputs and of each of three hidden layers."""
    batch: int = 32
    """Samples that have to settle together."""
    lams: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Feedback parameters."""
    norms: tuple[float, ...] = (0.5, 1.0, 3.0, 6.0, 12.0)
    """Norms of the coupling."""
    tolerance: float = 1e-5
    """The residual that counts as settled."""
    most: int = 2000
    """Passes after which a solver is given up."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of weights and inputs."""


def network(experiment: Experiment, lam: float, norm: float, seed: int) -> Layered:
    """Return a network whose coupling has the given norm."""
    torch.manual_seed(seed)
    model = mlp((experiment.width,), 10, (experiment.width,) * 3, "hard-sigmoid")
    initialise(model, "lecun")
    net = Layered.from_sequential(model, lam)
    with torch.no_grad():
        maps = [stage.map for stage in net.stages[1:] if isinstance(stage.map, nn.Linear)]
        found = coupling_norm([linear.weight for linear in maps])
        for linear in maps:
            linear.weight *= norm / found
    return net


def coupling_norm(weights: list[torch.Tensor]) -> float:
    """Return the norm of the coupling between odd and even layers, exactly."""
    widths = [weights[0].shape[1], *(w.shape[0] for w in weights)]
    starts = [sum(widths[:k]) for k in range(len(widths) + 1)]
    theta = torch.zeros(starts[-1], starts[-1])
    for k, weight in enumerate(weights):
        theta[starts[k + 1] : starts[k + 2], starts[k] : starts[k + 1]] = weight
    return float(torch.linalg.matrix_norm(theta + theta.T, 2))


def passes(experiment: Experiment, solver: AbstractSolver, lam: float, norm: float, seed: int) -> int | None:
    """Return the passes to the tolerance; None if it was not reached."""
    net = network(experiment, lam, norm, seed)
    x = torch.rand(experiment.batch, experiment.width)
    how = Relaxation(solver=solver, stop=Residual(experiment.tolerance, experiment.most))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotSettledWarning)
        solution = net.relax(x, relaxation=how)
    return solution.iterations if bool(solution.converged.all()) else None


def main(experiment: Experiment) -> None:
    """Count the passes of every solver on every network, and store the rows."""
    torch.set_num_threads(1)
    console, rows = Console(), []
    grid = [(lam, norm, name) for lam in experiment.lams for norm in experiment.norms for name in SOLVERS]
    for lam, norm, name in track(grid, "relaxing", console=console):
        counts = [passes(experiment, SOLVERS[name], lam, norm, seed) for seed in experiment.seeds]
        rows.append({"lam": lam, "norm": norm, "solver": name, "passes": counts})
    write_json(
        RESULTS / "settling.json",
        {
            "name": "settling",
            "settings": dataclasses.asdict(experiment),
            "environment": environment(),
            "rows": rows,
        },
    )
    console.print(table(rows))


def table(rows: list[dict[str, Any]]) -> Table:
    """Lay the largest counts over seeds out: a line a network, a column a solver."""
    shown = Table(title="passes to settle")
    for heading in ("lam", "norm", *SOLVERS):
        shown.add_column(heading, justify="right")
    for lam, norm in dict.fromkeys((row["lam"], row["norm"]) for row in rows):
        counts = [row["passes"] for row in rows if (row["lam"], row["norm"]) == (lam, norm)]
        shown.add_row(f"{lam:g}", f"{norm:g}", *("never" if None in seeds else str(max(seeds)) for seeds in counts))
    return shown


if __name__ == "__main__":
    main(tyro.cli(Experiment))
