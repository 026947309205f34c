"""The command `dyadnet estimate`: what a network costs on a substrate."""

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from dyadnet import names
from dyadnet.hardware import merits
from dyadnet.hardware.cost_of_circuits import Gyrator, Resistive
from dyadnet.hardware.cost_of_machines import Digital, Optical
from dyadnet.hardware.costs import AbstractCosts, Converters
from dyadnet.hardware.estimate import Cost, Estimate, estimate
from dyadnet.hardware.figure import Figure, given
from dyadnet.hardware.workload import NetworkKind, Workload, phases_of
from dyadnet.names import RequestError
from dyadnet.relax.schedule import AbstractSchedule
from dyadnet.train import folder
from dyadnet.train.needs import need
from dyadnet.train.run import read_request

SubstrateName = Literal["resistive", "gyrator", "optical", "digital"]
Range = tuple[float, float]
ESTIMATE = "estimate.json"
_KINDS: dict[str, NetworkKind] = {"mlp": "mlp", "hopfield": "hopfield", "resistive": "hopfield", "dense": "dense"}
_PREFIXES = {-18: "a", -15: "f", -12: "p", -9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P"}


@dataclass(frozen=True)
class EstimateCosts:
    """Estimate energy and latency of inference and of a training step on a substrate, each figure with its source.

    Of a run the network, rule, batch size and passes are those of its folder, unless others are given.

    Example: dyadnet estimate --substrate optical --hidden 512 --rule dyadic --passes 50 --out runs/cost
    """

    run: tyro.conf.Positional[Path | None] = None
    """A finished run, if the network is to be its own."""
    substrate: SubstrateName = "resistive"
    """resistive or gyrator circuits, the optical machine, or a digital computer to compare with."""
    network: NetworkKind | None = None
    """mlp (without feedback), hopfield (layers with feedback) or dense; what the rule needs."""
    inputs: int | None = None
    """How many inputs there are; 784 by default."""
    hidden: tuple[int, ...] | None = None
    """Widths of the hidden layers; 512 by default."""
    outputs: int | None = None
    """How many outputs there are; 10 by default."""
    rule: str | None = None
    """The learning rule with its settings, for the phases of a training step; dyadic by default."""
    passes: float | None = None
    """Passes of one relaxation, for what iterates: 50 by default, or in an mlp those of the rule's schedule."""
    batch_size: int | None = None
    """Samples of a training step; 100 by default."""
    bits: int = 8
    """Of the converters."""
    conductance: Range | None = None
    """Of a device, in uS, lowest and highest (of a gyrator network, its leaks and its couplings)."""
    drop: Range | None = None
    """Voltage across a device, in V, lowest and highest."""
    capacitance: Range | None = None
    """Of a node, in pF, lowest and highest."""
    settling: Range | None = None
    """Of a circuit, in ns, lowest and highest, instead of ln(1/tolerance) time constants."""
    out: Path | None = None
    """A folder to write estimate.json to."""
    overwrite: bool = False
    """Replace the estimate that the folder holds."""

    def __call__(self, console: Console) -> None:
        """Print it, and write it if that was asked for."""
        if self.out is not None and (self.out / ESTIMATE).exists() and not self.overwrite:
            raise RequestError(f"{self.out / ESTIMATE} exists; name another folder, or add --overwrite")
        asked = self if self.run is None else _of_run(self, self.run)
        try:
            work = asked.workload()
            found = estimate(asked.chosen(), work)
        except ValueError as error:
            raise RequestError(str(error)) from error
        if self.out is not None:
            folder.made(self.out)
        _show(asked, work, found, console)
        if self.out is not None:
            folder.write_json(self.out / ESTIMATE, asked.record(work, found))
            console.print(f"written: {self.out / ESTIMATE}", soft_wrap=True)

    def workload(self) -> Workload:
        """Return what the substrate is asked to do."""
        rule = names.rule(self.named_rule)
        network: NetworkKind = self.network or ("hopfield" if need(rule).relaxes else "mlp")
        inputs, hidden, outputs = _or(self.inputs, 784), _or(self.hidden, (512,)), _or(self.outputs, 10)
        widths, schedule = (inputs, *hidden, outputs), getattr(rule, "schedule", None)
        swept = schedule.count(len(widths) - 1) if isinstance(schedule, AbstractSchedule) else 1
        passes = _or(self.passes, swept if network == "mlp" and not need(rule).relaxes else 50)
        return Workload(widths, network, passes, _or(self.batch_size, 100), phases_of(rule, network))

    @property
    def named_rule(self) -> str:
        """Return the rule, or the default one."""
        return self.rule or "dyadic"

    def chosen(self) -> AbstractCosts:
        """Return the substrate with the figures that were given.

        Raises:
            RequestError: for a figure that the substrate does not have.
        """
        converters = Converters(self.bits)
        circuit = {
            "drop": _figure(merits.DROP, self.drop, 1.0),
            "capacitance": _figure(merits.CAPACITANCE, self.capacitance, 1e-12),
            "settling": None if self.settling is None else given("settling", *_scaled(self.settling, 1e-9), "s"),
        }
        if self.substrate == "resistive":
            conductance = _figure(merits.CONDUCTANCE, self.conductance, 1e-6)
            return Resistive(conductance=conductance, converters=converters, **circuit)
        if self.substrate == "gyrator":
            leak, gyration = (_figure(f, self.conductance, 1e-6) for f in (merits.LEAK, merits.GYRATION))
            return Gyrator(leak=leak, gyration=gyration, converters=converters, **circuit)
        strange = [name for name in ("conductance", "drop", "capacitance", "settling") if getattr(self, name)]
        if strange:
            raise RequestError(f"{strange[0]} is of circuits: the {self.substrate} substrate has none")
        return Optical(converters=converters) if self.substrate == "optical" else Digital()

    def record(self, work: Workload, found: Estimate) -> dict[str, Any]:
        """Return what JSON holds."""
        asked = {"substrate": self.substrate, "rule": self.named_rule, "run": str(self.run) if self.run else None}
        return asked | {"workload": dataclasses.asdict(work)} | found.record()


def _or(said: Any, default: Any) -> Any:
    return default if said is None else said


def _figure(default: Figure, found: Range | None, unit: float) -> Figure:
    """A figure of ours, or the one that was given in a prefixed unit."""
    return default if found is None else given(default.quantity, *_scaled(found, unit), default.unit)


def _scaled(found: Range, unit: float) -> Range:
    if not found[0] > 0:
        raise RequestError(f"a range must begin above 0, not at {found[0]:g}")
    return found[0] * unit, found[1] * unit


def _of_run(asked: EstimateCosts, run: Path) -> EstimateCosts:
    """Fill in what was not said with what a finished run has."""
    request = read_request(run)
    if not (run / folder.RESULT).exists():
        raise RequestError(f"{run} has no result yet; {folder.resuming(run)} goes on with it")
    result = folder.read_json(run / folder.RESULT)
    described, chosen = str(result["network"]), result["chosen"]
    widths = re.match(r"(?:dense )?(\d+(?:-\d+){2,})(?:, |$)", described)
    if widths is None or chosen["network"] not in _KINDS:
        raise RequestError(f"{run} trained {described}: there are estimates for units of linear layers only")
    network = "mlp" if chosen.get("lam") == 0.5 and chosen["network"] != "dense" else _KINDS[chosen["network"]]
    inputs, *hidden, outputs = map(int, widths[1].split("-"))
    rule = asked.rule or request.rule
    try:
        phases = phases_of(names.rule(request.rule), network)
    except ValueError as error:
        raise RequestError(f"{run}: {error}") from error
    counted = 2 if phases.energy else 1  # the free phase, and all others at once
    passes = result["relaxation"]["iterations"] / counted
    known = {"inputs": inputs, "hidden": tuple(hidden), "outputs": outputs, "network": network, "passes": passes}
    known |= {"batch_size": request.settings.batch_size}
    said = {name: getattr(asked, name) for name in known if getattr(asked, name) is not None}
    return dataclasses.replace(asked, rule=rule, **(known | said))


def _show(asked: EstimateCosts, work: Workload, found: Estimate, console: Console) -> None:
    """Print the costs in two columns, the bounds, and where the figures come from."""
    widths = "-".join(map(str, work.widths))
    console.print(
        f"{widths} ({work.network}) on the {asked.substrate} substrate; {asked.named_rule}, batch size {work.batch}, "
        f"{_times(work.passes, 'pass', 'passes')} a relaxation, "
        f"{_times(work.phases.relaxations, 'relaxation', 'relaxations')} a step",
        soft_wrap=True,
    )
    rows = Table()
    for heading in ("task", "part", "quantity", "built", "projected, assumed", "status"):
        rows.add_column(heading)
    last = ""
    for cost in found.costs:
        task, last = ("" if cost.task == last else cost.task), cost.task
        rows.add_row(task, cost.part, cost.figure.quantity, *_columns(cost), cost.figure.status)
    console.print(rows)
    for figure in found.bounds:
        console.print(f"bound: {figure.quantity}: {spelled(figure)}", soft_wrap=True)
    console.print("from:")
    for figure in found.figures:
        console.print(f"  {figure.quantity}: {spelled(figure)} ({figure.status}; {figure.source})", soft_wrap=True)


def _times(count: float, one: str, several: str) -> str:
    return f"{count:g} {one if count == 1 else several}"


def _columns(cost: Cost) -> tuple[str, str]:
    """What was built does not stand beside what is projected."""
    text = spelled(cost.figure)
    return (text, "") if cost.column == "built" else ("", text)


def spelled(figure: Figure) -> str:
    """Return a range with prefixes of the SI.

    >>> spelled(given("latency", 9e-10, 2e-7, "s")), spelled(given("", 8.03e-3, 8.03e-3, "W"))
    ('900 ps to 200 ns', '8.03 mW')
    """
    low, high = (f"{value:.3g} {prefix}{figure.unit}".rstrip() for value, prefix in map(_prefixed, _ends(figure)))
    return low if low == high else f"{low} to {high}"


def _ends(figure: Figure) -> Range:
    return figure.low, figure.high


def _prefixed(value: float) -> tuple[float, str]:
    power = 3 * math.floor(math.log10(value) / 3 + 1e-9) if value else 0
    power = min(max(power, min(_PREFIXES)), max(_PREFIXES))
    return value / 10.0**power, _PREFIXES[power]
