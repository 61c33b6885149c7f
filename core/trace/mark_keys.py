"""Which watermark keys marked what there is: a mark is found only by whoever has its key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Annotated

import msgspec

from core.errors import Refused
from core.storage.object_keys import OUTPUTS, job_id_of, result_key
from core.storage.port import Store
from core.trace.registry import Index, is_derived

SAMPLE = 20
"""How many results or marks are looked at. Their keys are digests, so that these are any."""
_MAX_BYTES = 16 << 20
_PAYLOAD = re.compile("[0-9a-f]{8}")


class _Watermark(msgspec.Struct):
    key_id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]


class _Item(msgspec.Struct):
    watermark: _Watermark | None = None


class _PartRef(msgspec.Struct):
    key: str


class _Items(msgspec.Struct):
    """What is read of a result or of a part of one."""

    items: list[_Item] = []
    parts: list[_PartRef] = []


def find_missing(results: Store, watermark: Mapping[str, bytes]) -> list[str]:
    """Return the ids of watermark keys that results in the bucket name and that `watermark` lacks.

    Looks at `SAMPLE` results, without verifying them: somebody who lacks the watermark key may lack
    the public keys too. Raises what the store raises.
    """
    keys = (info.key for info in results.list(OUTPUTS))
    documents = (key for key in keys if key == result_key(job_id_of(key)))
    named = {name for key in islice(documents, SAMPLE) for name in _named_keys(results, key)}
    return sorted(named - watermark.keys())


def _named_keys(results: Store, key: str) -> Iterator[str]:
    made = _read(results, key)
    if made.parts:
        made = _read(results, made.parts[0].key)
    yield from (item.watermark.key_id for item in made.items if item.watermark)


def _read(results: Store, key: str) -> _Items:
    with suppress(Refused, msgspec.DecodeError, RecursionError):
        return msgspec.json.decode(results.get(key, limit=_MAX_BYTES).data, type=_Items)
    return _Items()


def has_foreign_marks(index: Index, keys: Iterable[bytes]) -> bool:
    """Return whether a copy of the registry has a mark that none of these keys allocated."""
    keys = tuple(keys)
    marks = ((p, mark) for p, mark in index.marks.items() if _PAYLOAD.fullmatch(p))
    return not all(is_derived(mark, int(p, 16), keys) for p, mark in islice(marks, SAMPLE))
