"""What the sweeper finds, finishes and explains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core import pipeline
from core import sweep as looking
from core.audio.waveform import Audio
from core.errors import Unavailable
from core.job import commit, lease
from core.job.runtime import Runtime, Waiting
from core.storage.local import LocalStore
from core.storage.object_keys import result_key
from core.storage.port import Info, Object
from core.voice import Voiceprint
from handlers import oss, sweep
from handlers.cli import exit_codes
from handlers.cli import sweep as sweeping
from handlers.sweep import MAX_FINDINGS, SweepReport
from tests.support.events import published_events
from tests.support.present import present
from tests.support.runtime import (
    REFERENCE,
    BuzzVoice,
    finish_job,
    local_runtime,
    put_job,
    voice_of,
)

pytestmark = pytest.mark.usefixtures("memoised_audio")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return local_runtime(tmp_path)


def sweep_once(runtime: Runtime) -> SweepReport:
    return sweep.run_sweep(runtime, grace=0.0)


def kinds(swept: SweepReport) -> list[tuple[str, str]]:
    return [(finding.kind, finding.action) for finding in swept.findings]


@pytest.mark.slow
def test_a_manifest_whose_notification_was_lost_is_carried_out(runtime: Runtime) -> None:
    put_job(runtime)
    assert kinds(sweep_once(runtime)) == [("unfinished", "carried out: succeeded")]
    assert [event["type"] for event in published_events(runtime)] == ["com.voicedrop.job.succeeded"]
    swept = sweep_once(runtime)
    assert (swept.findings, swept.finished, swept.open_findings) == ([], 1, [])


@pytest.mark.slow
def test_a_result_without_event_is_announced_even_if_its_manifest_is_gone(runtime: Runtime) -> None:
    key = put_job(runtime)
    finish_job(key, runtime)
    (event,) = runtime.results.list("events/")
    before = runtime.results.get(event.key, limit=10**6).data
    runtime.results.delete(event.key)
    runtime.inbox.delete(key)
    assert kinds(sweep_once(runtime)) == [("unannounced", "event written")]
    assert runtime.results.get(event.key, limit=10**6).data == before


def test_a_job_in_progress_is_left_alone(runtime: Runtime) -> None:
    key = put_job(runtime)
    job_id = commit.read_manifest(key, runtime).job_id
    with lease.Lease.acquire(runtime.control, job_id, "live", 60, runtime.keys):
        swept = sweep_once(runtime)
    assert kinds(swept) == [("running", "")]
    assert "live has the lease" in swept.findings[0].detail
    assert voice_of(runtime).spoken == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "words"), [(-5, "expired 5 s ago, attempt 1"), (-1, "expired 1 s ago")]
)
def test_an_expired_lease_is_reported_and_its_job_finished(
    runtime: Runtime, seconds: float, words: str
) -> None:
    key = put_job(runtime)
    lease.Lease.acquire(
        runtime.control, commit.read_manifest(key, runtime).job_id, "dead", seconds, runtime.keys
    )
    (finding,) = sweep_once(runtime).findings
    assert words in finding.detail
    assert finding.action == "carried out: succeeded"


def test_a_job_left_unfinished_is_distinguished_from_one_never_started(runtime: Runtime) -> None:
    key = put_job(runtime)
    job_id = commit.read_manifest(key, runtime).job_id
    with lease.Lease.acquire(runtime.control, job_id, "tired", 9, runtime.keys):
        pass
    assert "tired did not finish it" in sweep_once(runtime).findings[0].detail


def test_a_new_manifest_is_left_to_its_notification(runtime: Runtime) -> None:
    put_job(runtime)
    swept = sweep.run_sweep(runtime)
    assert kinds(swept) == [("fresh", "")]
    assert len(swept.open_findings) == 1


@pytest.mark.slow
def test_a_job_that_waits_for_a_file_is_resumed_even_if_its_event_was_lost(
    runtime: Runtime,
) -> None:
    key = put_job(runtime, wait_s=600)
    runtime.inbox.delete("refs/alice.flac")
    assert kinds(sweep_once(runtime)) == [("waiting", "")]
    assert sweep_once(runtime).open_findings[0].manifest == key
    runtime.inbox.put("refs/alice.flac", REFERENCE.read_bytes())
    assert kinds(sweep_once(runtime)) == [("unfinished", "carried out: succeeded")]


def test_a_waiting_marker_that_disappears_is_no_finding(tmp_path: Path) -> None:
    class Vanishing(LocalStore):
        def get(self, key: str, *, limit: int, etag: str = "") -> Object:
            if key.startswith("pending/"):
                self.delete(key)
            return super().get(key, limit=limit, etag=etag)

    (tmp_path / "control").mkdir()
    runtime = local_runtime(tmp_path, control=Vanishing(tmp_path / "control"))
    runtime.control.put("pending/x/y", b"jobs/x.manifest.json")
    assert sweep_once(runtime).findings == []


def test_an_object_too_large_for_a_waiting_marker_is_removed(
    runtime: Runtime, tmp_path: Path
) -> None:
    runtime.control.put("pending/x/y", b"x")
    os.truncate(tmp_path / "control/pending/x/y", 1 << 40)
    assert kinds(sweep_once(runtime)) == [("stale-pending", "removed")]
    assert list(runtime.control.list("pending/")) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["finished", "deleted", "replaced"])
def test_a_waiting_marker_that_is_no_longer_needed_is_removed(runtime: Runtime, how: str) -> None:
    key = put_job(runtime, wait_s=600)
    runtime.inbox.delete("refs/alice.flac")
    assert isinstance(pipeline.run(key, runtime), Waiting)
    (marker,) = runtime.control.list("pending/")
    if how == "finished":
        put_job(runtime, wait_s=600)
        finish_job(key, runtime)
        runtime.control.put(marker.key, key.encode())  # as if its removal had failed
    elif how == "deleted":
        runtime.inbox.delete(key)
    else:
        put_job(runtime, id="other bytes")
    assert ("stale-pending", "removed") in kinds(sweep_once(runtime))
    assert list(runtime.control.list("pending/")) == []


def test_the_waiting_marker_of_a_waiting_job_is_kept(runtime: Runtime) -> None:
    put_job(runtime, wait_s=600)
    runtime.inbox.delete("refs/alice.flac")
    sweep_once(runtime)
    sweep_once(runtime)
    assert len(list(runtime.control.list("pending/"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("is_withdrawn", [False, True])
@pytest.mark.parametrize("how", ["deleted", "the result of another job"])
def test_outputs_of_a_job_whose_manifest_was_deleted_are_reported(
    runtime: Runtime, how: str, is_withdrawn: bool
) -> None:
    """They are removed only if consent to their voice was withdrawn."""
    other = REFERENCE.with_name("ref_1688.flac").read_bytes()
    theirs = finish_job(put_job(runtime, name="theirs", reference=other), runtime)
    key = put_job(runtime)
    done = finish_job(key, runtime)
    output = present(done.items[0].output).key
    runtime.results.delete(result_key(done.job_id))
    if how != "deleted":
        foreign = runtime.results.get(result_key(theirs.job_id), limit=10**7).data
        runtime.results.put(result_key(done.job_id), foreign)
    runtime.inbox.delete(key)
    if is_withdrawn:
        record = runtime.inbox.get("consent/alice.json", limit=10**6).data
        runtime.consents.withdraw(record, runtime.inbox.now())
    (finding,) = sweep_once(runtime).findings
    assert (finding.kind, finding.job, finding.keys) == ("abandoned", done.job_id, [output])
    assert ("the result of another job" in finding.detail) == (how != "deleted")
    assert bool(runtime.results.head(output)) == (not is_withdrawn)
    assert runtime.results.head(present(theirs.items[0].output).key)


@pytest.mark.slow
def test_a_job_in_whose_place_there_is_the_result_of_another_is_carried_out_again(
    runtime: Runtime,
) -> None:
    theirs = finish_job(put_job(runtime, name="theirs"), runtime)
    done = finish_job(put_job(runtime), runtime)
    foreign = runtime.results.get(result_key(theirs.job_id), limit=10**7).data
    runtime.results.put(result_key(done.job_id), foreign)
    (finding,) = sweep_once(runtime).findings
    assert (finding.job, finding.action) == (done.job_id, "carried out: succeeded")
    again = present(commit.read_result(done.job_id, runtime))
    assert [item.output for item in again.items] == [item.output for item in done.items]
    assert sweep_once(runtime).findings == []


def test_a_lease_of_a_job_whose_manifest_was_deleted_is_explained(runtime: Runtime) -> None:
    lease.Lease.acquire(runtime.control, "0" * 32, "gone", -1, runtime.keys)
    lease.Lease.acquire(
        runtime.control, "log", "sequencer", -1, runtime.keys
    )  # not the lease of a job
    assert [(f.kind, f.job) for f in sweep_once(runtime).findings] == [("abandoned", "0" * 32)]


def test_an_output_stored_late_for_a_job_that_was_given_up_is_explained(runtime: Runtime) -> None:
    key = put_job(runtime)
    order = commit.read_manifest(key, runtime)
    for _ in range(runtime.max_attempts):
        lease.Lease.acquire(runtime.control, order.job_id, "killed", -1.0, runtime.keys)
    finish_job(key, runtime)
    runtime.results.put(f"out/{order.job_id}/hello.wav.sealed", b"late")
    (finding,) = sweep_once(runtime).findings
    assert (finding.kind, "given up" in finding.detail) == ("orphans", True)


def test_an_output_that_no_result_names_is_reported(runtime: Runtime) -> None:
    done = finish_job(put_job(runtime), runtime)
    runtime.results.put(f"out/{done.job_id}/stranger.wav.sealed", b"?")
    assert [f.keys for f in sweep_once(runtime).findings] == [
        [f"out/{done.job_id}/stranger.wav.sealed"]
    ]


@pytest.mark.slow
def test_a_forged_result_is_reported_and_does_not_stop_the_others(runtime: Runtime) -> None:
    key = put_job(runtime, name="a")
    job_id = commit.read_manifest(key, runtime).job_id
    runtime.results.put(result_key(job_id), b'{"status":"succeeded"}')
    put_job(runtime, name="b")
    swept = sweep_once(runtime)
    assert {f.error for f in swept.findings} == {"SIGNATURE_INVALID", ""}
    assert sweeping.format_output(swept).exit_code == exit_codes.FAILED
    assert len(published_events(runtime)) == 1


@pytest.mark.slow
def test_a_job_with_an_outage_or_a_bug_stays_open_and_the_sweep_continues(
    tmp_path: Path,
) -> None:
    class Moody(BuzzVoice):
        def enrol(self, reference: Audio, transcript: str, language: str) -> Voiceprint:
            self.moods = [*getattr(self, "moods", []), language]
            if len(self.moods) == 1:
                raise Unavailable("KMS_UNAVAILABLE")
            if len(self.moods) == 2:
                raise ZeroDivisionError
            return super().enrol(reference, transcript, language)

    runtime = local_runtime(tmp_path, voice=Moody())
    for name in "abc":
        put_job(runtime, name=name)
    swept = sweep_once(runtime)
    assert [f.error for f in swept.findings] == ["KMS_UNAVAILABLE", "INTERNAL", ""]
    assert len(swept.open_findings) == 2
    assert sweep_once(runtime).open_findings == []


def test_a_rejected_manifest_is_finished_too(runtime: Runtime) -> None:
    runtime.inbox.put("jobs/bad.manifest.json", b"{")
    runtime.inbox.put("jobs/readme.txt", b"no manifest")
    assert kinds(sweep_once(runtime)) == [("unfinished", "carried out: rejected")]


def test_a_manifest_deleted_between_listing_and_reading_is_no_finding(tmp_path: Path) -> None:
    class Vanishing(LocalStore):
        def get(self, key: str, *, limit: int, etag: str = "") -> Object:
            self.delete(key)
            return super().get(key, limit=limit, etag=etag)

    (tmp_path / "inbox").mkdir()
    runtime = local_runtime(tmp_path, inbox=Vanishing(tmp_path / "inbox"))
    put_job(runtime)
    assert sweep_once(runtime).findings == []


def test_the_report_has_json_text_and_an_exit_code(runtime: Runtime) -> None:
    put_job(runtime, wait_s=600)
    runtime.inbox.delete("refs/alice.flac")
    report = sweeping.format_output(sweep_once(runtime))
    assert report.exit_code == exit_codes.WAITING
    assert report.lines[0].startswith("jobs/one.manifest.json: waiting: Waits for refs/alice.flac")
    assert report.lines[-1] == "1 manifests, 0 jobs finished, 1 open."
    assert json.loads(json.dumps(report.data))["counts"] == {"waiting": 1}
    assert sweeping.format_output(SweepReport()).exit_code == 0


@pytest.mark.slow
def test_voicedrop_sweep_finishes_open_jobs(tmp_path: Path) -> None:
    """The command as a process, with a manifest that is refused without a voice."""

    def voicedrop(*arguments: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("VOICEDROP_")}
        return subprocess.run(
            [sys.executable, "-m", "handlers.cli", *arguments],
            cwd=tmp_path,
            env=clean | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    assert voicedrop("init").returncode == 0
    (tmp_path / "bucket/inbox/jobs").mkdir()
    (tmp_path / "bucket/inbox/jobs/x.manifest.json").write_text("{")
    waiting = voicedrop("sweep", "--json")
    assert (waiting.returncode, json.loads(waiting.stdout)["counts"]) == (5, {"fresh": 1})
    swept = voicedrop("sweep", "--grace", "0")
    assert swept.returncode == 0, swept.stderr
    assert "jobs/x.manifest.json: unfinished: carried out: rejected." in swept.stdout


def test_a_timer_runs_the_sweep(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path)
    runtime.inbox.put("jobs/bad.manifest.json", b"{")
    fired = {"triggerTime": "2026-11-22T10:50:00Z", "triggerName": "often", "payload": "sweep"}
    (answer,) = oss.handle(json.dumps(fired).encode(), runtime)["done"]
    assert answer == {
        "turn": "sweep", "manifests": 1, "finished": 0, "open": 1, "counts": {"fresh": 1}
    }  # fmt: skip


class Long(LocalStore):
    """Lists many finished jobs, one of which has no result."""

    count = 20_000

    def list(self, prefix: str, *, after: str = "") -> Iterator[Info]:
        endings = {"out/": ("/hello.wav.sealed", "/result.json"), "lease/": ("",)}
        for number in range(self.count if prefix in endings else 0):
            for ending in endings[prefix]:
                if number != 7 or ending != "/result.json":
                    yield Info(f"{prefix}{number:032x}{ending}", 1, "", 1.0)


@pytest.mark.slow
def test_a_sweep_keeps_only_jobs_without_a_result_in_memory(
    runtime: Runtime, tmp_path: Path
) -> None:
    store = Long(tmp_path / "results")
    tracemalloc.start()
    jobs = looking.find_jobs_without_result(replace(runtime, results=store, control=store), 2.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert jobs == {f"{7:032x}": [f"out/{7:032x}/hello.wav.sealed"]}
    assert peak < 100_000  # bytes; the ids of all jobs alone would be two million


def test_the_first_of_many_findings_are_kept_and_all_are_counted() -> None:
    swept = SweepReport()
    for number in range(MAX_FINDINGS + 5):
        swept.add(looking.SweepFinding(kind="waiting", job=f"{number:032x}"))
    assert (len(swept.findings), swept.open_jobs) == (MAX_FINDINGS, MAX_FINDINGS + 5)
    shown = sweeping.format_output(swept)
    assert (shown.data["open"], shown.exit_code) == (MAX_FINDINGS + 5, exit_codes.WAITING)
    assert shown.lines[-2] == "and 5 more"
