"""`voicedrop trace`: which job made a clip."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from core.errors import JobError, Misconfigured, Refused
from core.result.document import format_timestamp
from core.result.item_result import Problem
from core.settings import Settings
from core.storage.port import Store
from core.trace import mark_keys, registry
from core.trace.registry import Index
from core.trace.scan import Keys
from core.trace.trace import Resolve, Trace, trace_recording
from handlers import wiring
from handlers.cli import exit_codes
from handlers.cli.files import read_file, reading
from handlers.cli.screen import CommandOutput, Progress

_KEEP_KEYS = (
    "Only the keys with which clips were marked find these marks. Is the installation in another "
    "folder? Change to it with `cd`, or set VOICEDROP_KEYS to the folder of its keys."
)
_NO_CONCLUSION = (
    "From a clip in which our mark was not found, nothing can be concluded about them: put the key "
    "there, and trace the clip again."
)


def trace_clips(
    settings: Settings, clips: list[Path], index: Path | None, progress: Progress
) -> CommandOutput:
    """Read the watermarks of clips, and find their jobs in an audit's index or in the bucket.

    Each answer is reported as soon as it is known, because a clip may take minutes. A clip that
    cannot be read does not stop the others. Says if there is what other keys marked. Needs the
    watermark keys alone. Raises Misconfigured KEY_NOT_FOUND without them.
    """
    wiring.require_sandbox(settings)
    credentials = wiring.CurrentCredentials(os.environ)
    keys = wiring.load_reading_keys(settings, credentials)
    if not keys.watermark:
        folder = settings.keys.resolve()
        message = f"There is no watermark key (such as watermark-001.key) in {folder}. {_KEEP_KEYS}"
        raise Misconfigured("KEY_NOT_FOUND", message, advice="")
    results = wiring.open_store(settings.results, settings, credentials)
    resolve: Resolve = partial(
        registry.resolve, results, verifying=keys.verifying, watermark=keys.watermark
    )
    copy = registry.read_index(read_file(index)) if index else None
    if copy:
        resolve = copy.resolve
    traces: list[Trace] = []
    failed: list[Problem] = []
    for clip in dict.fromkeys(clips):
        progress.update_status(f"{clip}: searching for marks")
        try:
            trace = _trace(clip, keys.watermark, resolve)
        except Refused as exc:
            failed.append(Problem.from_error(exc))
            progress.report(f"{clip}: The clip could not be read ({exc.code}): {exc.message}")
        else:
            traces.append(trace)
            progress.report(f"{clip}: {trace.meaning}")
    has_errors = failed or any(trace.error for trace in traces)
    data: dict[str, Any] = {
        "traces": msgspec.to_builtins(traces),
        "failed": msgspec.to_builtins(failed),
    }
    is_open = any(trace.marked is False for trace in traces)
    if is_open and (missing := _find_missing_keys(copy or results, keys.watermark)):
        data["remark"] = f"{missing}, which is not in {settings.keys}. {_NO_CONCLUSION}"
        progress.report(data["remark"])
    return CommandOutput(data, exit_code=exit_codes.FAILED if has_errors else exit_codes.DONE)


def _find_missing_keys(marked: Index | Store, keys: Keys) -> str:
    """Say which marks are of keys that are not here; empty if there are none, or if the bucket is
    out of reach."""
    if isinstance(marked, Index):
        is_foreign = mark_keys.has_foreign_marks(marked, keys.values())
        return "The index has marks of another watermark key" if is_foreign else ""
    with suppress(JobError):
        if named := mark_keys.find_missing(marked, keys):
            return f"Results in this bucket have marks of the watermark key {', '.join(named)}"
    return ""


def _trace(clip: Path, keys: Keys, resolve: Resolve) -> Trace:
    """Raises Refused OBJECT_MISSING."""
    with reading(clip), clip.open("rb") as file:
        return trace_recording(file, clip.name, keys, resolve, format_timestamp(time.time()))
