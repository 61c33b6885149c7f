"""The worker in the process of `voicedrop serve`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from core.job.commit import read_result
from tests.support.http_service import Running, running_service
from tests.support.present import present
from tests.support.runtime import put_job

TWO = [{"id": name, "text": f"The words of {name}."} for name in ("one", "two")]


def wait_for(running: Running, job: str) -> None:
    ends = time.monotonic() + 60
    while read_result(job, running.runtime) is None:
        assert time.monotonic() < ends, running.said
        time.sleep(0.1)


@pytest.mark.slow
def test_what_is_copied_into_the_inbox_is_made_in_shards_too_and_waits_for_its_files(
    tmp_path: Path,
) -> None:
    with running_service(tmp_path, shard_items=1) as running:
        inbox = running.runtime.inbox
        put_job(running.runtime, name="cut", items=TWO)
        recording = inbox.get("refs/alice.flac", limit=1 << 20).data
        inbox.delete("refs/alice.flac")
        key = put_job(running.runtime, name="late", wait_s=600)
        inbox.delete("refs/alice.flac")
        ids = {job["manifest"]: job["job"] for job in running.client.get("/jobs").json()["jobs"]}
        ends = time.monotonic() + 60
        while not any("waits for refs/alice.flac" in line for line in running.said):
            assert time.monotonic() < ends, running.said
            time.sleep(0.1)
        inbox.put("refs/alice.flac", recording)
        for job in ids.values():
            wait_for(running, job)
        cut = present(read_result(ids["jobs/cut.manifest.json"], running.runtime))
        assert (cut.status, len(cut.parts)) == ("succeeded", 2)
        late = present(read_result(ids[key], running.runtime))
        assert late.status == "succeeded"


@pytest.mark.slow
def test_a_job_that_waits_for_a_file_ends_when_it_is_cancelled(tmp_path: Path) -> None:
    with running_service(tmp_path) as running:
        put_job(running.runtime, wait_s=600)
        running.runtime.inbox.delete("refs/alice.flac")
        (job,) = running.client.get("/jobs").json()["jobs"]
        assert running.client.delete(f"/jobs/{job['job']}").status_code == 202
        wait_for(running, job["job"])
        assert running.client.get(f"/jobs/{job['job']}").json()["error"] == "JOB_CANCELLED"
