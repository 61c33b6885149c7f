"""For processes whose time counts, or that go where other tests have been: untraced ones."""

from __future__ import annotations

import os


def environ_without_coverage() -> dict[str, str]:
    """Ours, without what makes coverage trace a new process."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
