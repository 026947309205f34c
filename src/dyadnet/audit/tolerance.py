"""What a sweep over an imperfection says: the best strength at every level, and the level that is too much.

The critical level of a rule is where its accuracy, at the best strength for each level, has fallen half-way from what
it is at the lowest level to chance; between two levels it is interpolated in their logarithm.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log
from statistics import mean, stdev
from typing import Any, final

Record = Mapping[str, Any]
MORE_IS_BETTER = ("bits", "on_off", "full_scale", "passes", "reads", "range", "most", "bound")
"""Settings of devices whose large values are the mild ones."""


@final
@dataclass(frozen=True)
class Spot:
    """A rule at one strength and one level, over seeds.

    Attributes:
        strength: `beta`; None for a rule without.
        level: of the imperfection.
        accuracy: the mean test accuracy.
        spread: its sample standard deviation over seeds.
        cosine: the mean of the lowest cosine of any layer with the exact gradient; None where it was not measured.
        displacement: the mean distance of contrasted outputs.
        unconverged: the mean share of samples that did not settle.
        saturated: the mean share of saturated or stuck devices.
        seeds: how many.
        failed: how many of them diverged, or were refused by the circuit; they count as guessing.
    """

    strength: float | None
    level: float
    accuracy: float
    spread: float
    cosine: float | None
    displacement: float | None
    unconverged: float | None
    saturated: float | None
    seeds: int
    failed: int = 0


@final
@dataclass(frozen=True)
class Tolerance:
    """What one rule tolerates.

    Attributes:
        rule: its name with settings, but for the strength.
        spots: of every strength and level.
        best: of every level that with the highest accuracy, from the mildest level to the harshest.
        critical: the level at which half of what was learned is lost; None if no level is so harsh.
        chance: the accuracy of guessing.
    """

    rule: str
    spots: Sequence[Spot]
    best: Sequence[Spot]
    critical: float | None
    chance: float

    @property
    def learned(self) -> bool:
        """Whether the rule is a tenth of the way from chance to certainty at least, at the mildest level."""
        return self.best[0].accuracy > self.chance + (1 - self.chance) / 10


def tolerances(records: Sequence[Record], source: str = "") -> list[Tolerance]:
    """Return what every rule of a sweep tolerates, in the order in which the rules appear.

    Args:
        records: one a cell, as `cells.jsonl` holds them.
        source: the imperfection; of some, such as bits, the large levels are the mild ones.
    """
    down = source.split(".")[-1] in MORE_IS_BETTER
    rules = dict.fromkeys(record["rule"] for record in records)
    return [_tolerance(rule, [r for r in records if r["rule"] == rule], down=down) for rule in rules]


def _tolerance(rule: str, records: Sequence[Record], *, down: bool) -> Tolerance:
    places = dict.fromkeys((r["strength"], r["level"]) for r in records)
    spots = [_spot([r for r in records if (r["strength"], r["level"]) == place]) for place in places]
    levels, chance = sorted({spot.level for spot in spots}, reverse=down), 1 / records[0]["classes"]
    best = [max((s for s in spots if s.level == level), key=lambda s: s.accuracy) for level in levels]
    return Tolerance(rule, spots, best, critical_level(best, chance), chance)


def _spot(records: Sequence[Record]) -> Spot:
    first, accuracies = records[0], [r["test_accuracy"] for r in records]
    return Spot(
        first["strength"],
        first["level"],
        mean(accuracies),
        stdev(accuracies) if len(accuracies) > 1 else 0.0,
        _mean(min(r["alignment"]) for r in records if r["alignment"] and None not in r["alignment"]),
        _mean(r["displacement"] for r in records),
        _mean(r["unconverged"] for r in records),
        _mean(r["saturated"] for r in records),
        len(records),
        sum(bool(r.get("diverged") or r.get("refused")) for r in records),
    )


def critical_level(best: Sequence[Spot], chance: float) -> float | None:
    """Return the level at which the accuracy has fallen half-way to chance.

    Args:
        best: one a level, the mildest first.
        chance: the accuracy of guessing.

    >>> spots = [Spot(0.1, level, a, 0.0, None, None, None, None, 1) for level, a in ((0.01, 0.9), (1.0, 0.1))]
    >>> round(critical_level(spots, 0.1), 6)
    0.1
    """
    half = (best[0].accuracy + chance) / 2
    for low, high in pairwise(best):
        if high.accuracy <= half < low.accuracy:
            share = (low.accuracy - half) / max(low.accuracy - high.accuracy, 1e-12)
            if low.level <= 0:  # no logarithm: linearly
                return low.level + share * (high.level - low.level)
            return exp(log(low.level) + share * (log(high.level) - log(low.level)))
    return None


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return mean(there) if there else None
