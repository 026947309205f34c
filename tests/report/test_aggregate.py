import math

import numpy as np
import pytest

from dyadnet.report.aggregate import REQUIRED, Spread, band, by_rule, describe, reduced, spread


def test_the_spread_is_the_sample_standard_deviation():
    # 2, 4, 9: mean 5, squared deviations 9 + 1 + 16 = 26, over n - 1 = 2
    found = spread([2.0, 4.0, 9.0])
    assert found.mean == 5
    assert found.std == pytest.approx(math.sqrt(13))


def test_a_single_seed_has_no_spread():
    assert spread([0.5]) == Spread(0.5, None)


def test_what_was_not_measured_is_left_out_and_not_counted_as_zero():
    assert spread([None, 1.0, None]) == Spread(1.0, None)
    assert reduced([None, 4.0, 2.0], np.mean) == 3.0


def test_nothing_measured_gives_nothing():
    assert spread([None, None]) is None
    assert reduced([], np.median) is None
    assert band([(1, None)]).x == []


def test_a_diverged_seed_is_not_hidden():
    assert math.isnan(spread([1.0, math.nan]).mean)
    diverged = spread([1.0, math.inf])
    assert diverged.mean == math.inf
    assert math.isnan(diverged.std)


def test_a_band_holds_mean_and_range_at_each_point_in_order():
    seeds = [[(2, 3.0), (1, 1.0)], [(1, 3.0), (2, 6.0)], [(2, 9.0)]]
    curve = band(point for seed in seeds for point in seed)
    assert (curve.x, curve.mean, curve.low, curve.high) == ([1, 2], [2.0, 6.0], [1.0, 3.0], [3.0, 9.0])


def test_rules_are_grouped_in_the_order_of_first_appearance(make_record):
    records = [make_record("b", 0), make_record("a", 0), make_record("b", 1)]
    groups = by_rule(records)
    assert list(groups) == ["b", "a"]
    assert [run["seed"] for run in groups["b"]] == [0, 1]


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_required_key_is_named(make_record, key):
    record = make_record("dyadic")
    del record[key]
    with pytest.raises(ValueError, match=f"lacks {key}"):
        by_rule([record])


def test_no_records_are_refused():
    with pytest.raises(ValueError, match="no records"):
        by_rule([])


def test_records_that_cannot_be_compared_are_refused(make_record):
    with pytest.raises(ValueError, match="data sets digits, mnist"):
        by_rule([make_record(), make_record("dyadic", dataset="mnist")])
    with pytest.raises(ValueError, match="several networks"):
        by_rule([make_record(seed=0), make_record(seed=1, network="mlp 64-10")])


def test_a_repeated_seed_is_refused_since_it_would_narrow_the_spread(make_record):
    with pytest.raises(ValueError, match="same seed"):
        by_rule([make_record(seed=3), make_record(seed=3)])


def test_different_rules_may_have_different_networks(make_record):
    records = [make_record(), make_record("lrrn", network="mlp 64-10")]
    assert len(by_rule(records)) == 2
    assert describe(records) == "digits · 2 networks · 2 epochs · 1 seed"


def test_the_description_counts_epochs_and_seeds(make_record):
    assert describe([make_record(epochs=1)]) == "digits · mlp 64-32-32-10 · 1 epoch · 1 seed"
    mixed = [make_record(epochs=20), make_record(seed=7, epochs=10)]
    assert describe(mixed) == "digits · mlp 64-32-32-10 · 10–20 epochs · 2 seeds"
