"""`voicedrop trace`: which job made a clip."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import msgspec

from core.errors import Misconfigured, Refused
from core.result.document import format_timestamp
from core.settings import Settings
from core.trace import registry
from core.trace.scan import Keys
from core.trace.trace import Resolve, Trace, trace_recording
from handlers import wiring
from handlers.cli import exit_codes
from handlers.cli.files import read_file
from handlers.cli.screen import CommandOutput


def trace_clips(settings: Settings, clips: list[Path], index: Path | None) -> CommandOutput:
    """Read the watermarks of clips, and find their jobs in an audit's index or in the bucket.

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
    traces = {str(clip): _trace(clip, keys.watermark, resolve) for clip in clips}
    lines = [f"{name}: {trace.meaning}" for name, trace in traces.items()]
    has_errors = any(trace.error for trace in traces.values())
    data = {"traces": [msgspec.to_builtins(trace) for trace in traces.values()]}
    return CommandOutput(data, lines, exit_codes.FAILED if has_errors else exit_codes.DONE)


def _trace(clip: Path, keys: Keys, resolve: Resolve) -> Trace:
    try:
        with clip.open("rb") as file:
            return trace_recording(file, clip.name, keys, resolve, format_timestamp(time.time()))
    except OSError as exc:
        raise Refused("OBJECT_MISSING", f"{exc.strerror}.", pointer=str(clip)) from exc
