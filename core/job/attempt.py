"""One attempt at a job or shard: its lease, the record of why it failed, and when to give up.

    lease/<name>         who works on it (core/job/lease.py)
    lease/<name>.reason  why the last attempt failed
    dead/<name>.json     the dead letter: why the job was given up

Reason and dead letter are for operators, and signed for this job or shard: `FailedAttempt`,
`DeadLetter`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import msgspec

from core.documents import signed
from core.documents.signed import Signature
from core.errors import Failed, JobError, Misconfigured, Refused, Unavailable
from core.job.cancellation import Cancellation
from core.job.lanes import Stopped
from core.job.lease import Lease
from core.job.runtime import Run, Runtime
from core.result.document import ManifestRef
from core.result.item_result import Problem
from core.storage.object_keys import SEALED_SUFFIX, dead_letter_key, job_prefix, reason_key

LIMIT = 1 << 20
"""Largest dead letter, in bytes."""


class FailedAttempt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["voicedrop/failed-attempt/1"] = "voicedrop/failed-attempt/1"
    name: str
    """Of the lease."""
    manifest: ManifestRef
    error: Problem
    signature: Signature | None = None


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["voicedrop/dead-letter/1"] = "voicedrop/dead-letter/1"
    name: str
    """Of the lease."""
    manifest: ManifestRef
    error: Problem
    signature: Signature | None = None


@contextmanager
def begin(name: str, job_id: str, runtime: Runtime, manifest: str = "") -> Iterator[Run]:
    """Hold the lease of a job or shard while the block runs. Raises Unavailable JOB_BUSY.

    manifest: its key in the inbox, beside which the job can be cancelled.
    """
    seconds, keys = runtime.lease_seconds, runtime.keys
    with (
        runtime.meter.share() as share,
        Lease.acquire(runtime.control, name, runtime.worker, seconds, keys, share.seconds) as lease,
    ):
        yield Run(name, job_id, lease, runtime, Cancellation(runtime.inbox, manifest, job_id))
        runtime.rates.store(runtime.control, keys)


@contextmanager
def recording_failure(manifest: ManifestRef, run: Run) -> Iterator[None]:
    """Record why the block failed, for the dead letter.

    An attempt that fails because the operator must act (Misconfigured, or a full disk), because
    another job must be finished first, or because the process ends (Ctrl-C) is not counted: the job
    is not at fault.
    """
    try:
        yield
    except (KeyboardInterrupt, Stopped):
        run.lease.undo_attempt()
        raise
    except (Unavailable, Misconfigured) as exc:
        if isinstance(exc, Misconfigured) or exc.code in ("NO_SPACE", "JOB_BUSY"):
            run.lease.undo_attempt()
        with suppress(JobError):  # the failure itself matters more than its record
            reason = FailedAttempt(name=run.name, manifest=manifest, error=Problem.from_error(exc))
            data = signed.sign(reason, run.runtime.keys.signing)
            run.runtime.control.put(reason_key(run.name), data)
        raise


def is_exhausted(run: Run, count_outputs: Callable[[], int]) -> bool:
    """Whether the attempts at a job are used up without progress.

    A worker that was killed could not report its progress, so the stored outputs are counted before
    a job is given up.
    """
    if run.lease.attempt > run.runtime.max_attempts:
        run.lease.record_outputs(count_outputs())
        run.lease.renew()
        run.lease.check()
    return run.lease.attempt > run.runtime.max_attempts


def find_reason_to_give_up(manifest: ManifestRef, run: Run) -> JobError | None:
    """Why to give the job up, if so: it was cancelled, or its attempts are used up; then write the
    dead letter.

    If some outputs are stored, the job is not given up yet. It is carried out without speaking, so
    that its result contains them; one whose attempts are used up, until that too has failed
    `max_attempts` times.
    """

    def count_outputs() -> int:
        listed = run.runtime.results.list(job_prefix(run.job_id))
        return sum(info.key.endswith(SEALED_SUFFIX) for info in listed)

    if run.cancellation and count_outputs() == 0:
        return Refused("JOB_CANCELLED")
    if not is_exhausted(run, count_outputs):
        return None
    write_dead_letter(manifest, run)
    run.lease.check()
    is_over = count_outputs() == 0 or run.lease.attempt > 2 * run.runtime.max_attempts
    return exhausted_error(run) if is_over else None


def exhausted_error(run: Run) -> Failed:
    """The error of everything that was not made before the attempts were used up. It quotes why the
    last attempt failed, if its worker could record that."""
    message = f"{run.runtime.max_attempts} attempts made no progress."
    if last := read_reason(run.name, run.runtime):
        message += f" The last recorded error: {last.code}: {last.message}"
    return Failed("RETRIES_EXHAUSTED", message)


def write_dead_letter(manifest: ManifestRef, run: Run) -> None:
    """Store the last recorded reason, or RETRIES_EXHAUSTED if every worker was killed before it
    could record one."""
    error = read_reason(run.name, run.runtime) or Problem.from_error(exhausted_error(run))
    letter = DeadLetter(name=run.name, manifest=manifest, error=error)
    run.runtime.control.put(
        dead_letter_key(run.name), signed.sign(letter, run.runtime.keys.signing)
    )


def read_reason(name: str, runtime: Runtime) -> Problem | None:
    """Return why the last attempt at a job or shard failed, if its worker recorded that."""
    with suppress(Refused):
        data = runtime.control.get(reason_key(name), limit=LIMIT).data
        reason = signed.read(data, FailedAttempt, runtime.keys.verifying)
        return reason.error if reason.name == name else None
    return None
