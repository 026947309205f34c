import math

import pytest

from dyadnet.report import figures
from dyadnet.report.palette import looks

ALL = (
    figures.accuracy_curves,
    figures.loss_curves,
    figures.step_cost,
    figures.alignment_by_layer,
    figures.norm_ratio_by_layer,
    figures.same_sign_by_layer,
    figures.straddling_by_layer,
    lambda records: figures.alignment_over_training(records, 1),
    lambda records: figures.feedback_angles(records, 1),
)


def lines(figure) -> dict:
    """The mean curve of each rule."""
    return {trace.legendgroup: trace for trace in figure.data if trace.type == "scatter" and trace.fill is None}


def bands(figure) -> dict:
    """The band of each rule."""
    return {trace.legendgroup: trace for trace in figure.data if trace.type == "scatter" and trace.fill}


def history(*losses: float, first: int = 1):
    return [{"epoch": epoch, "train_loss": loss, "test_accuracy": 0.5} for epoch, loss in enumerate(losses, first)]


def test_accuracy_is_drawn_in_per_cent_against_the_epoch(make_record):
    curve = lines(figures.accuracy_curves([make_record()]))["backprop"]
    assert list(curve.x) == [1, 2]
    assert list(curve.y) == pytest.approx([50, 97.5])


def test_the_line_is_the_mean_and_the_band_the_range_over_seeds(make_record):
    records = [make_record(seed=seed, history=history(loss, 1.0)) for seed, loss in enumerate((2.0, 3.0, 7.0))]
    figure = figures.loss_curves(records)
    assert list(lines(figure)["backprop"].y) == pytest.approx([4.0, 1.0])
    outline = bands(figure)["backprop"]
    assert list(outline.x) == [1, 2, 2, 1]
    assert list(outline.y) == [7.0, 1.0, 1.0, 2.0]


def test_a_single_seed_has_no_band(make_record):
    for draw in ALL:
        assert not bands(draw([make_record()]))


def test_the_loss_axis_is_logarithmic_only_where_it_can_be(make_record):
    assert figures.loss_curves([make_record()]).layout.yaxis.type == "log"
    assert figures.loss_curves([make_record(history=history(1.0, 0.0))]).layout.yaxis.type is None


def test_a_diverged_loss_leaves_the_rest_of_the_curve(make_record):
    figure = figures.loss_curves([make_record(history=history(1.0, math.nan, math.inf, 0.5))])
    assert figure.layout.yaxis.type == "log"
    assert list(lines(figure)["backprop"].x) == [1, 2, 3, 4]


def test_a_rule_has_one_look_in_all_figures(make_record):
    rules = ["backprop", "dyadic", "lrrn", "lpom"]
    records = [make_record(rule) for rule in rules]
    expected = {rule: look.colour for rule, look in looks(rules).items()}
    for draw in ALL:
        figure = draw(records)
        colours = {t.legendgroup: t.marker.color if t.type == "bar" else t.line.color for t in figure.data}
        assert colours == expected


def test_bars_show_the_median_time_and_the_ratio(make_record):
    times = ((1.0, 2.0), (5.0, 4.0), (2.0, 3.0))
    records = [make_record("lpom", i, step_ms=ms, step_ratio_to_backprop=r) for i, (ms, r) in enumerate(times)]
    (bar,) = figures.step_cost(records).data
    assert bar.x == (2.0,)
    assert bar.text == ("2.00 ms · 3.00×",)


def test_the_time_of_backpropagation_is_marked_only_where_it_was_run(make_record):
    with_it = figures.step_cost([make_record("dyadic"), make_record(step_ms=0.75)])
    assert [shape.x0 for shape in with_it.layout.shapes] == [0.75]
    assert not figures.step_cost([make_record("dyadic")]).layout.shapes


def test_an_unknown_ratio_is_not_shown(make_record):
    (bar,) = figures.step_cost([make_record(step_ratio_to_backprop=None)]).data
    assert bar.text == ("0.50 ms",)


def test_layers_are_counted_from_one_and_undefined_ones_left_out(make_record):
    curve = lines(figures.alignment_by_layer([make_record(alignment=[0.5, None, 0.75])]))["backprop"]
    assert list(curve.x) == [1, 3]
    assert list(curve.y) == [0.5, 0.75]


def test_equal_signs_are_in_per_cent(make_record):
    assert list(lines(figures.same_sign_by_layer([make_record()]))["backprop"].y) == [75, 100]


def test_straddling_is_in_per_cent(make_record):
    assert list(lines(figures.straddling_by_layer([make_record()]))["backprop"].y) == [25, 50]


def test_rounding_errors_do_not_look_like_disagreement(make_record):
    low, high = figures.alignment_by_layer([make_record(alignment=[0.999999, 1.0])]).layout.yaxis.range
    assert low <= 0.9
    assert high > 1


def test_the_figures_of_all_layers_share_a_scale_that_holds_every_cosine(make_record):
    records = [make_record()]
    ranges = {figures.alignment_over_training(records, layer).layout.yaxis.range for layer in (1, 2, 3)}
    assert len(ranges) == 1
    assert ranges.pop()[0] < 0.5


def test_a_shallower_network_is_absent_from_the_upper_layers(make_record):
    shallow = [{"epoch": 1, "alignment": [0.5]}, {"epoch": 2, "alignment": None}, {"epoch": 3}]
    records = [make_record(), make_record("lrrn", history=shallow)]
    assert list(lines(figures.alignment_over_training(records, 1))["lrrn"].x) == [1]
    assert set(lines(figures.alignment_over_training(records, 3))) == {"backprop"}


def test_angles_of_feedback_weights_are_drawn_on_a_scale_from_zero(make_record):
    figure = figures.feedback_angles([make_record()], 1)
    assert list(lines(figure)["backprop"].y) == [90.0, 60.0]
    assert figure.layout.yaxis.range == (0, 100)
    assert not figures.feedback_angles([make_record()], 2).data
    turned = make_record(history=[{"epoch": 1, "feedback_angles": [120.0]}])
    assert figures.feedback_angles([turned], 1).layout.yaxis.range == (0, 120)


def test_a_figure_without_measurements_has_no_traces(make_record):
    bare = make_record(step_ms=None)
    for key in ("history", "alignment", "norm_ratio", "same_sign", "straddling"):
        del bare[key]
    for draw in ALL:
        assert not draw([bare]).data


def test_names_are_escaped_for_plotly(make_record):
    for draw in ALL:
        (trace, *_) = draw([make_record("<b>bold</b>")]).data
        assert trace.name == "&lt;b&gt;bold&lt;/b&gt;"


def test_states_relaxing_are_drawn_against_the_iteration(relaxed):
    residual = lines(figures.residual_while_relaxing([relaxed()]))["dyadic"]
    assert (list(residual.x), list(residual.y)) == ([1, 2, 3], [1.0, 0.1, 1e-3])
    assert figures.residual_while_relaxing([relaxed()]).layout.yaxis.type == "log"
    energy = lines(figures.energy_while_relaxing([relaxed()]))["dyadic"]
    assert (list(energy.x), list(energy.y)) == ([1, 2, 3], [2.0, -1.0, -1.5])


def test_one_seed_a_rule_is_shown_relaxing(make_record, relaxed):
    longer = {"trace": [1.0, 0.5, 0.2, 0.1], "energy": [1.0] * 4}
    records = [make_record(), relaxed(), relaxed("lrrn"), relaxed(seed=1, relaxation=longer)]
    for draw in (figures.residual_while_relaxing, figures.energy_while_relaxing):
        drawn = draw(records)
        assert not bands(drawn)
        assert {rule: len(curve.x) for rule, curve in lines(drawn).items()} == {"dyadic": 3, "lrrn": 3}
        looked = looks(["backprop", "dyadic", "lrrn"])
        assert {rule: curve.line.color for rule, curve in lines(drawn).items()} == {
            rule: looked[rule].colour for rule in ("dyadic", "lrrn")
        }


def test_what_was_not_a_number_is_left_out_of_a_relaxation(relaxed):
    curve = lines(figures.residual_while_relaxing([relaxed(relaxation={"trace": [None, 0.1, 0.01]})]))["dyadic"]
    assert (list(curve.x), list(curve.y)) == ([2, 3], [0.1, 0.01])


def test_without_feedback_nothing_relaxes(make_record, relaxed):
    bare = make_record()
    del bare["relaxation"]
    for record in (make_record(), make_record(relaxation=None), bare):
        assert not figures.residual_while_relaxing([record]).data
        assert not figures.energy_while_relaxing([record]).data
    no_energy = relaxed()
    del no_energy["relaxation"]["energy"]
    assert not figures.energy_while_relaxing([no_energy]).data


def test_what_epochs_did_to_binary_weights_is_drawn(make_record):
    latents = {"largest": 2.0, "counts": [1, 2, 0, 1]}
    epochs = [{"epoch": 1, "flipped": 0.25, "multiplied": None}, {"epoch": 2, "flipped": 0.5, "latents": latents}]
    record = make_record(history=epochs)
    assert list(figures.flips_over_training([record]).data[-1].y) == [25.0, 50.0]
    assert not figures.multipliers_over_training([record]).data
    drawn = figures.latent_histograms([record]).data[-1]
    assert (list(drawn.x), list(drawn.y)) == ([-1.5, -0.5, 0.5, 1.5], [25.0, 50.0, 0.0, 25.0])
    assert not figures.latent_histograms([make_record()]).data
    assert not figures.flips_over_training([make_record()]).data
