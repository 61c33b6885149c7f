"""Child processes without coverage: for those that are timed or killed."""

from __future__ import annotations

import os


def environ_without_coverage() -> dict[str, str]:
    """Return the environment without the variables that start coverage in a child process."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
