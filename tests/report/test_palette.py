import itertools

from dyadnet.report.palette import COLOURS, REFERENCE_COLOUR, looks, split_rule


def luminance(colour: str) -> float:
    """Relative luminance by the definition of the Web Content Accessibility Guidelines."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_every_colour_shows_on_white():
    for colour in (*COLOURS, REFERENCE_COLOUR):
        assert 1.05 / (luminance(colour) + 0.05) > 2


def test_more_rules_than_colours_still_look_different():
    given = looks([f"rule-{i}" for i in range(20)])
    assert all(a != b for a, b in itertools.combinations(given.values(), 2))


def test_backpropagation_is_grey_wherever_it_stands_and_shifts_no_other_colour():
    first, last = looks(["backprop", "a", "b"]), looks(["a", "b", "backprop"])
    assert first == last
    assert first["backprop"].colour == REFERENCE_COLOUR
    assert first["a"].colour == COLOURS[0]


def test_repeats_do_not_use_up_colours():
    assert looks(["a", "a", "b"]) == looks(["a", "b"])


def test_a_rule_without_settings_has_empty_settings():
    assert split_rule("dyadic") == ("dyadic", "")
