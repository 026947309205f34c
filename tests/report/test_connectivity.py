"""The adjacency matrix: every weight where it belongs, white at zero, a line between layers."""

from dyadnet.report.connectivity import connectivity_maps
from dyadnet.report.palette import NEUTRAL


def test_rows_receive_and_columns_send_from_the_top_left(relaxed):
    (figure,) = connectivity_maps([relaxed()])
    (heat_map,) = figure.data
    assert [list(row) for row in heat_map.z] == relaxed()["connectivity"]["weights"]
    assert figure.layout.yaxis.range == (2.5, -0.5)  # the first row on top
    assert figure.layout.xaxis.range == (-0.5, 2.5)
    assert figure.layout.yaxis.scaleanchor == "x"


def test_zero_is_white_and_both_signs_have_the_same_scale(relaxed):
    (figure,) = connectivity_maps([relaxed()])
    (heat_map,) = figure.data
    assert (heat_map.zmin, heat_map.zmax) == (-0.5, 0.5)
    assert heat_map.colorscale[1] == (0.5, NEUTRAL)


def test_a_line_lies_between_layers_and_a_label_in_their_middle(relaxed):
    (figure,) = connectivity_maps([relaxed()])
    lines = {(shape.x0, shape.x1, shape.y0, shape.y1) for shape in figure.layout.shapes}
    assert lines == {(0, 1, 1.5, 1.5), (1.5, 1.5, 0, 1)}
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert (axis.tickvals, axis.ticktext) == ((0.5, 2), ("1", "2"))


def test_there_is_one_map_a_rule_with_feedback(make_record, relaxed):
    records = [make_record(), relaxed(), relaxed("lrrn<b>"), relaxed(seed=1, connectivity=None)]
    found = connectivity_maps(records)
    assert [figure.data[0].legendgroup for figure in found] == ["dyadic", "lrrn<b>"]
    assert [figure.layout.title.text for figure in found] == ["dyadic", "lrrn&lt;b&gt;"]
    assert connectivity_maps([make_record(), make_record("lpom", connectivity=None)]) == []


def test_a_network_without_any_weight_is_white(relaxed):
    nothing = {"layers": ["1"], "bins": [1], "weights": [[0.0]]}
    (figure,) = connectivity_maps([relaxed(connectivity=nothing)])
    assert figure.data[0].zmax == 1
    assert not figure.layout.shapes
