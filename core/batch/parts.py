"""The parts of a job that was cut into shards, and the tables and totals made from all of them.

A part is stored once, by the first worker that makes it. Everything here depends on the stored
parts alone, so it is the same whichever worker makes it.
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
from core.result.cost import Cost
from core.result.document import Attachment, Engine, Part, PartRef, Totals
from core.result.item_result import ItemResult, VoiceUsed
from core.result.withdrawn_voices import recordings_of
from core.storage.object_keys import errors_table_key, items_table_key, part_key, parts_prefix
from core.storage.port import put_once_or_read

MAX_BYTES = 256 << 20
CSV_COLUMNS = (
    *("index", "id", "status", "code", "message", "pointer", "voice", "key", "media_type"),
    *("duration_s", "sample_rate", "bytes", "sealed_sha256", "plain_sha256", "watermark"),
    "kept_from",
)


@dataclass(slots=True)
class GatheredParts:
    """The sums over all parts of a job."""

    refs: list[PartRef] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)
    engine: Engine | None = None
    voices: dict[str, VoiceUsed] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    costs: list[Cost | None] = field(default_factory=list)
    """That of each part."""
    changed: bool = False
    """True if the parts did not all use the same engine and recordings."""


def put_part(part: Part, runtime: Runtime) -> None:
    """Store a part, unless another worker has; then delete the outputs that it says are removed."""
    key = part_key(part.job_id, part.number)
    if runtime.results.put_once(key, signed.sign(part, runtime.keys.signing)):
        for removed in document.removed_keys(part.items):
            runtime.results.delete(removed)


def list_part_keys(job_id: str, runtime: Runtime) -> set[str]:
    """Return the keys of the parts that are stored."""
    return {info.key for info in runtime.results.list(parts_prefix(job_id))}


def read_part_count(job_id: str, runtime: Runtime) -> int:
    """Return the number of parts that the first part states; 0 if that part is not stored.

    Raises Refused SIGNATURE_INVALID.
    """
    if runtime.results.head(part_key(job_id, 0)) is None:
        return 0
    return _read_part(job_id, 0, runtime)[0].of


def gather_parts(
    job_id: str, count: int, runtime: Runtime
) -> tuple[GatheredParts, dict[str, Attachment]]:
    """Read all parts, one at a time, and store the tables made from them."""
    gathered, tables = GatheredParts(), _Tables()
    for number in range(count):
        part, digest = _read_part(job_id, number, runtime)
        if part.of != count:
            raise _misplaced(part_key(job_id, number))
        _add_part(gathered, part, digest)
        for item in part.items:
            tables.add(item)
    return gathered, {name: _attach(key, data, runtime) for name, key, data in tables.files(job_id)}


def _read_part(job_id: str, number: int, runtime: Runtime) -> tuple[Part, str]:
    key = part_key(job_id, number)
    data = runtime.results.get(key, limit=MAX_BYTES).data
    part = signed.read(data, Part, runtime.keys.verifying)
    if (part.job_id, part.number) != (job_id, number):
        raise _misplaced(key)
    return part, hashlib.sha256(data).hexdigest()


def _misplaced(key: str) -> Refused:
    message = "This is another part, or a part of another job."
    return Refused("SIGNATURE_INVALID", message, pointer=key)


def _add_part(gathered: GatheredParts, part: Part, digest: str) -> None:
    gathered.refs.append(
        PartRef(
            key=part_key(part.job_id, part.number),
            sha256=digest,
            items=part.totals.items,
            succeeded=part.totals.succeeded,
            failed=part.totals.failed,
            errors=document.count_errors(part.items),
        )
    )
    gathered.totals = document.sum_totals([gathered.totals, part.totals])
    gathered.changed |= bool(gathered.engine and part.engine and gathered.engine != part.engine)
    gathered.engine = gathered.engine or part.engine
    for name, used in part.voices.items():
        earlier = gathered.voices.get(name)
        if earlier is None or earlier.error:
            gathered.voices[name] = used
        elif not used.error:
            gathered.changed |= recordings_of(used) != recordings_of(earlier)
    gathered.stages = document.sum_stages(gathered.stages, part.stages)
    gathered.costs.append(part.cost)


class ErrorLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of errors.jsonl: a failed item and its error."""

    index: int
    """Index among all items of the manifest, from 0."""
    id: str
    line: int | msgspec.UnsetType = msgspec.UNSET
    """Line of a manifest in JSON Lines, from 1."""
    code: str
    message: str
    advice: str
    pointer: str
    retryable: bool
    voice: str
    meta: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class _Tables:
    """items.csv with a line for each item, and errors.jsonl with a line for each failed item."""

    def __init__(self) -> None:
        self._csv = io.StringIO()
        self._writer = csv.writer(self._csv)
        self._writer.writerow(CSV_COLUMNS)
        self._errors = bytearray()

    def add(self, item: ItemResult) -> None:
        self._writer.writerow(_row(item))
        if item.error:
            # In JSON Lines the header is line 1, and every line after it counts as an item.
            is_line = item.error.pointer.startswith("line ")
            line = ErrorLine(
                index=item.index,
                id=item.id,
                line=item.index + 2 if is_line else msgspec.UNSET,
                **msgspec.structs.asdict(item.error),
                voice=item.voice,
                meta=msgspec.UNSET if item.meta is None else item.meta,
            )
            self._errors += msgspec.json.encode(line) + b"\n"

    def files(self, job_id: str) -> Iterator[tuple[str, str, bytes]]:
        """Yield the name, key and bytes of each table."""
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
    """Put a quote before text that a spreadsheet would run as a formula (OWASP, CSV injection).

    Only messages and pointers can quote the producer; ids begin with a letter or digit.
    """
    return f"'{text}" if text[:1] in _FORMULA else text


_FORMULA = frozenset("=+-@\t\r\n")


def _attach(key: str, data: bytes, runtime: Runtime) -> Attachment:
    if put_once_or_read(runtime.results, key, data, limit=MAX_BYTES) != data:
        raise Refused("OUTPUT_EXISTS", "The stored table lists other items.", pointer=key)
    return Attachment(key=key, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
