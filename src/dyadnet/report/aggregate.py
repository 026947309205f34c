"""Records of training runs, grouped by rule and aggregated over seeds.

A record is one run of one rule with one seed, as it stands in `compare.json`. Values that were not measured are
missing or `None` and are left out; a value that diverged (nan, infinite) is kept, so that it is seen.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Record = Mapping[str, Any]
Measured = float | int | None

REQUIRED = ("rule", "dataset", "network", "seed", "epochs", "test_accuracy", "train_loss", "step_ms")


@dataclass(frozen=True)
class Spread:
    """A mean over seeds with its sample standard deviation (`n - 1`), which a single seed does not have."""

    mean: float
    std: float | None


@dataclass(frozen=True)
class Band:
    """A curve over seeds: at each `x` the mean, and the lowest and the highest seed."""

    x: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def spread(values: Iterable[Measured]) -> Spread | None:
    """Mean and sample standard deviation of the measured values; `None` where there is none.

    >>> spread([0.25, None, 0.75])
    Spread(mean=0.5, std=0.3535533905932738)
    >>> spread([0.25])
    Spread(mean=0.25, std=None)
    """
    measured = _measured(values)
    if not measured.size:
        return None
    with np.errstate(invalid="ignore"):  # an infinite loss has no finite spread: nan says so
        std = float(measured.std(ddof=1)) if measured.size > 1 else None
    return Spread(float(measured.mean()), std)


def reduced(values: Iterable[Measured], reduce: Callable[..., Any]) -> float | None:
    """Reduce the measured values to one number, as with `np.median`; `None` where there is none.

    >>> reduced([3.0, None, 1.0, 5.0], np.median)
    3.0
    """
    measured = _measured(values)
    return float(reduce(measured)) if measured.size else None


def band(points: Iterable[tuple[float, Measured]]) -> Band:
    """Collect `(x, value)` points of all seeds into one curve in the order of `x`.

    >>> band([(1, 0.5), (2, 0.75), (1, 1.0), (2, None)])
    Band(x=[1, 2], mean=[0.75, 0.75], low=[0.5, 0.75], high=[1.0, 0.75])
    """
    at: dict[float, list[float]] = {}
    for x, value in points:
        if value is not None:
            at.setdefault(x, []).append(value)
    xs = sorted(at)
    mean, low, high = ([float(reduce(at[x])) for x in xs] for reduce in (np.mean, np.min, np.max))
    return Band(xs, mean, low, high)


def by_rule(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Group the records by rule, in the order of first appearance.

    Raises:
        ValueError: if there are no records, one lacks a required key, they mix data sets, a rule was run on several
            networks, or a seed of a rule appears twice (it would narrow the spread).
    """
    if not records:
        raise ValueError("there are no records to report: give at least one")
    for record in records:
        if missing := [key for key in REQUIRED if key not in record]:
            raise ValueError(f"the record of {record.get('rule', 'an unnamed rule')} lacks {', '.join(missing)}")
    if len(names := _distinct(records, "dataset")) > 1:
        raise ValueError(f"the records mix the data sets {', '.join(names)}: write one report for each")
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record["rule"], []).append(record)
    for rule, runs in groups.items():
        _check_comparable(rule, runs)
    return groups


def describe(records: Sequence[Record]) -> str:
    """Name what the runs share: data set, network, epochs and number of seeds.

    >>> describe([{"dataset": "digits", "network": "mlp 64-10", "epochs": 20, "seed": seed} for seed in range(3)])
    'digits · mlp 64-10 · 20 epochs · 3 seeds'
    """
    networks = _distinct(records, "network")
    epochs = sorted({record["epochs"] for record in records})
    span = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]}–{epochs[-1]}"
    return " · ".join(
        (
            ", ".join(_distinct(records, "dataset")),
            networks[0] if len(networks) == 1 else f"{len(networks)} networks",
            f"{span} epoch" if epochs == [1] else f"{span} epochs",
            "1 seed" if (seeds := len(_distinct(records, "seed"))) == 1 else f"{seeds} seeds",
        )
    )


def _measured(values: Iterable[Measured]) -> np.ndarray:
    return np.array([value for value in values if value is not None], dtype=np.float64)


def _distinct(records: Sequence[Record], key: str) -> list[str]:
    """List the different values of `key` in the order of first appearance."""
    return list(dict.fromkeys(str(record[key]) for record in records))


def _check_comparable(rule: str, runs: Sequence[Record]) -> None:
    """Refuse runs of one rule whose mean over seeds would mean nothing."""
    if len(networks := _distinct(runs, "network")) > 1:
        raise ValueError(f"{rule} was run on several networks ({', '.join(networks)}): write one report for each")
    if len(_distinct(runs, "seed")) < len(runs):
        raise ValueError(f"{rule} has two records with the same seed: keep one of them")
