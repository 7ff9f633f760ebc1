"""The reports: complete, self-contained, and safe with any class name or path."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from labelsmooth.report import write_study
from labelsmooth.report.study import calibrators_table, render_study, results_table
from labelsmooth.report.terminal import COLUMNS, print_study, print_table
from labelsmooth.study import StudyRecord
from labelsmooth.study.verdict import details, verdict


@pytest.fixture(scope="module")
def page(tiny_study: StudyRecord) -> str:
    return render_study(tiny_study)


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing(page: str) -> None:
    elements = Elements(page)
    assert elements.open == []
    assert not {tag for tag, _ in elements.tags} & {"script", "link", "iframe", "img", "object"}
    for _, attributes in elements.tags:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#"), attributes
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page


def test_ids_of_the_pictures_do_not_collide(page: str) -> None:
    for svg in re.findall(r"(?s)<svg.*?</svg>", page):
        assert 'role="img"' in svg
        assert 'aria-label="' in svg
        for reference in re.findall(r"url\(#([^)]+)\)", svg):
            assert f'id="{reference}"' in svg


def test_names_from_outside_are_escaped(page: str) -> None:
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "t&amp;wo" in page
    assert "labelsmooth study &lt;tiny&gt;" in page


def test_everything_is_on_the_page(page: str, tiny_study: StudyRecord) -> None:
    for heading in (
        "Results",
        "After a calibrator",
        "Reliability",
        "Confidence",
        "Training",
        "Logits",
        "Methods and settings",
    ):
        assert f"<h2>{heading}</h2>" in page
    # Four differences, three pictures for each method, and the logits.
    assert page.count("<svg") == 4 + 3 * len(tiny_study.methods) + 1
    # The recommendation and the rule lead the page; the other sentences are lists.
    assert page.count("<li") == len(tiny_study.verdict) - 2 + len(tiny_study.details)
    assert page.index(tiny_study.recommendation.text) < page.index("<h2>")
    for candidate in tiny_study.candidates:
        assert f"<td>{candidate.nll:.3f}</td>" in page.replace('class=""', "").replace("<td >", "<td>")


def test_a_comparison_has_one_card(page: str) -> None:
    section = page[page.index("<h2>Plain training → ") : page.index("<h2>What to use")]
    primary, alone = section.split("<h3>Without a calibrator")
    titles = [re.findall(r'<div class="card [^>]*><div>([A-Z]+)', part, re.IGNORECASE) for part in (primary, alone)]
    assert titles == [["Error", "NLL", "ECE"], ["NLL", "ECE", "AURC"]], "a temperature does not change the error"


def test_no_plus_minus_reaches_below_an_error_of_zero(tiny_study: StudyRecord) -> None:
    def smalls(low: float, high: float, metric: str) -> str:
        rows = [dataclasses.replace(row, mean=0.054, low=low, high=high) for row in tiny_study.summary]
        return results_table(dataclasses.replace(tiny_study, summary=rows), (metric,)).rows[0].cells[0].small

    assert smalls(0.013, 0.195, "error") == "1.3 to 19.5%"
    assert smalls(0.034, 0.074, "error") == "±2.0"
    assert smalls(-0.2, 0.3, "confidence_gap") == "±25.0"


def test_a_significant_difference_never_ends_at_zero(tiny_study: StudyRecord) -> None:
    ends = {"difference": 0.004, "low": 0.00001, "high": 0.008, "verdict": "differs", "note": ""}
    study = dataclasses.replace(
        tiny_study, comparisons=[dataclasses.replace(row, **ends) for row in tiny_study.comparisons]
    )
    study = dataclasses.replace(study, verdict=verdict(study), details=details(study))
    out = StringIO()
    print_study(study, Console(file=out, width=200))
    for text in (render_study(study), out.getvalue()):
        assert "+0.001 to +0.800" in text
        assert not re.search(r"[+-]0\.0+ to \+0\.", text)


def test_one_method_and_one_seed(tiny_study: StudyRecord) -> None:
    """A study of plain training alone has nothing to compare, and still a page."""
    alone = dataclasses.replace(
        tiny_study,
        methods=tiny_study.methods[:1],
        candidates=[c for c in tiny_study.candidates if c.method == "plain"],
        comparisons=[c for c in tiny_study.comparisons if c.method == "plain" and c.reference_method in ("", "plain")],
    )
    page = render_study(alone)
    assert "Each method against plain training" not in page


def test_the_pictures_have_no_ece_of_other_bins_than_the_tables(page: str) -> None:
    assert "as trained" in page
    assert "as trained: ECE" not in page


def test_the_file_is_written_whole(tiny_study: StudyRecord, tmp_path: Path) -> None:
    path = tmp_path / "a" / "report.html"
    write_study(tiny_study, path)
    assert path.read_text().rstrip().endswith("</html>")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize("width", [66, 80, 120])
@pytest.mark.parametrize("title", ["Label smoothing", "Penalty: brier-weighted 0.05"])
def test_no_interval_is_wrapped_in_the_terminal(tiny_study: StudyRecord, width: int, title: str) -> None:
    """With two seeds most intervals are wide, and written as two numbers."""
    highs = {"nll": 1.234, "aurc": 0.0345}
    summary = [
        dataclasses.replace(row, mean=0.1 * highs.get(row.metric, 0.4), low=0.0, high=highs.get(row.metric, 0.4567))
        for row in tiny_study.summary
    ]
    methods = [dataclasses.replace(method, title=title) for method in tiny_study.methods]
    study = dataclasses.replace(tiny_study, summary=summary, methods=methods)
    out = StringIO()
    for table in (results_table(study, COLUMNS), calibrators_table(study)):
        print_table(dataclasses.replace(table, note=""), Console(file=out, width=width), fit=True)
    lines = out.getvalue().splitlines()
    assert out.getvalue().count("0.000 to 1.234") >= 3
    assert all(len(line) <= width for line in lines)
    assert not [line for line in lines if re.search(r"\bto(  |$)|  to\b", line)]


@pytest.mark.parametrize("width", [66, 80, 160])
def test_the_terminal_shows_every_number_whole(tiny_study: StudyRecord, width: int) -> None:
    out = StringIO()
    print_study(tiny_study, Console(file=out, width=width))
    text = out.getvalue()
    assert "…" not in text
    for method in tiny_study.methods:
        assert method.title in text
    words = " ".join(text.split())
    assert " ".join(tiny_study.verdict[0].split()[:4]) in words
