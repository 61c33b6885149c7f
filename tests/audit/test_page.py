"""The report in a browser."""

from __future__ import annotations

import html
import shutil
import struct
from pathlib import Path

import msgspec
import pytest

from core import audit
from core.audit import page, report
from tests.audit.conftest import open_sources
from tests.audit.test_findings import flip_a_bit, release_without_a_mark
from tests.support import browser

PLOTS_SCRIPT = """return [...document.querySelectorAll("svg")].map((plot) => ({
  name: plot.id, width: plot.getBoundingClientRect().width,
  bars: [...plot.querySelectorAll("rect")].map((bar) => {
    const box = bar.getBoundingClientRect();
    return { label: bar.querySelector("title").textContent, height: box.height, width: box.width,
      inside: box.left >= 0 && box.right <= innerWidth, fill: getComputedStyle(bar).fill };
  }) }));"""


@pytest.fixture
def result(clean: Path, tmp_path: Path) -> report.Report:
    root = shutil.copytree(clean, tmp_path / "damaged")
    flip_a_bit(root)
    release_without_a_mark(root)
    sources = open_sources(root)
    return audit.build_report(audit.audit_bucket(sources), sources, "")


@pytest.mark.slow
def test_a_browser_shows_the_plots(result: report.Report, tmp_path: Path) -> None:
    page_path = tmp_path / "report.html"
    page_path.write_text(page.render(result), encoding="utf-8")
    plots = browser.run_script(page_path, tmp_path, PLOTS_SCRIPT)
    assert [plot["name"] for plot in plots] == ["plot-outcomes", "plot-score", "plot-duration"]
    for plot in plots:
        assert plot["width"] > 500
        assert plot["bars"]
        counts = [int(bar["label"].rpartition(": ")[2]) for bar in plot["bars"]]
        for count, bar in zip(counts, plot["bars"], strict=True):
            assert bar["inside"]
            assert bar["width"] > 3
            assert bar["fill"] not in ("none", "rgb(0, 0, 0)")
            highest = max(b["height"] / c for b, c in zip(plot["bars"], counts, strict=True))
            assert bar["height"] == pytest.approx(count * highest, abs=1)
    assert len({bar["fill"] for bar in plots[0]["bars"]}) == len(
        {name for period in result.outcomes for name in page.STATUSES if getattr(period, name)}
    )


@pytest.mark.slow
def test_a_browser_can_take_a_screenshot_of_the_report(
    result: report.Report, tmp_path: Path
) -> None:
    page_path = tmp_path / "report.html"
    page_path.write_text(page.render(result), encoding="utf-8")
    picture = browser.take_screenshot(page_path, tmp_path / "report.png", width=900, height=1500)
    assert picture.startswith(b"\x89PNG")
    assert struct.unpack(">II", picture[16:24]) == (900, 1500)
    assert len(picture) > 40_000  # an empty page has a tenth of this size


def test_a_plot_of_many_days_labels_about_twelve_and_a_page_without_codes_explains_none(
    result: report.Report,
) -> None:
    days = [report.Period(period=f"day-{i}", succeeded=1) for i in range(30)]
    shown = page.render(msgspec.structs.replace(result, outcomes=days))
    labels = [i for i in range(30) if f">day-{i}</text>" in shown]
    assert labels == [*range(0, 30, 3)]
    meaning = next(iter(result.codes.values()))
    assert html.escape(meaning) in shown
    assert html.escape(meaning) not in page.render(msgspec.structs.replace(result, codes={}))
