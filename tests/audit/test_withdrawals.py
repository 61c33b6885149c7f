"""A withdrawal of consent is logged, and an audit finds when its note was changed or removed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core.documents import signed
from core.storage.object_keys import LOG_QUEUE
from core.tlog import log
from handlers.cli.log import check_log
from handlers.sweep import run_sweep
from tests.audit.conftest import open_runtime, open_sources
from tests.audit.test_findings import finding_codes, make_old, note_withdrawal, run_audit
from tests.support.audited_bucket import integrate_log


def note_path(root: Path) -> Path:
    (path,) = (root / "results/withdrawn").glob("*/*.json")
    return path


def withdraw(root: Path) -> str:
    """Withdraw consent, log that, and return the checkpoint."""
    note_withdrawal(root, 4e9)
    integrate_log(open_runtime(root))
    make_old(root)
    return log.read_latest_checkpoint(open_runtime(root).results) or ""


def test_a_withdrawal_is_logged_and_reported(copy: Path) -> None:
    kept = withdraw(copy)
    assert note_path(copy).with_suffix(".tlog-proof").exists()
    report = run_audit(copy, kept)
    assert report.findings == []
    (stated,) = report.withdrawals
    assert stated.key == str(note_path(copy).relative_to(copy / "results"))
    assert (stated.at.year, stated.signature) == (2096, None)
    assert check_log(open_sources(copy), kept).exit_code == 0


def test_a_withdrawal_waits_in_the_queue_like_a_result(copy: Path) -> None:
    note_withdrawal(copy, 4e9)
    make_old(copy)
    report = run_audit(copy)
    assert report.findings == []
    assert report.checks[7].reasons == {"NOT_LOGGED_YET": 1}


def test_a_sweep_queues_the_notes_that_are_not_logged(copy: Path) -> None:
    """The worker died after the note was stored, or an older version wrote it."""
    note_withdrawal(copy, 4e9)
    runtime = open_runtime(copy)
    (queued,) = runtime.control.list(LOG_QUEUE)
    runtime.control.delete(queued.key)
    make_old(copy)
    assert finding_codes(run_audit(copy)) == {(8, "NOT_LOGGED")}
    run_sweep(runtime)
    integrate_log(runtime)
    assert run_audit(copy).findings == []
    run_sweep(runtime)
    assert list(runtime.control.list(LOG_QUEUE)) == []


def remove(path: Path, root: Path) -> None:
    path.unlink()


def remove_all(path: Path, root: Path) -> None:
    path.unlink()
    path.with_suffix(".tlog-proof").unlink()


def change(path: Path, root: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"2096", b"2099"))


def sign_again(path: Path, root: Path) -> None:
    keys = open_runtime(root).keys
    document = signed.verify(path.read_bytes(), keys.verifying)
    path.write_bytes(signed.sign(document | {"at": "2099-01-01T00:00:00Z"}, keys.signing))


def move(path: Path, root: Path) -> None:
    path.rename(path.with_name("0" * 64 + ".json"))


def remove_the_proof(path: Path, root: Path) -> None:
    path.with_suffix(".tlog-proof").unlink()


GONE = (10, "WITHDRAWAL_MISSING")
FOREIGN = (10, "OBJECT_UNCLAIMED")
DAMAGES: dict[Callable[[Path, Path], None], set[tuple[int, str]]] = {
    remove: {GONE, FOREIGN},
    remove_all: {GONE},
    change: {GONE, FOREIGN},
    sign_again: {(8, "LOG_MISMATCH")},
    move: {GONE, FOREIGN},
    remove_the_proof: {(8, "PROOF_MISSING")},
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_was_done_to_a_logged_note_is_found(
    copy: Path, damage: Callable[[Path, Path], None]
) -> None:
    kept = withdraw(copy)
    damage(note_path(copy), copy)
    make_old(copy)
    assert finding_codes(run_audit(copy, kept)) == DAMAGES[damage]
    assert check_log(open_sources(copy), kept).exit_code == (damage is not remove_the_proof)


def test_a_note_that_was_removed_before_it_was_logged_is_missed(copy: Path) -> None:
    note_withdrawal(copy, 4e9)
    note_path(copy).unlink()
    assert finding_codes(run_audit(copy)) == {GONE}
    integrate_log(open_runtime(copy))
    assert finding_codes(run_audit(copy)) == {(9, "LEAF_REFUSED")}
