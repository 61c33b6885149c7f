"""What will happen to a job, as far as its manifest, the inbox and the settings tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from core.consent import records
from core.consent.gate import Gate
from core.consent.records import ConsentClaim
from core.errors import Misconfigured, Refused
from core.job import enrolment
from core.job.commit import ReceivedManifest
from core.job.each_item import refuse_language
from core.job.runtime import Runtime
from core.manifest import resolve
from core.manifest.resolve import Item, ItemError, Job
from core.manifest.validate import join_pointer
from handlers.cli.files import read_file
from handlers.cli.find_job import submitted_manifests


def foresee_errors(
    job: Job, runtime: Runtime, gates: Mapping[str, Gate] = MappingProxyType({})
) -> Iterator[ItemError]:
    """Yield the errors that items of the manifest as it is have with these settings: no consent
    record is named though one is required, the engine does not speak the language, or the record
    does not allow it today (`gates`: name of a voice -> what `read_gates` returns)."""
    for item in job.items:
        try:
            _refuse(item, job, runtime)
            if item.voice in gates:
                _refuse_use(item, gates[item.voice])
        except Refused as exc:
            yield ItemError(item.index, item.id, exc)


def read_gates(job: Job, runtime: Runtime, beside: Mapping[str, Path]) -> dict[str, Gate]:
    """Return a gate for each voice whose consent record is known: it is `beside`, under its key, or
    in the inbox. It admits nothing, because the recording may be elsewhere."""
    gates = {}
    for name in dict.fromkeys(item.voice for item in job.items):
        voice = job.voices[name]
        try:
            record = _read_record(voice.consent or "", runtime, beside)
        except (Refused, Misconfigured):  # none is named or stored yet, or a producer may not read
            continue
        gates[name] = Gate(
            policy=runtime.consent,
            record=record,
            claim=ConsentClaim.of(voice, 0, "", join_pointer("/voices", name)),
            at=datetime.fromtimestamp(runtime.inbox.now(), UTC),
            front_end=runtime.front_end,
        )
    return gates


def _read_record(key: str, runtime: Runtime, beside: Mapping[str, Path]) -> bytes:
    if key in beside:
        return read_file(beside[key], limit=records.MAX_BYTES)
    return runtime.inbox.get(key, limit=records.MAX_BYTES).data


def _refuse_use(item: Item, gate: Gate) -> None:
    consent = records.parse_consent(gate.record or b"", pointer=gate.claim.pointer)
    with suppress(Misconfigured):  # the worker may have the language data that is missing here
        languages = gate.spoken_languages(item.text, item.language)
        records.refuse_use(consent, gate.claim, languages=languages, at=gate.at)


def _refuse(item: Item, job: Job, runtime: Runtime) -> None:
    if job.voices[item.voice].consent is None and runtime.consent != "optional":
        raise Refused("CONSENT_MISSING", pointer=join_pointer("/voices", item.voice))
    refuse_language(item.language, runtime, f"{item.pointer}/language")


def missing_references(manifest: ReceivedManifest, runtime: Runtime) -> list[str]:
    try:
        job = resolve.parse_job(manifest.data, lines=manifest.ref.key.endswith(".jsonl"))
    except Refused:
        return []  # the job will be rejected
    return enrolment.missing_references(job, runtime)


CARRY_OUT = "`voicedrop watch --once` carries it out, unless a worker is running."
"""What to do for a job that is not finished and waits for nothing."""


def describe_waiting(missing: Iterable[str]) -> str:
    """Return what a job waits for, and what to do."""
    how = "`voicedrop submit MANIFEST FILE` stores it; or correct its name in the manifest"
    return f"waits for {', '.join(missing)}: {how}"


def describe_unfinished(job: str, runtime: Runtime) -> str:
    """Return why a job has no result yet, and what to do."""
    for manifest in submitted_manifests(runtime):
        if manifest.job_id == job and (missing := missing_references(manifest, runtime)):
            return f"it {describe_waiting(missing)}."
    return "it has no result yet: `voicedrop watch --once` carries out what is new."
