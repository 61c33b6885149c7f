"""A small Log Service: searches entries, then runs the SQL of a query in SQLite.

It knows what cloud/monitoring uses: `field: word`, `and`, `or`, `not`, and a few SQL functions.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

WORKER = "FCLogs:voicedrop-worker"


def entry(line: Mapping[str, Any], moment: float) -> dict[str, Any]:
    """Return the entry that Function Compute makes of a printed line."""
    found = {f"message.{path}": value for path, value in flat(line)}
    return {"__topic__": WORKER, "__time__": int(moment), **found}


def flat(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of every field in nested objects."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from flat(inner, f"{path}{name}.")
        else:
            yield f"{path}{name}", inner


def run_query(
    query: str, entries: list[dict[str, Any]], fields: set[str], now: float, seconds: float
) -> list[dict[str, Any]]:
    """Return the rows of a query over the last seconds. `fields`: those that are indexed."""
    search, _, sql = query.partition("|")
    found = [
        e for e in entries if now - seconds <= e["__time__"] <= now and _matches(search.strip(), e)
    ]
    columns = ["__time__", *sorted(fields)]
    with sqlite3.connect(":memory:") as database:
        database.row_factory = sqlite3.Row
        database.create_function("date_trunc", 2, _date_trunc)
        database.create_function("from_unixtime", 1, _format)
        database.create_function("ceil", 1, math.ceil)
        database.create_aggregate("count_if", 1, _CountIf)
        names = ", ".join(f'"{name}"' for name in columns)
        database.execute(f"create table log ({names})")
        marks = ", ".join("?" for _ in columns)
        database.executemany(
            f"insert into log values ({marks})",  # noqa: S608  (names of our own files)
            [[_plain(e.get(name)) for name in columns] for e in found],
        )
        rows = [dict(row) for row in database.execute(sql)]
    database.close()
    return rows


def _matches(search: str, entry: Mapping[str, Any]) -> bool:
    """Whether a search finds an entry: alternatives of conditions that must hold or must not."""
    for alternative in search.split(" or "):
        terms = re.findall(r'(not )?([\w.]+): ("[^"]*"|\S+)', alternative)
        assert terms, search
        if all(
            (str(entry.get(name)) == value.strip('"')) != bool(negated)
            for negated, name, value in terms
        ):
            return True
    return False


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _date_trunc(unit: str, moment: int) -> str:
    return _format(moment)[: {"hour": 13, "day": 10}[unit]]


def _format(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(sep=" ")


class _CountIf:
    def __init__(self) -> None:
        self.count = 0

    def step(self, condition: int) -> None:
        self.count += bool(condition)

    def finalize(self) -> int:
        return self.count
