"""`voicedrop abx`: the content of the page, and the test in a browser."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

import watermark
from core.errors import Refused
from handlers.cli import app as cli
from handlers.cli.listening_test import make_listening_test
from handlers.cli.screen import Progress
from tests.support import browser
from tests.support.speech import FOLDER, NAMES, RATE, load_clip


def make_page(sources: list[Path], out: Path, **request: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {"trials": 4, "seconds": 2.0, "preset": "balanced"}
    return make_listening_test(
        sources, out, **(usual | request), progress=Progress(quiet=True)
    ).data


def page_data(page: Path) -> dict[str, Any]:
    """Return the data of a page, which are in one line of its script."""
    match = re.search(r"^const page = (.*);$", page.read_text(), flags=re.MULTILINE)
    assert match
    report: dict[str, Any] = json.loads(match[1])
    return report


def decode_address(address: str) -> np.ndarray:
    kind, _, data = address.partition(",")
    assert kind == "data:audio/wav;base64"
    samples: np.ndarray
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="float32")
    assert rate == RATE
    return samples


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("abx") / "folder/abx.html"
    report = make_page([FOLDER / NAMES[0], FOLDER / NAMES[1]], out, trials=5)
    assert (report["clips"], report["trials"], report["strength"]) == (2, 5, watermark.DEFAULT)
    return out


def test_a_pair_is_the_loudest_stretch_without_and_with_a_mark(page: Path) -> None:
    plain, marked = (
        decode_address(page_data(page)["clips"][0][name]) for name in ("plain", "marked")
    )
    assert len(plain) == len(marked) == 2 * RATE
    assert np.std(plain) > np.std(load_clip(NAMES[0]))
    error = 10 * np.log10(np.sum(plain**2) / np.sum((plain - marked) ** 2))
    assert 10 < error < 25


def test_a_stronger_mark_can_be_asked_for(tmp_path: Path) -> None:
    make_page([FOLDER / NAMES[0]], tmp_path / "abx.html", preset="robust")
    assert page_data(tmp_path / "abx.html")["strength"] == watermark.ROBUST


def test_the_answers_are_not_in_the_page(page: Path) -> None:
    assert set(page_data(page)) == {"id", "version", "strength", "trials", "clips"}
    assert set(page_data(page)["clips"][0]) == {"name", "plain", "marked"}


def test_two_pages_never_share_a_key(page: Path, tmp_path: Path) -> None:
    """A clip with and without its mark reveals parts of the key."""
    make_page([FOLDER / NAMES[0]], tmp_path / "abx.html")
    one, other = (
        decode_address(page_data(p)["clips"][0]["marked"]) for p in (page, tmp_path / "abx.html")
    )
    assert not np.array_equal(one, other)


def test_a_name_cannot_break_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    name = "<!--<script>PAGE.wav"
    soundfile.write(folder / name, load_clip(), RATE)
    make_page([folder], tmp_path / "abx.html")
    assert page_data(tmp_path / "abx.html")["clips"][0]["name"] == name
    assert tmp_path.joinpath("abx.html").read_text().count("<script>") == 1


@pytest.mark.parametrize(
    ("source", "code"),
    [
        pytest.param("nowhere", "OBJECT_MISSING", id="nothing-there"),
        pytest.param("empty", "OBJECT_MISSING", id="empty-folder"),
        pytest.param("short.wav", "AUDIO_TOO_SHORT", id="short"),
        pytest.param("page.wav", "AUDIO_NOT_AUDIO", id="not-audio"),
    ],
)
def test_files_without_usable_audio_are_refused(tmp_path: Path, source: str, code: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "page.wav").write_bytes(b"<html></html>")
    soundfile.write(tmp_path / "short.wav", load_clip()[: RATE // 2], RATE)
    with pytest.raises(Refused, match=code) as caught:
        make_page([tmp_path / source], tmp_path / "abx.html")
    assert source in str(caught.value)
    assert not (tmp_path / "abx.html").exists()


@pytest.mark.slow
def test_the_command_writes_the_page(tmp_path: Path) -> None:
    arguments = ["abx", str(FOLDER), "-o", str(tmp_path / "abx.html"), "--seconds", "1"]
    ran = CliRunner().invoke(cli.app, [*arguments, "--mark", "quiet"])
    assert ran.exit_code == 0, ran.output
    assert "16 trials of 6 clips" in ran.output.replace("\n", "")
    assert page_data(tmp_path / "abx.html")["strength"] == watermark.QUIET


LISTEN = """
  const said = [];
  const early = document.querySelector('[data-say="a"]').disabled;
  while (currentTrial()) {
    for (const which of ["a", "b", "x"]) {
      document.querySelector(`[data-play="${which}"]`).click();
      await new Promise((go) => setTimeout(go, 50));
    }
    const trial = currentTrial();
    const right = said.length < %d;
    const answer = right === (trial.x === "a") ? "a" : "b";
    document.querySelector(`[data-say="${answer}"]`).click();
    said.push(right);
  }
  let kept = null;
  URL.createObjectURL = (blob) => { kept = blob; return "#"; };
  byId("save").click();
  return { early, answers: JSON.parse(await kept.text()), words: byId("verdict").textContent,
           rows: byId("rows").rows.length, hidden: byId("test").hidden };
"""


@pytest.mark.slow
@pytest.mark.parametrize("right", [5, 2])
def test_a_listener_is_told_how_likely_guessing_is(page: Path, tmp_path: Path, right: int) -> None:
    report = browser.run_script(page, tmp_path, LISTEN % right)
    probability = sum(math.comb(5, k) for k in range(right, 6)) / 2**5
    answers = report["answers"]
    assert (answers["right"], answers["of"], answers["p"]) == (right, 5, pytest.approx(probability))
    assert f"{right} of 5 correct" in report["words"]
    assert ("seem to hear" in report["words"]) == (probability < 0.05)
    assert (report["early"], report["hidden"], report["rows"]) == (True, True, 6)
    assert [t["answer"] == t["x"] for t in answers["trials"]] == [True] * right + [False] * (
        5 - right
    )
    assert {t["clip"] for t in answers["trials"]} == set(NAMES[:2])
    assert (answers["strength"], answers["finished"] > answers["started"]) == (2.2, True)
    assert "clips" not in answers


@pytest.mark.slow
def test_x_and_sides_are_drawn_by_chance(page: Path, tmp_path: Path) -> None:
    script = """const count = { a: 0, b: 0 }, sides = { a: 0, b: 0 };
      for (let i = 0; i < 400; i++) for (const trial of newState().trials) {
        count[trial.x]++; sides[trial.marked]++; }
      return [count, sides];"""
    for drawn in browser.run_script(page, tmp_path, script):
        assert drawn["a"] + drawn["b"] == 2000
        assert 880 < drawn["a"] < 1120
