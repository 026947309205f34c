"""Figures of merit: what they are worth together, and what is not to be mixed."""

from dataclasses import dataclass

import pytest

from dyadnet.hardware.figure import Figure, added, figures_in, given, multiplied

BUILT = Figure("latency", 2.0, 3.0, "s", "a paper", "built")
MEASURED = Figure("energy", 1.0, 2.0, "J", "another paper", "measured")
PROJECTED = Figure("energy", 5.0, 5.0, "J", "a talk", "projected")
ASSUMED = given("energy", 0.5, 4.0, "J")


def test_products_and_sums_are_ranges_with_all_sources():
    product = multiplied("action", "J s", BUILT, MEASURED, factor=10)
    assert (product.low, product.high, product.unit) == (20.0, 60.0, "J s")
    assert product.source == "a paper; another paper"
    total = added("energy", [MEASURED, ASSUMED, MEASURED])
    assert (total.low, total.high, total.source) == (2.5, 8.0, "another paper; as given")


def test_a_reciprocal_swaps_the_ends():
    assert (BUILT.per().low, BUILT.per().high) == (1 / 3, 0.5)


@pytest.mark.parametrize(
    ("figures", "status"),
    [
        ([MEASURED], "measured"),
        ([MEASURED, BUILT], "built"),
        ([BUILT, ASSUMED], "assumed"),
        ([PROJECTED, ASSUMED], "assumed"),
        ([PROJECTED, PROJECTED], "projected"),
    ],
)
def test_together_they_are_worth_what_the_weakest_is(figures: list[Figure], status: str):
    assert multiplied("x", "?", *figures).status == status


def test_what_was_built_and_what_is_projected_do_not_go_into_one_number():
    for one in (BUILT, MEASURED):
        with pytest.raises(ValueError, match="power would mix what was built with what is projected"):
            multiplied("power", "W", PROJECTED, one)
    with pytest.raises(ValueError, match="would mix"):
        added("energy", [MEASURED, PROJECTED, ASSUMED])


def test_different_units_are_not_added():
    with pytest.raises(ValueError, match="J and s cannot be added"):
        added("cost", [BUILT, MEASURED])


@pytest.mark.parametrize("ends", [(-1.0, 1.0), (2.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_ranges_that_are_none_are_refused(ends: tuple[float, float]):
    with pytest.raises(ValueError, match="time must be a range of numbers from 0 on"):
        given("time", *ends, "s")


def test_nothing_is_divided_by_zero():
    with pytest.raises(ValueError, match="time must be above 0"):
        given("time", 0.0, 1.0, "s").per()


def test_all_figures_of_a_thing_and_its_parts_are_found_once():
    @dataclass
    class Part:
        one: Figure
        name: str

    @dataclass
    class Whole:
        part: Part
        two: Figure
        again: Figure

    assert figures_in(Whole(Part(BUILT, "a"), PROJECTED, BUILT)) == [BUILT, PROJECTED]
