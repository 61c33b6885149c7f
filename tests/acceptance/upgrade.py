"""The release before and this one on the same buckets: `python -m tests.acceptance.upgrade`.

Runs the code of the previous release, which it takes from the history of this clone, at the commit
that the newest recording in tests/data/recorded names. Both run as the command `voicedrop`, with
the embedded voice, in the packages that are installed here. Takes some minutes.

finish: a job in which a worker of the previous release was killed is finished by this release.
leave: a job, and a job in shards, in which a worker of this release was killed are left untouched
by the previous one, and finished by this one.
beside: workers of both, side by side, finish jobs that arrive one after the other.

Ends with an error if a result is missing, an output does not open, an audit finds something, or the
previous release changed an object of a job that this one had begun.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.crypto import keys
from core.job.lease import Lease
from core.manifest.resolve import job_id
from core.storage.object_keys import queue_key, result_key, shard_key, shard_name
from handlers.jobs import carry_out_shard
from handlers.sweep import run_sweep
from tests.e2e.record import consent
from tests.e2e.recorded import ARCHIVES
from tests.support.command_line import ROOT
from tests.support.runtime import REFERENCE, finish_job, local_runtime, split_job
from tests.support.runtime import put_job as put_quick_job

BUILD = ROOT / "build" / "previous"
LEASE_SECONDS = 5.0
ITEMS = [{"id": f"i{n}", "text": f"Some words that are long enough, number {n}."} for n in range(4)]
SECONDS = 600.0
"""After which a step has failed."""


@dataclass(frozen=True, slots=True)
class Release:
    """The code of a release, run on one set of buckets."""

    code: Path
    root: Path

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "handlers.cli", *arguments]
        clean = {"PATH": "/usr/bin:/bin", "HOME": str(self.root), "OMP_NUM_THREADS": "1"}
        env = clean | {"PYTHONPATH": str(self.code), "VOICEDROP_LEASE_SECONDS": "5"} | environ
        with (self.root / "log").open("a") as log:
            return subprocess.Popen(
                command, cwd=self.root, env=env, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def run(self, *arguments: str, **environ: str) -> tuple[int, str]:
        """Run a command to its end; return its exit code and standard output."""
        with self.start(*arguments, **environ) as process:
            out, _ = process.communicate(timeout=SECONDS)
        return process.returncode, out

    def watch_once(self, **environ: str) -> int:
        return self.run("watch", "--once", "--json", **environ)[0]


def unpack_previous() -> Path:
    """Return a folder with the code of the previous release."""
    with tarfile.open(ARCHIVES[-1]) as tar:
        notes = tar.extractfile("notes.json")
        assert notes
        commit = json.load(notes)["commit"]
    command = ["git", "archive", "--format=tar", commit, "core", "events", "handlers", "watermark"]
    packed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        sys.exit(f"The history of this clone lacks the release, commit {commit}: fetch it first.")
    shutil.rmtree(BUILD, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as tar:
        tar.extractall(BUILD, filter="data")
    return BUILD


def put_job(root: Path, name: str, count: int) -> str:
    """Put a manifest of so many items into the inbox; return the id of its job."""
    items = [{"id": f"i{n}", "text": f"This is {name}, number {n}."} for n in range(count)]
    voice = {"reference": "refs/a.flac", "language": "en", "consent": "consent/a.json"}
    fields = {"schema": "voicedrop/job/1", "voices": {"a": voice}, "items": items}
    data = json.dumps(fields).encode()
    path = root / "bucket" / "inbox" / "jobs" / f"{name}.manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return job_id("inbox", f"jobs/{path.name}", data)


def outputs(root: Path, job: str) -> list[Path]:
    return sorted((root / "bucket" / "results" / "out" / job).glob("*.sealed"))


def kill_after_first_output(release: Release, job: str, **environ: str) -> None:
    with release.start("watch", "--once", **environ) as worker:
        deadline = time.monotonic() + SECONDS
        while not outputs(release.root, job):
            assert worker.poll() is None, "the worker ended early"
            assert time.monotonic() < deadline, "the worker made nothing"
            time.sleep(0.01)
        worker.kill()
    assert not result_of(release.root, job), "the worker was too fast: use more items"


def result_of(root: Path, job: str) -> dict[str, Any]:
    path = root / "bucket" / "results" / "out" / job / "result.json"
    return dict(json.loads(path.read_bytes())) if path.is_file() else {}


def objects_of(root: Path, *jobs: str) -> dict[str, bytes]:
    """Return every object whose key names one of the jobs."""
    paths = (path for path in (root / "bucket").rglob("*") if path.is_file())
    return {str(p): p.read_bytes() for p in paths if any(job in str(p) for job in jobs)}


def finish_what_the_previous_release_began(old: Release, new: Release) -> None:
    job = put_job(old.root, "old", 4)
    kill_after_first_output(old, job)
    stored = {path: path.read_bytes() for path in outputs(old.root, job)}
    assert new.watch_once() == 0
    assert result_of(new.root, job)["status"] == "succeeded"
    assert {path: path.read_bytes() for path in stored} == stored, "an output was replaced"


def leave_what_this_release_began(old: Release, new: Release) -> None:
    """This release works with the voice of the tests: the previous one must not speak at all."""
    ring = keys.load_keyring(new.root / "keys")
    runtime = local_runtime(new.root / "bucket", keys=ring, worker="new", shard_items=2)
    whole = finish_job(put_quick_job(runtime, name="whole", items=ITEMS[:2]), runtime)
    last = whole.items[1].output
    assert last
    for key in (result_key(whole.job_id), last.key):
        runtime.results.delete(key)
    runtime.control.delete(queue_key(whole.job_id))
    cut = split_job(put_quick_job(runtime, name="cut", items=ITEMS), runtime)
    assert carry_out_shard(shard_key(cut.job_id, 0), runtime) is None
    for name in (whole.job_id, shard_name(cut.job_id, 1)):  # as if its worker had been killed
        Lease.acquire(runtime.control, name, "new", LEASE_SECONDS, ring)
    begun = (whole.job_id, cut.job_id)
    before = objects_of(new.root, *begun)
    for wait in (0.0, LEASE_SECONDS + 2):  # while the leases hold, and when they have expired
        time.sleep(wait)
        for command in ("watch", "--once"), ("sweep", "--grace", "0"):
            code, _ = old.run(*command, "--json")
            after = objects_of(new.root, *begun)
            changed = [path for path in before | after if before.get(path) != after.get(path)]
            print(f"  {command[0]} of the previous release: exit code {code}, changed {changed}")
            assert not changed
    swept = run_sweep(runtime, grace=0.0)
    assert swept.open_jobs == swept.failures == 0, swept.findings
    for job in begun:
        assert result_of(new.root, job)["status"] == "succeeded"


def work_side_by_side(old: Release, new: Release) -> None:
    with old.start("watch", "--poll", "0.5") as one, new.start("watch", "--poll", "0.5") as other:
        jobs = []
        for number in range(8):
            jobs.append(put_job(new.root, f"both{number}", 2))
            time.sleep(2)
        deadline = time.monotonic() + SECONDS
        while not all(result_of(new.root, job) for job in jobs) and time.monotonic() < deadline:
            time.sleep(0.5)
        running = [process.poll() is None for process in (one, other)]
        one.kill()
        other.kill()
    print(f"  still running at the end: previous {running[0]}, this {running[1]}")
    assert new.watch_once() == 0
    assert {result_of(new.root, job).get("status") for job in jobs} == {"succeeded"}


def check_everything(new: Release) -> None:
    jobs = [path.name for path in (new.root / "bucket/results/out").iterdir()]
    for job in jobs:
        code, out = new.run("open", job, "--out", f"heard/{job}", "--json")
        assert code == 0, out
    new.run("log", "integrate")
    code, out = new.run("audit", "--json")
    assert code == 0, out


def main(steps: list[str]) -> int:
    code = unpack_previous()
    with tempfile.TemporaryDirectory() as folder:
        old, new = Release(code, Path(folder)), Release(ROOT, Path(folder))
        assert old.run("init")[0] == 0
        inbox = Path(folder) / "bucket" / "inbox"
        (inbox / "refs").mkdir()
        (inbox / "consent").mkdir()
        shutil.copy(REFERENCE, inbox / "refs" / "a.flac")
        (inbox / "consent" / "a.json").write_text(json.dumps(consent("a")))
        for name in steps:
            started = time.monotonic()
            STEPS[name](old, new)
            print(f"{name}: passed in {time.monotonic() - started:.0f} s", flush=True)
        check_everything(new)
        check_everything(new)
        print("every output opens, and the audit is clean")
    return 0


STEPS = {
    "finish": finish_what_the_previous_release_began,
    "leave": leave_what_this_release_began,
    "beside": work_side_by_side,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(STEPS)))
