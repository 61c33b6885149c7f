"""`voicedrop sweep`: finish what lost notifications left unfinished."""

from __future__ import annotations

import msgspec

from core.settings import Settings
from handlers import sweep, wiring
from handlers.cli.screen import Progress, Report
from handlers.sweep import Sweep

EXIT_FAILED, EXIT_WAITING, EXIT_LATER = 1, 3, 5


def run(settings: Settings, *, grace: float, progress: Progress) -> Report:
    runtime = wiring.local_runtime(settings, progress)
    wiring.check_stores(runtime)
    return report(sweep.run(runtime, grace=grace))


def report(swept: Sweep) -> Report:
    findings = [msgspec.to_builtins(finding) for finding in swept.findings]
    lines = [sweep.describe(finding) for finding in swept.findings]
    if (more := swept.counts.total() - len(swept.findings)) > 0:
        lines.append(f"and {more} more")
    lines.append(
        f"{swept.manifests} manifests, {swept.finished} jobs finished, {swept.undone} open."
    )
    return Report(sweep.summary(swept) | {"findings": findings}, lines, _exit_code(swept))


def _exit_code(swept: Sweep) -> int:
    if swept.broken:
        return EXIT_FAILED
    if not swept.undone:
        return 0
    return EXIT_WAITING if swept.waiting == swept.undone else EXIT_LATER
