"""Notes of withdrawn consent: whether each is genuine, logged and still there."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from core.audit import log_snapshot
from core.audit.log_snapshot import LogSnapshot
from core.audit.model import COMPLETENESS, Outcome, failed
from core.audit.sources import Sources
from core.consent.withdrawal import WithdrawalNote, find_withdrawals
from core.storage.object_keys import proof_key_of
from core.storage.port import Info
from core.tlog.leaf import WithdrawalLeaf
from core.tlog.log import LIMIT


def check(
    stored: Mapping[str, Info], expected: Collection[str], sources: Sources, snapshot: LogSnapshot
) -> tuple[list[WithdrawalNote], list[Outcome]]:
    """Return the genuine notes without their signatures, and the outcomes of checks 8 and 10.

    `stored`: every object under `withdrawn/`. `expected`: keys of the notes that are logged or
    queued.
    """
    keys = sources.keys.verifying
    notes = {
        note.key: note
        for recording in sorted({key.split("/")[1] for key in stored})
        for note in find_withdrawals(recording, sources.results, keys)
    }
    missing = sorted(expected - notes.keys())
    unclaimed = sorted(stored.keys() - notes.keys() - {proof_key_of(key) for key in notes})
    outcomes = [
        *(failed(COMPLETENESS, "WITHDRAWAL_MISSING", key=key) for key in missing),
        *(failed(COMPLETENESS, "OBJECT_UNCLAIMED", key=key) for key in unclaimed),
        *(_check_logged(note, stored, sources, snapshot) for note in notes.values()),
    ]
    return [msgspec.structs.replace(note, signature=None) for note in notes.values()], outcomes


def _check_logged(
    note: WithdrawalNote, stored: Mapping[str, Info], sources: Sources, snapshot: LogSnapshot
) -> Outcome:
    leaf = WithdrawalLeaf.of(note, sources.results.get(note.key, limit=LIMIT).data)
    age = sources.results.now() - stored[note.key].modified
    return log_snapshot.check_inclusion(
        sources, snapshot, leaf, stored.get(proof_key_of(note.key)), age
    )
