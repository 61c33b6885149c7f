"""`voicedrop sweep`: finish what lost notifications and killed workers left undone."""

from __future__ import annotations

import msgspec

from core.settings import Settings
from handlers import sweep, wiring
from handlers.cli import exit_codes
from handlers.cli.screen import CommandOutput, Progress
from handlers.sweep import SweepReport


def sweep_buckets(settings: Settings, *, grace: float, progress: Progress) -> CommandOutput:
    """`grace`: seconds in which the notification of a new manifest may still arrive."""
    runtime = wiring.create_local_runtime(settings, progress)
    wiring.check_stores(runtime)
    wiring.require_recogniser(settings)
    return format_output(sweep.run_sweep(runtime, grace=grace))


def format_output(swept: SweepReport) -> CommandOutput:
    findings = [msgspec.to_builtins(finding) for finding in swept.findings]
    lines = [sweep.describe(finding) for finding in swept.findings]
    if (more := swept.counts.total() - len(swept.findings)) > 0:
        lines.append(f"and {more} more")
    lines.append(
        f"{swept.manifests} manifests, {swept.finished} jobs finished, {swept.open_jobs} open."
    )
    data = sweep.summarise(swept) | {"findings": findings}
    return CommandOutput(data, lines, _exit_code(swept))


def _exit_code(swept: SweepReport) -> int:
    if swept.failures:
        return exit_codes.FAILED
    if not swept.open_jobs:
        return exit_codes.DONE
    return exit_codes.WAITING if swept.waiting_jobs == swept.open_jobs else exit_codes.LATER
