import json
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dyadnet.report import write_report
from dyadnet.report.page import render
from dyadnet.report.palette import looks

RULES = ("backprop", "dual-propagation:alpha=0,beta=0.1", "equilibrium-propagation:beta=0.2")
ENVIRONMENT = {"python": "3.11.7", "commit": "3f2c9a1", "device": "cpu"}
SETTINGS = {"optimizer": {"name": "adam", "betas": [0.9, 0.999]}, "limit": None}
LOADING = {"src", "href", "srcset", "data", "poster", "action"}


class Page(HTMLParser):
    """The page as a browser reads it: its tags, its text outside of scripts, and its figures."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.lasttag not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def figures(self) -> list[dict]:
        return [json.loads(attrs["data-figure"] or "") for _, attrs in self.tags if "data-figure" in attrs]

    @property
    def titles(self) -> list[str]:
        return [figure["layout"]["title"]["text"] for figure in self.figures]

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def read(records, title: str = "Rules compared") -> Page:
    return Page(render(title, records, ENVIRONMENT, SETTINGS))


@pytest.fixture
def records(make_record):
    return [make_record(rule, seed, test_accuracy=0.96 + 0.01 * seed) for rule in RULES for seed in range(3)]


def test_the_page_shows_every_rule_with_its_numbers(records):
    text = read(records).text
    for rule in RULES:
        assert rule in text
        assert rule.split(":")[0] in text
    assert text.count("97.00 ± 1.00") == len(RULES)
    assert text.count("1.0e-06") == len(RULES)


def test_every_section_is_there_with_a_sentence_that_explains_it(records):
    page = render("Rules compared", records, ENVIRONMENT, SETTINGS)
    for heading in ("Summary", "Learning curves", "Cost of a step", "Agreement with", "Settings and environment"):
        _, _, after = page.partition(f"<h2>{heading}")
        assert after.partition("</h2>")[2].lstrip().startswith('<p class="how">')


def test_settings_and_environment_are_shown_with_dotted_names(records):
    text = read(records).text
    for pair in ("optimizer.name adam", "optimizer.betas 0.9, 0.999", "limit –", "commit 3f2c9a1", "python 3.11.7"):
        assert pair in text


def test_the_page_loads_nothing_from_elsewhere(records):
    page = read(records)
    loads = [attrs[name] for _, attrs in page.tags for name in LOADING & attrs.keys()]
    assert loads == ["data:,"]  # the empty icon, which keeps browsers from asking for one
    policies = [attrs.get("content") for tag, attrs in page.tags if tag == "meta" and "http-equiv" in attrs]
    assert policies
    assert policies[0].startswith("default-src 'none'")
    assert "http" not in policies[0]


def test_plotly_is_inlined_once_whatever_the_number_of_figures(records):
    page = read(records)
    assert len(page.figures) > 5
    assert page.count("script") == 2  # plotly and what draws with it


def test_markup_in_names_is_text_and_not_run(make_record):
    attack = "<script>alert(1)</script>"
    record = make_record(attack, network='"><img src=x onerror=alert(1)>')
    html = render(attack, [record], {attack: attack}, {attack: attack})
    assert attack not in html
    page = Page(html)
    assert attack in page.text
    assert page.count("script") == 2
    assert page.count("img") == 0
    assert {trace["legendgroup"] for figure in page.figures for trace in figure["data"]} == {attack}


def test_a_rule_has_the_same_colour_in_the_table_the_legend_and_the_figures(records):
    page = read(records)
    expected = [look.colour for look in looks(RULES).values()]
    keys = [attrs["style"] for _, attrs in page.tags if (attrs.get("class") or "").startswith("key")]
    assert keys == [f"color: {colour}" for colour in expected * 2]
    curves = [trace for trace in page.figures[0]["data"] if trace.get("fill") is None]
    assert [trace["line"]["color"] for trace in curves] == expected


def test_a_button_for_each_rule_names_the_traces_it_hides(records):
    page = read(records)
    buttons = {attrs["data-rule"] for tag, attrs in page.tags if tag == "button"}
    assert buttons == set(RULES)
    for figure in page.figures:
        assert {trace["legendgroup"] for trace in figure["data"]} == buttons


def test_a_single_run_has_no_spread_and_no_buttons(make_record):
    page = read([make_record("dyadic")])
    assert "dyadic" in page.text
    assert "±" not in page.text
    assert page.count("button") == 0
    assert page.titles == [
        "Test accuracy (%)",
        "Train loss (logarithmic)",
        "Time of a training step (ms)",
        "Direction at the end (cosine)",
        "Length at the end (ratio)",
        "Equal signs at the end (%)",
        "Units astride a kink (%)",
        "Layer 1 (cosine)",
        "Layer 2 (cosine)",
        "Layer 3 (cosine)",
        "To layer 1 (degrees)",
    ]


def test_without_history_the_rest_of_the_page_stands(make_record):
    record = make_record()
    for key in ("history", "norm_ratio", "same_sign", "straddling"):
        del record[key]
    page = read([record])
    assert page.titles == ["Time of a training step (ms)", "Direction at the end (cosine)"]
    assert "Learning curves" not in page.text
    assert "Over training" not in page.text


def test_a_history_without_alignment_gives_curves_only(make_record):
    page = read([make_record(history=[{"epoch": 1, "train_loss": 1.0, "test_accuracy": 0.5}])])
    assert "Learning curves" in page.text
    assert "Over training" not in page.text


def test_networks_are_named_where_they_differ(make_record):
    mixed = read([make_record(), make_record("lrrn", network="symmetric 64-10")]).text
    assert "symmetric 64-10" in mixed
    assert "mlp 64-32-32-10" in mixed
    assert "2 networks" in mixed


def test_unconverged_relaxations_are_pointed_out(make_record):
    failed = {"iterations": 9, "residual": 0.5, "converged": False}
    assert "did not converge" in read([make_record(relaxation=failed)]).text
    assert "did not converge" not in read([make_record()]).text


def test_networks_with_feedback_have_a_section_of_their_own(make_record, relaxed):
    page = read([make_record(), relaxed(), relaxed(seed=1, connectivity=None)])
    assert "Networks with feedback" in page.text
    assert page.titles[-3:] == ["Residual (logarithmic)", "Energy", "dyadic"]
    assert {"Unset- tled %", "0.00"} <= {" ".join(words.split()) for words in page.words}
    buttons = {attrs["data-rule"] for tag, attrs in page.tags if tag == "button"}
    hidden = {trace["legendgroup"] for figure in page.figures[-3:] for trace in figure["data"]}
    assert hidden == {"dyadic"} < buttons


def test_without_feedback_there_is_no_such_section(make_record):
    assert "Networks with feedback" not in read([make_record()]).text


def test_diverged_values_are_valid_json(make_record):
    history = [{"epoch": 1, "train_loss": math.nan, "test_accuracy": 0.1}]
    page = read([make_record(train_loss=math.nan, history=history)])
    losses = page.figures[page.titles.index("Train loss")]
    assert losses["data"][0]["y"] == [None]
    assert "nan" in page.text


def test_writing_returns_the_path_and_leaves_only_the_page(records, tmp_path: Path):
    path = tmp_path / "runs" / "digits" / "report.html"
    assert write_report(path, "Title", records, ENVIRONMENT, SETTINGS) == path
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8") == render("Title", records, ENVIRONMENT, SETTINGS)


def test_an_interrupted_write_leaves_the_old_page_whole(records, tmp_path: Path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    write = Path.write_text

    def interrupted(self: Path, text: str, **kwargs: str) -> int:
        write(self, text[:100], **kwargs)
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(OSError, match="no space left"):
        write_report(path, "Title", records, ENVIRONMENT, SETTINGS)
    assert path.read_text(encoding="utf-8") == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_records_that_cannot_be_aggregated_write_nothing(tmp_path: Path):
    with pytest.raises(ValueError, match="no records"):
        write_report(tmp_path / "report.html", "Title", [], ENVIRONMENT, SETTINGS)
    assert not list(tmp_path.iterdir())
