"""The exit codes of `voicedrop`. Typer exits with 2 on wrong usage."""

from __future__ import annotations

from core.errors import JobError, Misconfigured, Unavailable

DONE = 0
FAILED = 1
"""Something was refused or failed, or an audit has findings."""
NOT_AUDITED = 2
WAITING = 3
"""A job waits for a file."""
MISCONFIGURED = 4
"""A setting or key is missing or wrong."""
LATER = 5
"""The same command may succeed later."""
INTERRUPTED = 130


def of_error(error: JobError) -> int:
    if isinstance(error, Misconfigured):
        return MISCONFIGURED
    return LATER if isinstance(error, Unavailable) else FAILED
