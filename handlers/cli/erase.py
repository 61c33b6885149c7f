"""`voicedrop erase`: delete outputs of a finished job and leave a tombstone."""

from __future__ import annotations

import msgspec

from core.errors import Refused
from core.job import erasure
from core.result.tombstone import Tombstone
from core.settings import Settings
from handlers import wiring
from handlers.cli.find_job import find_job
from handlers.cli.screen import CommandOutput


def erase_job(
    settings: Settings, named: str, items: list[str] | None, reason: str
) -> CommandOutput:
    """Erase outputs of a job, and what later jobs joined from them.

    Raises what `find_job` raises; Refused OBJECT_MISSING, VALUE_RANGE.
    """
    if not reason.strip():
        raise Refused("VALUE_RANGE", "Give a reason: --reason.", advice="")
    runtime = wiring.create_local_runtime(settings)
    job_id = find_job(named, runtime)
    names = items or None
    tombstones = erasure.erase_outputs(job_id, runtime, reason=reason, items=names)
    for other, kept in list(erasure.find_keepers(job_id, names, runtime)):
        tombstones += erasure.erase_outputs(other, runtime, reason=reason, items=kept)
    data = {"tombstones": [msgspec.to_builtins(one) for one in tombstones]}
    return CommandOutput(data, describe_erasures(tombstones))


def describe_erasures(tombstones: list[Tombstone]) -> list[str]:
    """Return lines for people."""
    lines = [
        f"job {one.job_id}: erased {', '.join(one.items)} "
        f"({'1 file' if len(one.files) == 1 else f'{len(one.files)} files'})"
        for one in tombstones
    ]
    advice = "Next: `voicedrop log integrate` logs the tombstones."
    return [*lines, advice] if lines else ["All of it was erased before."]
