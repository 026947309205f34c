"""One look a rule, the same in every table and figure.

The colours are those of Okabe and Ito that show on white, told apart with any of the common colour deficiencies.
Backpropagation, against which all is measured, is always dark grey. When the colours are used up they start again
with another dash.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Dash = Literal["solid", "dash", "dot", "dashdot"]

REFERENCE_COLOUR = "#4a4f57"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
NEGATIVE, NEUTRAL, POSITIVE = "#0072b2", "#ffffff", "#d55e00"
DASHES: tuple[Dash, ...] = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Look:
    """How a rule is drawn."""

    colour: str
    dash: Dash

    def faded(self, opacity: float) -> str:
        """Give the colour as CSS `rgba` with the opacity, for bands.

        >>> Look("#0072b2", "solid").faded(0.15)
        'rgba(0, 114, 178, 0.15)'
        """
        red, green, blue = bytes.fromhex(self.colour.removeprefix("#"))
        return f"rgba({red}, {green}, {blue}, {opacity})"


def split_rule(rule: str) -> tuple[str, str]:
    """Split a rule into its name and its settings, spaced for reading.

    >>> split_rule("dual-propagation:alpha=0,beta=0.1")
    ('dual-propagation', 'alpha=0, beta=0.1')
    """
    name, _, settings = rule.partition(":")
    return name, settings.replace(",", ", ")


def is_reference(rule: str) -> bool:
    """Tell whether the rule is backpropagation."""
    return split_rule(rule)[0] == "backprop"


def looks(rules: Iterable[str]) -> dict[str, Look]:
    """Give each rule its look, in the order of first appearance.

    >>> looks(["backprop", "dyadic"])["dyadic"]
    Look(colour='#0072b2', dash='solid')
    """
    distinct = list(dict.fromkeys(rules))
    coloured = [rule for rule in distinct if not is_reference(rule)]
    reference = [rule for rule in distinct if is_reference(rule)]
    return {rule: Look(REFERENCE_COLOUR, DASHES[i % len(DASHES)]) for i, rule in enumerate(reference)} | {
        rule: Look(COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)])
        for i, rule in enumerate(coloured)
    }
