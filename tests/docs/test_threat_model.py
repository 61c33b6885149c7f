"""The threat model names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and line.count(" | ") == 3]


def test_every_threat_names_a_test_and_every_test_exists() -> None:
    threats = [row for row in ROWS if not row.startswith("| who |")]
    assert len(threats) > 40
    for row in threats:
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row.rsplit(" | ", 1)[1])
        assert named, row
        for file, test in named:
            source = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {test}\(", source, re.MULTILINE), f"{file}::{test}"


def test_every_place_it_points_to_exists() -> None:
    places = re.findall(r"`((?:core|handlers|watermark|cloud)/[\w/.]*)`", TEXT)
    # tests are named by their folder under tests/, some of which are called as ours are
    places = [place for place in places if not re.search(r"/test_\w+\.py", place)]
    assert len(set(places)) > 15
    assert [place for place in places if not (ROOT / place).exists()] == []
