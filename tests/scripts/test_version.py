"""Every release has a section in the changelog."""

from __future__ import annotations

import re
from pathlib import Path

from core.version import VERSION

CHANGELOG = (Path(__file__).parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (.+)$", CHANGELOG, flags=re.MULTILINE)


def test_the_version_has_a_section() -> None:
    assert SECTIONS[0] == "Unreleased"
    assert SECTIONS[1].startswith(f"{VERSION} - ")


def test_releases_are_dated_and_in_descending_order() -> None:
    releases = [
        re.fullmatch(r"(\d+)\.(\d+)\.(\d+) - \d{4}-\d\d-\d\d", name) for name in SECTIONS[1:]
    ]
    assert all(releases)
    numbers = [tuple(map(int, found.groups())) for found in releases if found]
    assert numbers == sorted(numbers, reverse=True)
