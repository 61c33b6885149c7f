"""What will be refused of a job, as far as its manifest, its files and the settings tell."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Protocol

from core.consent import records
from core.consent.gate import Gate
from core.consent.records import ConsentClaim, parse_covering, refuse_many
from core.errors import Misconfigured, Refused
from core.job.each_item import refuse_language
from core.manifest.resolve import Item, ItemError, Job
from core.manifest.validate import join_pointer
from core.settings import ConsentPolicy
from core.storage.port import Store
from core.text.spoken import FrontEnd


class Rules(Protocol):
    """What is needed of a `Runtime`. It takes no key, so that whoever has none can check, too."""

    @property
    def inbox(self) -> Store: ...
    @property
    def consent(self) -> ConsentPolicy: ...
    @property
    def front_end(self) -> FrontEnd: ...


def foresee_errors(
    job: Job, rules: Rules, gates: Mapping[str, Gate] = MappingProxyType({})
) -> Iterator[ItemError]:
    """Yield the errors that items of the manifest as it is have with these settings: no consent
    record is named though one is required, the engine does not speak the language, or the record
    does not allow it today (`gates`: name of a voice -> what `read_gates` returns)."""
    for item in job.items:
        try:
            _refuse(item, job, rules)
            if item.voice in gates:
                _refuse_use(item, gates[item.voice])
        except Refused as exc:
            yield ItemError(item.index, item.id, exc)


def read_gates(job: Job, rules: Rules, read_record: Callable[[str], bytes]) -> dict[str, Gate]:
    """Return a gate for each voice whose consent record is known. It admits nothing, because the
    recording may be elsewhere. `read_record`: returns the record of a key, or raises Refused
    OBJECT_MISSING."""
    gates = {}
    for name in dict.fromkeys(item.voice for item in job.items):
        voice = job.voices[name]
        if voice.consent is None:
            continue
        try:
            record = read_record(voice.consent)
        except (Refused, Misconfigured):  # none is stored yet, or a producer may not read
            continue
        gates[name] = Gate(
            policy=rules.consent,
            record=record,
            claim=ConsentClaim.of(voice, 0, "", join_pointer("/voices", name)),
            at=datetime.fromtimestamp(rules.inbox.now(), UTC),
            front_end=rules.front_end,
        )
    return gates


def refuse_uncovered(job: Job, known: Collection[str], read: Callable[[str], bytes]) -> None:
    """Compare each consent record with the recordings of its voice, as far as both are `known`.

    known: keys in the inbox; read: returns the file of such a key. Raises Refused CONSENT_INVALID,
    CONSENT_SCOPE.
    """
    for name in dict.fromkeys(item.voice for item in job.items):
        voice = job.voices[name]
        if voice.consent is None or voice.consent not in known:
            continue
        for index, key in enumerate(voice.recordings):
            if key in known:
                digest = hashlib.sha256(read(key)).hexdigest()
                claim = ConsentClaim.of(voice, index, digest, join_pointer("/voices", name))
                consent = parse_covering(read(voice.consent), claim)
                refuse_many(consent, claim.pointer)


def _refuse_use(item: Item, gate: Gate) -> None:
    consent = records.parse_consent(gate.record or b"", pointer=gate.claim.pointer)
    with suppress(Misconfigured):  # the worker may have the language data that is missing here
        languages = gate.spoken_languages(item.text, item.language)
        records.refuse_use(consent, gate.claim, languages=languages, at=gate.at)


def _refuse(item: Item, job: Job, rules: Rules) -> None:
    if job.voices[item.voice].consent is None and rules.consent != "optional":
        raise Refused("CONSENT_MISSING", pointer=join_pointer("/voices", item.voice))
    refuse_language(item.language, rules.front_end.languages, f"{item.pointer}/language")
