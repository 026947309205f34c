"""Reconstructions: every pixel where it belongs, a name for every row, one grid a rule."""

from dyadnet.report.pictures import picture_grids

PICTURES = {"rows": ["inputs", "denoised"], "range": [0.0, 1.0], "pixels": [[0.0, 1.0], [0.5, 0.0], [1.0, 1.0], [0, 0]]}


def test_rows_are_named_in_their_middle_from_the_top(make_record):
    (figure,) = picture_grids([make_record("lrrn<b>", pictures=PICTURES)])
    (drawn,) = figure.data
    assert [list(row) for row in drawn.z] == PICTURES["pixels"]
    assert (drawn.zmin, drawn.zmax) == (0, 1)
    assert figure.layout.yaxis.tickvals == (0.5, 2.5)
    assert figure.layout.yaxis.ticktext == ("inputs", "denoised")
    assert figure.layout.yaxis.autorange == "reversed"
    assert figure.layout.yaxis.scaleanchor == "x"
    assert drawn.legendgroup == "lrrn<b>"
    assert figure.layout.title.text == "lrrn&lt;b&gt;"


def test_rules_without_pictures_have_no_grid(make_record):
    records = [make_record(), make_record("lrrn", pictures=PICTURES), make_record("lrrn", 1, pictures=None)]
    assert len(picture_grids(records)) == 1
