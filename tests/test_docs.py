"""What README, docs and examples say is run and compared with what happens.

A document is one test: its blocks share names. The fence ` ```text ` that follows a block of Python holds what the
block printed; decimal numbers may differ by rounding, as they do between processors.
"""

import io
import math
import re
import runpy
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import jaxtyping
import pytest
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@pytest.fixture(autouse=True)
def at_a_users_speed() -> Iterator[None]:
    """Shapes are checked by the other tests; here thousands of training steps are taken."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def agree(said: str, happened: str) -> bool:
    """Whether two outputs are the same but for the last digits of decimal numbers."""
    words = [NUMBER.sub("#", text).split() for text in (said, happened)]
    numbers = list(zip(NUMBER.findall(said), NUMBER.findall(happened), strict=False))
    return words[0] == words[1] and all(_close(a, b) for a, b in numbers)


def _close(a: str, b: str) -> bool:
    return a == b or (not a.lstrip("+-").isdigit() and math.isclose(float(a), float(b), rel_tol=0.05, abs_tol=0.02))


def check(document: Document) -> None:
    """Run a document's blocks in order, and compare what they print with what it says."""
    printed = ""
    for example in document:
        if _is_output(example):
            if printed:
                assert agree(example.parsed, printed), f"{_place(example)} says\n{example.parsed}\nbut got\n{printed}"
            printed = ""
        else:
            out = io.StringIO()
            with redirect_stdout(out):
                example.evaluate()
            printed = out.getvalue()


def parse(path: Path) -> Document:
    return Document.parse(str(path), PythonCodeBlockParser(), CodeBlockParser("text", evaluator=lambda example: None))


def _is_output(example: Example) -> bool:
    return example.region.lexemes.get("arguments") == "text"


def _place(example: Example) -> str:
    return f"{Path(example.path).name}:{example.line}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_runs_and_prints_what_the_page_says(path: Path):
    check(parse(path))


def test_the_tutorial_shows_its_output():
    shown = [example.parsed for example in parse(ROOT / "docs/tutorial/first-steps.md") if _is_output(example)]
    assert len(shown) >= 5
    assert all(text.strip() for text in shown)


def test_a_wrong_output_is_noticed(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint('cosine', 0.5)\n```\n\n```text\ncosine 0.9\n```\n")
    with pytest.raises(AssertionError, match=r"page.md:5 says"):
        check(parse(page))


def test_rounding_is_no_difference_but_another_word_or_count_is():
    assert agree("accuracy 0.956  steps 15", "accuracy 0.953 steps 15")
    assert not agree("accuracy 0.956  steps 15", "accuracy 0.956 steps 16")
    assert not agree("accuracy 0.956", "error 0.956")
    assert not agree("cosine 0.99", "cosine nan")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(path: Path):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs_and_learns(path: Path):
    out = io.StringIO()
    with redirect_stdout(out):
        runpy.run_path(str(path), run_name="__main__")
    best = max(float(percent) for percent in re.findall(r"(\d+\.\d) %", out.getvalue()))
    assert 92 < best <= 100


def test_the_examples_are_short_and_numbered():
    assert [path.name[:2] for path in EXAMPLES] == [f"{i:02d}" for i in range(1, len(EXAMPLES) + 1)]
    assert all(len(path.read_text().splitlines()) <= 60 for path in EXAMPLES)
