"""The page of bad input names every case, and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

from core import errors

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/bad-input.md").read_text()
ROWS = [line.split(" | ") for line in PAGE.splitlines() if re.match(r"\| \d+ \|", line)]


def test_all_hundred_cases_are_there_in_order() -> None:
    assert [int(row[0].strip("| ")) for row in ROWS] == list(range(1, 101))


def test_every_case_names_tests_that_exist() -> None:
    for number, *_, tests in ROWS:
        named = re.findall(r"`([^`]+\.py)::(\w+)`", tests)
        assert named, number
        for file, name in named:
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"


def test_every_code_is_one_of_ours() -> None:
    families = (errors.REFUSED, errors.FAILED, errors.MISCONFIGURED, errors.UNAVAILABLE)
    ours = set().union(*families, errors.NOTICES)
    named = {code for row in ROWS for code in re.findall(r"`([A-Z]+_[A-Z0-9_]+)`", row[2])}
    assert len(named) > 60
    assert named <= ours
