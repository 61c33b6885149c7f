"""Each bucket is lost once, and rebuilt as docs/recovery.md says."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from core.audit import Sources, audit_bucket, build_report
from core.consent import protection
from core.crypto import keys, sealing
from core.job.runtime import Runtime
from core.result.document import Result
from core.speech.speaker import Speaker
from core.storage.object_keys import PROTECTED, queue_key, result_key
from core.tlog import log
from handlers import jobs
from handlers.sweep import run_sweep
from tests.support.runtime import finish_job, local_runtime, put_job, voice_of

pytestmark = pytest.mark.slow

WORDS = "Some words that carry a mark, number"
ITEMS = [{"id": f"i{n}", "text": f"{WORDS} {n}."} for n in range(4)]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three buckets and keys: one job finished and logged; one finished and queued; of one, the
    first item is made."""
    root = tmp_path_factory.mktemp("before")
    runtime = local_runtime(root)
    finish_job(put_job(runtime, name="logged", items=ITEMS[:1]), runtime)
    jobs.integrate_log(runtime)
    finish_job(put_job(runtime, name="queued", items=ITEMS[1:2]), runtime)
    begun = finish_job(put_job(runtime, name="begun", items=ITEMS[2:]), runtime)
    made = begun.items[1].output
    assert made
    for key in (result_key(begun.job_id), made.key):
        runtime.results.delete(key)
    runtime.control.delete(queue_key(begun.job_id))
    return root


@pytest.fixture
def root(before: Path, tmp_path: Path) -> Path:
    copy(before, tmp_path / "site")  # with the times of files, by which a folder knows its metadata
    return tmp_path / "site"


def copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def lose(bucket: Path) -> None:
    shutil.rmtree(bucket)


def audit(runtime: Runtime, root: Path, kept: str = "") -> list[str]:
    reading = keys.load_reading_keys(root / "keys")
    sources = Sources(
        results=runtime.results, control=runtime.control, inbox=runtime.inbox, keys=reading
    )
    report = build_report(audit_bucket(sources, earlier=kept), sources, "")
    return [finding.code for finding in report.findings]


def all_open(root: Path) -> list[Result]:
    """Sweep until nothing is left, log everything, and return the results; each output opens."""
    runtime = local_runtime(root)
    swept = run_sweep(runtime, grace=0.0)
    assert swept.failures == 0
    assert run_sweep(runtime, grace=0.0).open_jobs == 0
    jobs.integrate_log(runtime)
    names = [path.name for path in (root / "inbox" / "jobs").iterdir() if path.is_file()]
    results = [finish_job(f"jobs/{name}", runtime) for name in sorted(names)]
    for item in (item for result in results for item in result.items):
        assert item.output
        assert item.envelope
        body = runtime.results.get(item.output.key, limit=1 << 24).data
        assert sealing.open_sealed(body, item.envelope, runtime.keys.wrapping)
    return results


def test_a_lost_inbox(root: Path, tmp_path: Path) -> None:
    shutil.move(root / "inbox", tmp_path / "copy")
    runtime = local_runtime(root)
    swept = run_sweep(runtime, grace=0.0)
    assert (swept.failures, swept.open_jobs) == (0, 0)
    assert [one.kind for one in swept.findings] == ["abandoned"]
    jobs.integrate_log(runtime)
    assert set(audit(runtime, root)) <= {"CONSENT_MISSING", "OBJECT_UNCLAIMED", "RESULT_MISSING"}

    copy(tmp_path / "copy", root / "inbox")
    (begun, *_) = all_open(root)
    assert begun.status == "succeeded"
    runtime = local_runtime(root)
    assert audit(runtime, root) == []


@pytest.mark.parametrize("copied", ["yesterday", "never"])
def test_lost_results(root: Path, before: Path, copied: str) -> None:
    kept = log.read_latest_checkpoint(local_runtime(root).results) or ""
    first = finish_job("jobs/logged.manifest.json", local_runtime(root))
    all_open(root)
    newer = log.read_latest_checkpoint(local_runtime(root).results) or ""
    lose(root / "results")
    if copied == "yesterday":
        copy(before / "results", root / "results")
    made = all_open(root)
    runtime = local_runtime(root)
    assert [result.status for result in made] == ["succeeded"] * 3
    same = finish_job("jobs/logged.manifest.json", runtime) == first
    assert same == (copied == "yesterday")
    # Whoever keeps a checkpoint learns what was lost since the copy, and nothing else.
    assert audit(runtime, root, kept if copied == "yesterday" else "") == []
    if copied == "yesterday":
        assert "LOG_INVALID" in audit(runtime, root, newer)


def test_a_lost_control_bucket(root: Path, tmp_path: Path) -> None:
    runtime = local_runtime(root)
    noise = np.random.default_rng(1)
    sizes = (256, 192)  # GE2E, CAM++
    who = [Speaker(*(noise.standard_normal(n).astype("f4") for n in sizes)) for _ in range(3)]
    protection.protect("0" * 64, who, runtime.control, runtime.keys, label="a", owner="a")
    copy(root / "control" / PROTECTED, tmp_path / "copy")
    kept = log.read_latest_checkpoint(runtime.results) or ""
    lose(root / "control")
    copy(tmp_path / "copy", root / "control" / PROTECTED)
    (protected,) = protection.list_protections(local_runtime(root).control, runtime.keys)
    assert protected[1]
    assert protected[1].label == "a"
    runtime.control.delete(protected[0])  # that it holds is for other tests, and takes seconds
    begun, logged, queued = all_open(root)
    assert [one.status for one in (begun, logged, queued)] == ["succeeded"] * 3
    runtime = local_runtime(root)
    assert audit(runtime, root, kept) == []
    assert voice_of(runtime).spoken == []  # nothing is left to be made
