"""A lawful erasure is told from a removal: a tombstone excuses only what it names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from core import audit
from core.documents import signed
from core.errors import Refused
from core.job.erasure import complete_erasures, erase_outputs, find_keepers
from core.result import tombstone
from core.result.document import parse_result
from core.result.tombstone import Tombstone, Withdrawal
from core.storage.object_keys import mark_key, queue_key, tombstone_key, tombstone_name
from core.tlog import log
from handlers.cli.erase import erase_job
from handlers.cli.log import check_log
from handlers.sweep import run_sweep
from tests.audit.conftest import open_runtime, open_sources
from tests.audit.test_findings import (
    finding_codes,
    make_old,
    result_paths,
    run_audit,
    sealed_path,
)
from tests.support.audited_bucket import integrate_log
from tests.support.runtime import local_settings

WITHDRAWAL = Withdrawal(record_sha256="ab" * 32, id="alice-1", withdrawn="2026-12-01T00:00:00Z")


def first_job(root: Path) -> str:
    return result_paths(root)[0].parent.name


def erase_first(root: Path) -> Tombstone:
    """Erase the first job with an output, log that, and return the tombstone."""
    runtime = open_runtime(root)
    job = first_job(root)
    (made,) = erase_outputs(job, runtime, reason="asked to", withdrawal=WITHDRAWAL)
    integrate_log(runtime)
    return made


def test_the_mark_of_an_erased_output_is_missed(copy: Path) -> None:
    """It traces clips that leaked before the erasure."""
    erase_first(copy)
    result = parse_result(result_paths(copy)[0].read_bytes())
    payload = next(item.watermark.payload for item in result.items if item.watermark)
    runtime = open_runtime(copy)
    runtime.results.delete(mark_key(int(payload, 16)))
    make_old(copy)
    assert (7, "MARK_UNREGISTERED") in finding_codes(run_audit(copy))


def test_an_erased_output_is_no_finding_and_is_reported(copy: Path) -> None:
    before = result_paths(copy)[0].read_bytes()
    kept = log.read_latest_checkpoint(open_runtime(copy).results) or ""
    job, path = first_job(copy), sealed_path(copy)
    made = erase_first(copy)
    assert not path.exists()
    assert (path.parent / "result.json").read_bytes() == before
    make_old(copy)
    report = run_audit(copy, kept)
    assert report.findings == []
    (stated,) = report.erasures
    assert stated == msgspec.structs.replace(made, signature=None)
    assert (stated.job_id, stated.items, stated.reason) == (job, ["hello"], "asked to")
    assert stated.withdrawal == WITHDRAWAL
    assert report.checks[1].reasons["ERASED"] == 1
    assert check_log(open_sources(copy), kept).exit_code == 0


def test_an_erasure_waits_in_the_queue_like_a_result(copy: Path) -> None:
    runtime = open_runtime(copy)
    erase_outputs(first_job(copy), runtime, reason="asked to")
    make_old(copy)
    report = run_audit(copy)
    assert report.findings == []
    assert report.checks[7].reasons == {"NOT_LOGGED_YET": 1}


def test_erasing_again_does_nothing_more(copy: Path) -> None:
    job = first_job(copy)
    erase_first(copy)
    assert erase_outputs(job, open_runtime(copy), reason="again") == []
    assert list((copy / "results/out" / job / "tombstones").glob("*.json")) == [
        copy / "results" / tombstone_key(job, 0)
    ]


def test_an_interrupted_erasure_is_completed_by_a_sweep(copy: Path) -> None:
    """The worker died after the tombstone was stored."""
    job, path = first_job(copy), sealed_path(copy)
    body = path.read_bytes()
    erase_outputs(job, open_runtime(copy), reason="asked to")
    path.write_bytes(body)
    runtime = open_runtime(copy)
    runtime.control.delete(queue_key(tombstone_name(job, 0)))
    make_old(copy)
    assert finding_codes(run_audit(copy)) == {(8, "NOT_LOGGED")}
    swept = run_sweep(runtime)
    assert swept.counts["unerased"] == 1
    assert not path.exists()
    integrate_log(runtime)
    assert run_audit(copy).findings == []


def test_an_erased_file_that_exists_again_is_found(copy: Path) -> None:
    path = sealed_path(copy)
    body = path.read_bytes()
    erase_first(copy)
    path.write_bytes(body)
    make_old(copy)
    assert finding_codes(run_audit(copy)) == {(10, "NOT_ERASED")}


def remove_another_output(root: Path, job: str) -> None:
    next(iter(root.glob("results/out/*/*.sealed"))).unlink()


def remove_the_tombstone(root: Path, job: str) -> None:
    (root / "results" / tombstone_key(job, 0)).unlink()


def remove_all_of_the_tombstone(root: Path, job: str) -> None:
    shutil.rmtree(root / "results/out" / job / "tombstones")


def change_the_tombstone(root: Path, job: str) -> None:
    path = root / "results" / tombstone_key(job, 0)
    path.write_bytes(path.read_bytes().replace(b"asked to", b"by order"))


def resign_the_tombstone(root: Path, job: str) -> None:
    path = root / "results" / tombstone_key(job, 0)
    runtime = open_runtime(root)
    one = tombstone.parse_tombstone(path.read_bytes(), job, 0, runtime.keys.verifying)
    changed = msgspec.structs.replace(one, reason="another reason")
    path.write_bytes(signed.sign(changed, runtime.keys.signing))


def move_the_tombstone(root: Path, job: str) -> None:
    other = root / "results" / tombstone_key(result_paths(root)[0].parent.name, 0)
    other.parent.mkdir()
    (root / "results" / tombstone_key(job, 0)).rename(other)


def renumber_the_tombstone(root: Path, job: str) -> None:
    (root / "results" / tombstone_key(job, 0)).rename(root / "results" / tombstone_key(job, 1))


def plant_a_tombstone(root: Path, job: str) -> None:
    """Somebody without keys removes an output and copies a tombstone of another job."""
    path = sealed_path(root)
    other = root / "results" / tombstone_key(path.parent.name, 0)
    other.parent.mkdir()
    shutil.copy(root / "results" / tombstone_key(job, 0), other)
    path.unlink()


def remove_the_result(root: Path, job: str) -> None:
    (root / "results/out" / job / "result.json").unlink()


DAMAGES: dict[Callable[[Path, str], None], set[tuple[int, str]]] = {
    remove_another_output: {(2, "OBJECT_MISSING")},
    remove_the_tombstone: {
        *((10, "TOMBSTONE_MISSING"), (10, "OBJECT_UNCLAIMED"), (2, "OBJECT_MISSING"))
    },
    remove_all_of_the_tombstone: {(10, "TOMBSTONE_MISSING"), (2, "OBJECT_MISSING")},
    change_the_tombstone: {
        *((1, "SIGNATURE_INVALID"), (2, "OBJECT_MISSING"), (10, "OBJECT_UNCLAIMED"))
    },
    resign_the_tombstone: {(8, "LOG_MISMATCH"), (2, "OBJECT_MISSING")},
    move_the_tombstone: {
        *((1, "SIGNATURE_INVALID"), (10, "TOMBSTONE_MISSING"), (10, "OBJECT_UNCLAIMED")),
        (2, "OBJECT_MISSING"),
    },
    renumber_the_tombstone: {
        *((1, "SIGNATURE_INVALID"), (10, "TOMBSTONE_MISSING"), (10, "OBJECT_UNCLAIMED")),
        (2, "OBJECT_MISSING"),
    },
    plant_a_tombstone: {
        *((1, "SIGNATURE_INVALID"), (2, "OBJECT_MISSING"), (10, "OBJECT_UNCLAIMED"))
    },
    remove_the_result: {(10, "RESULT_MISSING")},
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_removal_is_found_whatever_the_tombstone_says(
    copy: Path, damage: Callable[[Path, str], None]
) -> None:
    kept = log.read_latest_checkpoint(open_runtime(copy).results) or ""
    job = erase_first(copy).job_id
    damage(copy, job)
    make_old(copy)
    assert finding_codes(run_audit(copy, kept)) == DAMAGES[damage]
    is_of_the_log = damage not in (remove_another_output, plant_a_tombstone)
    assert check_log(open_sources(copy), kept).exit_code == is_of_the_log


@pytest.mark.parametrize("damage", [None, remove_all_of_the_tombstone, resign_the_tombstone])
def test_tombstones_of_earlier_jobs_are_checked_and_reported_too(
    copy: Path, damage: Callable[[Path, str], None] | None
) -> None:
    made = erase_first(copy)
    if damage:
        damage(copy, made.job_id)
    make_old(copy)
    sources = open_sources(copy)
    bucket = audit.audit_bucket(sources, since="2030-01-01")
    report = audit.build_report(bucket, sources, "2030-01-01")
    assert finding_codes(report) == (DAMAGES[damage] if damage else set())
    assert [one.job_id for one in report.erasures] == ([] if damage else [made.job_id])


def test_a_tombstone_with_another_digest_excuses_nothing(copy: Path) -> None:
    """The holder of the key signs a tombstone for a file that the result does not name so."""
    job, runtime = first_job(copy), open_runtime(copy)
    (made,) = erase_outputs(job, runtime, reason="asked to")
    false = [msgspec.structs.replace(file, sealed_sha256="0" * 64) for file in made.files]
    document = signed.sign(msgspec.structs.replace(made, files=false), runtime.keys.signing)
    (copy / "results" / tombstone_key(job, 0)).write_bytes(document)
    complete_erasures(job, runtime)  # queues the tombstone as it is stored now
    integrate_log(runtime)
    make_old(copy)
    assert finding_codes(run_audit(copy)) == {(2, "OBJECT_MISSING")}


def test_an_unknown_job_or_item_is_refused(copy: Path) -> None:
    with pytest.raises(Refused, match="OBJECT_MISSING"):
        erase_outputs("ab" * 16, open_runtime(copy), reason="asked to")
    with pytest.raises(Refused, match="no output of nobody"):
        erase_outputs(first_job(copy), open_runtime(copy), reason="x", items=["nobody"])
    assert sealed_path(copy).exists()


@pytest.fixture
def joined_copy(joined: Path, tmp_path: Path) -> Path:
    return shutil.copytree(joined, tmp_path / "copy")


def job_of(root: Path, name: str) -> str:
    documents = root.glob("results/out/*/result.json")
    return next(p.parent.name for p in documents if f"jobs/{name}.".encode() in p.read_bytes())


def sealed_names(root: Path, job: str) -> set[str]:
    folder = root / "results/out" / job
    return {str(path.relative_to(folder)) for path in folder.rglob("*.sealed")}


@pytest.mark.slow
def test_subtitles_and_joined_files_are_erased_with_their_item(joined_copy: Path) -> None:
    runtime = open_runtime(joined_copy)
    first, again = job_of(joined_copy, "first"), job_of(joined_copy, "again")
    before = sealed_names(joined_copy, first)
    # The retry keeps the item and joined it into a chapter of its own.
    assert list(find_keepers(first, ["i0"], runtime)) == [(again, ["i0"])]
    assert list(find_keepers(first, ["i3"], runtime)) == []
    made, there = erase_job(local_settings(joined_copy), first, ["i0"], "asked to").data[
        "tombstones"
    ]
    assert made["items"] == ["chapters/c0", "i0"]
    erased = before - sealed_names(joined_copy, first)
    assert erased == {"i0.wav.sealed", "chapters/c0.wav.sealed", "chapters/c0.srt.sealed"}
    assert (there["job_id"], there["items"]) == (again, ["chapters/c0"])
    assert "unerased" not in {finding.kind for finding in run_sweep(runtime).findings}
    integrate_log(runtime)
    make_old(joined_copy)
    report = run_audit(joined_copy)
    assert report.findings == []
    assert {one.job_id for one in report.erasures} == {first, again}


@pytest.mark.slow
def test_a_kept_output_is_erased_where_it_was_made(joined_copy: Path) -> None:
    runtime = open_runtime(joined_copy)
    first, again = job_of(joined_copy, "first"), job_of(joined_copy, "again")
    made = erase_outputs(again, runtime, reason="asked to", items=["i1"])
    assert {one.job_id: one.items for one in made} == {
        again: ["chapters/c0"],
        first: ["chapters/c0", "i1"],
    }
    integrate_log(runtime)
    make_old(joined_copy)
    assert run_audit(joined_copy).findings == []
    (joined_copy / "results/out" / first / "i0.wav.sealed").unlink()
    assert {f.job for f in run_audit(joined_copy).findings} == {first, again}


@pytest.mark.slow
def test_all_outputs_of_a_job_with_shards_are_erased(joined_copy: Path) -> None:
    runtime, job = open_runtime(joined_copy), job_of(joined_copy, "sharded")
    (made,) = erase_outputs(job, runtime, reason="asked to")
    assert len(made.files) == 8
    assert sealed_names(joined_copy, job) == set()
    result = joined_copy / "results/out" / job / "result.json"
    assert parse_result(result.read_bytes()).totals.succeeded == 4
    integrate_log(runtime)
    assert len(complete_erasures(job, runtime)) == 8
    make_old(joined_copy)
    assert run_audit(joined_copy).findings == []
