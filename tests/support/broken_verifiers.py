"""Verifiers of the log with one deliberate bug: random sequences must notice each of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

from core.audit import log_snapshot, withdrawals
from core.audit.erasures import Erasures
from core.audit.model import INCLUSION, failed, passed
from core.result import tombstone
from core.result.item_result import Chapter, ItemResult
from core.tlog import log
from core.tlog.leaf import AnyLeaf, LeafIndex, parse_leaf

_check_withdrawals = withdrawals.check
Broken = Callable[[], AbstractContextManager[Any]]


@contextmanager
def _last_leaf_wins() -> Iterator[None]:
    """A later leaf of a document replaces the earlier one."""
    read = log_snapshot._read_readable_entries

    def add(index: LeafIndex, entry: bytes) -> None:
        if leaf := parse_leaf(entry):
            index[leaf.name] = (index.size, leaf.digest)
        index.size += 1

    def read_last(*args: Any) -> list[tuple[int, AnyLeaf]]:
        return read(*args)[::-1]

    with (
        mock.patch.object(LeafIndex, "add", add),
        mock.patch.object(log_snapshot, "_read_readable_entries", read_last),
    ):
        yield


def _erased_by_key(erasures: Erasures, made: ItemResult | Chapter) -> bool:
    erased = {file.key for one in erasures.genuine for file in one.files}
    return erased.issuperset(file.key for file in tombstone.files_of(made))


def _withdrawals_that_are_there(stored: Any, expected: Any, *args: Any) -> Any:
    return _check_withdrawals(stored, (), *args)


def _inclusion_by_proof_alone(
    sources: Any, snapshot: Any, leaf: AnyLeaf, proof: Any, age: float
) -> Any:
    is_valid = log.has_proof(sources.results, leaf, sources.keys.verifying.values())
    return passed(INCLUSION) if is_valid else failed(INCLUSION, "PROOF_MISSING")


@contextmanager
def _replaced(*replacements: tuple[object, str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for owner, name, value in replacements:
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


BROKEN: dict[str, Broken] = {
    "last leaf wins": _last_leaf_wins,
    "checkpoint not compared": partial(
        _replaced,
        (log, "_check_continues", lambda *args: None),
        (log_snapshot, "_check_earlier", lambda *args: None),
    ),
    "documents not compared": partial(
        _replaced, (log, "find_changed_documents", lambda *args: iter(()))
    ),
    "inclusion by proof alone": partial(
        _replaced, (log_snapshot, "check_inclusion", _inclusion_by_proof_alone)
    ),
    "tombstone without digest": partial(_replaced, (Erasures, "cover", _erased_by_key)),
    "missing withdrawals not looked for": partial(
        _replaced, (withdrawals, "check", _withdrawals_that_are_there)
    ),
    "missing results not looked for": partial(
        _replaced,
        (log_snapshot.LogSnapshot, "entries", property(lambda self: {}, lambda *args: None)),
    ),
}
