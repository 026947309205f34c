import math

import pytest
from rich.console import Console

from dyadnet.report import summary, table
from dyadnet.report.table import UNCONVERGED_NOTE

RULES = (
    "backprop",
    "dual-propagation:alpha=0,beta=0.1",
    "direct-feedback-alignment",
    "equilibrium-propagation:beta=0.25,iterations=1000",
)


def printed(records, width: int = 100) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table(records, width))
    return capture.get()


def test_a_row_agrees_with_hand_computed_numbers(make_record):
    relaxation = {"iterations": 4, "residual": 1e-6, "converged": True}
    records = [
        make_record(
            "dyadic",
            seed,
            test_accuracy=accuracy,
            train_loss=loss,
            step_ms=ms,
            step_ratio_to_backprop=ratio,
            alignment=alignment,
            relaxation=relaxation | {"iterations": iterations, "residual": residual},
        )
        for seed, (accuracy, loss, ms, ratio, alignment, iterations, residual) in enumerate(
            [
                (0.9, 0.1, 1.0, 1.5, [0.5, 0.75], 4, 1e-6),
                (0.8, 0.2, 9.0, None, [1.0, 0.25], 5, 3e-6),
                (0.7, 0.6, 2.0, 2.5, [None, 1.0], 9, 2e-6),
            ]
        )
    ]
    (row,) = summary(records)
    assert (row.rule, row.network, row.seeds) == ("dyadic", "mlp 64-32-32-10", 3)
    assert row.test_accuracy.mean == pytest.approx(0.8)
    assert row.test_accuracy.std == pytest.approx(0.1)  # squared deviations 0.01 + 0 + 0.01, over 2
    assert row.train_loss == pytest.approx(0.3)
    assert row.step_ms == 2.0  # the median: one slow seed does not move it
    assert row.step_ratio == 2.0
    assert row.lowest_alignment == pytest.approx((0.5 + 0.25 + 0.0) / 3)  # the last has a layer without gradient
    assert row.iterations == 6.0
    assert row.residual == 3e-6
    assert row.converged is True


def test_one_unconverged_seed_is_enough_to_say_so(make_record):
    failed = {"iterations": 9, "residual": 0.5, "converged": False}
    records = [make_record("dyadic", 0), make_record("dyadic", 1, relaxation=failed)]
    (row,) = summary(records)
    assert row.converged is False
    text = printed(records)
    assert "! 5.0e-01" in text
    assert UNCONVERGED_NOTE in text


def test_converged_runs_carry_no_mark(make_record):
    assert "!" not in printed([make_record()])


def test_the_unsettled_share_is_the_mean_over_seeds_in_per_cent(relaxed):
    records = [relaxed(seed=seed, relaxation={"unconverged": share}) for seed, share in enumerate((0.0, 0.03))]
    (row,) = summary(records)
    assert row.unconverged == pytest.approx(0.015)
    text = printed(records)
    assert "Unset-" in text
    assert "1.50" in text


def test_a_small_unsettled_share_is_not_called_nothing(relaxed):
    assert "<0.01" in printed([relaxed(relaxation={"unconverged": 1e-6})])
    assert "0.00" in printed([relaxed()])


def test_without_relaxations_there_is_no_column_of_unsettled_shares(make_record, relaxed):
    assert "Unset-" not in printed([make_record()])
    (line,) = (line for line in printed([make_record(), relaxed()]).splitlines() if line.startswith("backprop"))
    assert line.rstrip().endswith("–")


def test_a_crowded_table_fits_and_breaks_names_after_a_hyphen(make_record, relaxed):
    failed = {"iterations": 199.5, "residual": 0.5, "converged": False, "unconverged": 1.0}
    records = [
        relaxed(rule, seed, test_accuracy=0.5 + 0.4 * seed, step_ms=1234.5, relaxation=failed)
        for rule in RULES
        for seed in range(2)
    ]
    text = printed(records)
    assert max(map(len, text.splitlines())) <= 100
    for part in (
        "equilibrium-",
        "propagation",
        "direct-feedback-",
        "alignment",
        "100.00",
        "! 5.0e-01",
        "70.00 ± 28.28",
    ):
        assert part in text


def test_a_narrow_terminal_gets_fewer_columns_and_is_told_so(make_record, relaxed):
    failed = {"iterations": 199.5, "residual": 0.5, "converged": False, "unconverged": 1.0}
    records = [
        relaxed(rule, seed, test_accuracy=0.5 + 0.4 * seed, relaxation=failed) for rule in RULES for seed in (0, 1)
    ]
    wide, narrow = printed(records, 100), printed(records, 72)
    assert "wider terminal" not in wide
    assert max(map(len, narrow.splitlines())) <= 72
    assert "…" not in narrow
    for part in ("equilibrium-", "propagation", "70.00 ± 28.28", "Lowest", "! 5.0e-01", "wider terminal"):
        assert part in narrow
    for left_out in ("Train", "Unset-"):
        assert left_out in wide
        assert left_out not in narrow
    told = " ".join(narrow.split("wider terminal")[1].split())
    assert all(name in told for name in ("train loss", "unsettled %", "iterations"))


@pytest.mark.parametrize("width", [36, 60, 80, 120])
def test_at_every_width_the_accuracy_of_every_rule_can_be_read(width, make_record):
    records = [make_record(rule, seed, test_accuracy=0.5 + 0.4 * seed) for rule in RULES for seed in (0, 1)]
    text = printed(records, width)
    assert text.count("70.00 ±") == len(RULES)
    assert max(map(len, text.splitlines())) <= width


def test_what_was_not_measured_is_none_in_the_summary(make_record):
    record = make_record(test_accuracy=None, step_ms=None)
    for key in ("step_ratio_to_backprop", "alignment", "norm_ratio", "straddling", "relaxation", "history"):
        del record[key]
    (row,) = summary([record])
    assert row.test_accuracy is row.step_ms is row.step_ratio is row.lowest_alignment is None
    assert row.iterations is row.residual is row.converged is row.unconverged is None


def test_accuracy_is_in_per_cent_with_its_spread(make_record):
    # 97.4 and 97.6 per cent: standard deviation 0.1 * sqrt(2)
    text = printed([make_record(seed=0, test_accuracy=0.974), make_record(seed=1, test_accuracy=0.976)])
    assert "97.50 ± 0.14" in text


def test_a_single_seed_shows_no_spread(make_record):
    text = printed([make_record()])
    assert "97.50" in text
    assert "±" not in text


def test_the_table_fits_a_hundred_columns_without_losing_a_number(make_record):
    wide = {"step_ms": 1234.56, "step_ratio_to_backprop": 1234.56, "train_loss": 123.4567, "alignment": [-0.1234]}
    relaxation = {"iterations": 1000, "residual": 0.5, "converged": False}
    records = [
        make_record(rule, seed, test_accuracy=0.5 + 0.4 * seed, relaxation=relaxation, **wide)
        for rule in RULES
        for seed in range(2)
    ]
    text = printed(records)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    for number in ("70.00 ± 28.28", "1.2e+02", "1234.56", "-0.1234", "1000", "! 5.0e-01"):
        assert text.count(number) >= len(RULES)
    for part in (part for rule in RULES for part in rule.replace(":", ",").split(",")):
        assert part in text


def test_numbers_are_aligned_on_the_right(make_record):
    lines = printed([make_record(step_ms=0.5), make_record("dyadic", step_ms=123.25)]).splitlines()
    ends = {line.index(number) + len(number) for line in lines for number in ("0.50 ", "123.25 ") if number in line}
    assert len(ends) == 1


def test_the_title_names_data_network_epochs_and_seeds(make_record):
    assert "digits · mlp 64-32-32-10 · 2 epochs · 1 seed" in " ".join(printed([make_record()]).split())


def test_a_column_without_a_number_is_left_out(make_record):
    text = printed([make_record(step_ratio_to_backprop=None, relaxation=None)])
    assert "Ratio" not in text
    assert "Residual" not in text
    assert "Ratio" in printed([make_record()])


def test_brackets_in_a_name_are_not_read_as_markup(make_record):
    assert "mine[bold]" in printed([make_record("mine[bold]")])


def test_small_and_diverged_losses_stay_visible(make_record):
    assert "2.5e-05" in printed([make_record(train_loss=2.5e-5)])
    assert "nan" in printed([make_record(train_loss=math.nan)])
