"""The parts of a job that was cut, and what follows from all of them together.

A part is put once; whoever comes second takes what the first one wrote. So everything here that is
made from parts, the tables beside the result included, is the same whoever makes it.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from core.documents import signed
from core.errors import Refused
from core.job.runtime import Runtime
from core.result import document
from core.result.document import Attachment, Engine, Part, PartRef, Totals
from core.result.item_result import ItemResult, VoiceUsed
from core.storage.object_keys import errors_table_key, items_table_key, part_key, parts_prefix
from core.storage.port import put_once_or_read

LIMIT = 256 << 20
CSV_COLUMNS = (
    *("index", "id", "status", "code", "message", "pointer", "voice", "key", "media_type"),
    *("duration_s", "sample_rate", "bytes", "sealed_sha256", "plain_sha256", "watermark"),
    "kept_from",
)


@dataclass(slots=True)
class Gathered:
    """All parts, counted."""

    refs: list[PartRef] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)
    engine: Engine | None = None
    voices: dict[str, VoiceUsed] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    changed: bool = False
    """Engine or recording were not the same for all parts; each says what it used."""


def put(part: Part, runtime: Runtime) -> None:
    """Write a part unless somebody has."""
    runtime.results.put_once(
        part_key(part.job_id, part.number), signed.sign(part, runtime.keys.signing)
    )


def written_part_numbers(job_id: str, runtime: Runtime) -> set[int]:
    """Numbers of the parts that are written."""
    keys = (info.key for info in runtime.results.list(parts_prefix(job_id)))
    return {int(key.rpartition("/")[2].removesuffix(".json")) for key in keys}


def count(job_id: str, runtime: Runtime) -> int:
    """How many parts the job has, as the first one says; 0 if that is not written."""
    try:
        data = runtime.results.get(part_key(job_id, 0), limit=LIMIT).data
    except Refused:
        return 0
    return document.parse_part(data).of


def gather(job_id: str, count: int, runtime: Runtime) -> tuple[Gathered, dict[str, Attachment]]:
    """Read all parts, one at a time, and write the tables made from them."""
    found, tables = Gathered(), _Tables()
    for number in range(count):
        part, digest = _read(job_id, number, count, runtime)
        _count(found, part, digest)
        for item in part.items:
            tables.add(item)
    return found, {name: _attach(key, data, runtime) for name, key, data in tables.files(job_id)}


def _read(job_id: str, number: int, count: int, runtime: Runtime) -> tuple[Part, str]:
    key = part_key(job_id, number)
    data = runtime.results.get(key, limit=LIMIT).data
    signed.check_signature(data, runtime.keys.verifying)
    part = document.parse_part(data)
    if (part.job_id, part.number, part.of) != (job_id, number, count):
        raise Refused("SIGNATURE_INVALID", "It is another part.", pointer=key)
    return part, hashlib.sha256(data).hexdigest()


def _count(found: Gathered, part: Part, digest: str) -> None:
    found.refs.append(
        PartRef(
            key=part_key(part.job_id, part.number),
            sha256=digest,
            items=part.totals.items,
            succeeded=part.totals.succeeded,
            failed=part.totals.failed,
            errors=document.count_errors(part.items),
        )
    )
    found.totals = document.sum_totals([found.totals, part.totals])
    found.changed |= bool(found.engine and part.engine and found.engine != part.engine)
    found.engine = found.engine or part.engine
    for name, used in part.voices.items():
        before = found.voices.get(name)
        if before is None or before.error:
            found.voices[name] = used
        elif not used.error:
            found.changed |= used.reference_sha256 != before.reference_sha256
    found.stages = document.sum_stages(found.stages, part.stages)


class _Tables:
    """items.csv, a line an item, and errors.jsonl, a line an item that failed."""

    def __init__(self) -> None:
        self._csv = io.StringIO()
        self._writer = csv.writer(self._csv)
        self._writer.writerow(CSV_COLUMNS)
        self._errors = bytearray()

    def add(self, item: ItemResult) -> None:
        self._writer.writerow(_row(item))
        if item.error:
            # In JSON Lines the header is line 1, and every line after it counts as an item.
            line = {"line": item.index + 2} if item.error.pointer.startswith("line ") else {}
            told = msgspec.to_builtins(item.error)
            fields = {"index": item.index, "id": item.id, **line, **told, "voice": item.voice}
            if item.meta is not None:
                fields["meta"] = item.meta
            self._errors += msgspec.json.encode(fields) + b"\n"

    def files(self, job_id: str) -> Iterator[tuple[str, str, bytes]]:
        """Name, key and bytes."""
        yield "items", items_table_key(job_id), self._csv.getvalue().encode()
        yield "errors", errors_table_key(job_id), bytes(self._errors)


def _row(item: ItemResult) -> tuple[Any, ...]:
    error, output = item.error, item.output
    return (
        *(item.index, item.id, item.status),
        *((error.code, _cell(error.message), _cell(error.pointer)) if error else ("", "", "")),
        item.voice,
        *((output.key, output.media_type, output.duration_s) if output else ("", "", "")),
        *((output.sample_rate, output.bytes) if output else ("", "")),
        *((output.sealed_sha256, output.plain_sha256) if output else ("", "")),
        item.watermark.payload if item.watermark else "",
        item.kept_from,
    )


def _cell(text: str) -> str:
    """A spreadsheet runs what begins like a formula (OWASP, CSV injection): there it gets a quote
    before it. Messages and pointers may quote what the producer wrote; the other columns are ids,
    which begin with a letter or digit, and our own words."""
    return f"'{text}" if text[:1] in _FORMULA else text


_FORMULA = frozenset("=+-@\t\r\n")


def _attach(key: str, data: bytes, runtime: Runtime) -> Attachment:
    if put_once_or_read(runtime.results, key, data, limit=LIMIT) != data:
        raise Refused("OUTPUT_EXISTS", f"{key} is not what the items say.", pointer=key)
    return Attachment(key=key, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
