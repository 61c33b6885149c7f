"""`voicedrop trace`: which job made a clip."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import msgspec

from core.errors import Misconfigured, Refused
from core.result.document import format_timestamp
from core.result.item_result import Problem
from core.settings import Settings
from core.trace import registry
from core.trace.scan import Keys
from core.trace.trace import Resolve, Trace, trace_recording
from handlers import wiring
from handlers.cli import exit_codes
from handlers.cli.files import read_file, reading
from handlers.cli.screen import CommandOutput


def trace_clips(settings: Settings, clips: list[Path], index: Path | None) -> CommandOutput:
    """Read the watermarks of clips, and find their jobs in an audit's index or in the bucket.
    A clip that cannot be read does not stop the others.

    Needs the watermark keys alone. Raises Misconfigured KEY_NOT_FOUND without them.
    """
    wiring.require_sandbox(settings)
    credentials = wiring.CurrentCredentials(os.environ)
    keys = wiring.load_reading_keys(settings, credentials)
    if not keys.watermark:
        raise Misconfigured("KEY_NOT_FOUND", f"No watermark-*.key in {settings.keys}.")
    resolve: Resolve = partial(
        registry.resolve,
        wiring.open_store(settings.results, settings, credentials),
        verifying=keys.verifying,
        watermark=keys.watermark,
    )
    if index:
        resolve = registry.read_index(read_file(index)).resolve
    traces: list[Trace] = []
    failed: list[Problem] = []
    lines: list[str] = []
    for clip in dict.fromkeys(clips):
        try:
            trace = _trace(clip, keys.watermark, resolve)
        except Refused as exc:
            failed.append(Problem.from_error(exc))
            lines.append(f"{clip}: The clip could not be read ({exc.code}): {exc.message}")
        else:
            traces.append(trace)
            lines.append(f"{clip}: {trace.meaning}")
    has_errors = failed or any(trace.error for trace in traces)
    data = {"traces": msgspec.to_builtins(traces), "failed": msgspec.to_builtins(failed)}
    return CommandOutput(data, lines, exit_codes.FAILED if has_errors else exit_codes.DONE)


def _trace(clip: Path, keys: Keys, resolve: Resolve) -> Trace:
    """Raises Refused OBJECT_MISSING."""
    with reading(clip), clip.open("rb") as file:
        return trace_recording(file, clip.name, keys, resolve, format_timestamp(time.time()))
