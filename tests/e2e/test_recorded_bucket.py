"""The current version reads and continues buckets of earlier versions.

tests/data/recorded/README.md describes each recording. The voice of a recording of another version
is enrolled again, which takes half a minute.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from core.version import VERSION
from handlers.worker import worker_from
from tests.e2e.recorded import ARCHIVES, RecordedBucket, unpack
from tests.support.events import notification

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_coverage")]

TWO_JOBS = {"VOICEDROP_QUOTA_JOBS": "2"}
"""Jobs per day and producer. Of the recorded day, two are still open. Each new job has a folder,
hence a producer, of its own."""


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.name)
def archive(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture(scope="module")
def recorded(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> RecordedBucket:
    """The recording as it is, not to be changed."""
    return unpack(archive, tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def opened_files(
    recorded: RecordedBucket, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Path]]:
    """Id of each finished job -> the files that `voicedrop open` writes."""
    files: dict[str, list[Path]] = {}
    for job in recorded.finished():
        folder = tmp_path_factory.mktemp(job)
        if recorded.outputs(job):
            ran = recorded.run("open", job, "--out", str(folder), "--json")
            is_partial = recorded.result(job)["status"] == "partial"
            assert ran.returncode == is_partial, ran.stderr
            files[job] = [Path(one["path"]) for one in json.loads(ran.stdout)["opened"]]
    return files


@dataclass(frozen=True, slots=True)
class Continued:
    """A recording in which the open jobs were finished and new ones were carried out."""

    workspace: RecordedBucket
    resumed: dict[str, Any]
    """The answer of the function to the upload of the recording for which a job waited."""
    swept: dict[str, Any]
    """The answer to the sweep timer after that."""
    new: dict[str, str]
    """Name of a new manifest -> id of its job."""
    logged: int


@pytest.fixture(scope="module")
def continued(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Continued:
    """The recording, continued by the worker of a container in this process."""
    workspace = unpack(archive, tmp_path_factory.mktemp("continued"))
    function = worker_from(workspace.environ(**TWO_JOBS))

    def answer(body: bytes) -> Any:
        return json.loads(function.handle(body, None, "request"))["done"]

    for name in ("alice", "carol"):
        renew_consent(workspace, name)
    refs = workspace.root / "bucket" / "inbox" / "refs"
    shutil.copy(refs / "alice.flac", refs / "carol.flac")
    (resumed,) = answer(notification("refs/carol.flac"))
    (swept,) = answer(timer("sweep"))
    keys = {
        name: workspace.put_manifest(f"{name}/new", document)
        for name, document in further_manifests(workspace).items()
    }
    made = answer(notification(*keys.values()))
    new = {name: answer["job"] for name, answer in zip(keys, made, strict=True)}
    (integrated,) = answer(timer("integrate"))
    function.close()
    return Continued(workspace, resumed, swept, new, integrated["logged"])


def renew_consent(workspace: RecordedBucket, name: str) -> None:
    """Replace a consent record by one that is valid from now on.

    All records of the recording name the same file, and bob's was withdrawn: since then, only a
    record of a later date admits it.
    """
    path = workspace.root / "bucket" / "inbox" / "consent" / f"{name}.json"
    renewed = json.loads(path.read_text()) | {"valid_from": datetime.now(UTC).isoformat()}
    path.write_text(json.dumps(renewed))


def further_manifests(workspace: RecordedBucket) -> dict[str, dict[str, Any]]:
    """Return manifests of jobs that use recorded voices and results."""
    items = workspace.manifest("items")
    words = {"id": "new", "text": "New words in the old voice."}
    return {
        "fresh": items | {"items": [words]},
        "withdrawn": items | {"items": [words | {"voice": "bob"}]},
        **{
            n: workspace.manifest(n) | {"retry_of": workspace.job(n)}
            for n in ("items", "cut", "book")
        },
    }


def timer(payload: str) -> bytes:
    fields = {"triggerTime": "2026-11-30T00:00:00Z", "triggerName": payload, "payload": payload}
    return json.dumps(fields).encode()


def test_a_recording_exists() -> None:
    assert ARCHIVES


def test_every_result_opens(recorded: RecordedBucket, opened_files: dict[str, list[Path]]) -> None:
    """Opening verifies the signature, the envelopes and all digests."""
    for job, files in opened_files.items():
        assert sorted(path.name for path in files) == sorted(recorded.outputs(job))
        assert all(path.stat().st_size for path in files)
    assert sum(map(len, opened_files.values())) == recorded.notes["audit"]["2"]


def test_the_mark_of_an_opened_output_names_its_job(
    recorded: RecordedBucket, opened_files: dict[str, list[Path]]
) -> None:
    """The two outputs were marked with different watermark keys."""
    wanted = [(recorded.job("items"), "one"), (recorded.job("cut"), "row-1")]
    clips = [str(path) for job, item in wanted for path in opened_files[job] if path.stem == item]
    traces = recorded.json("trace", *(clip for clip in clips if not clip.endswith(".srt")))
    found = [(one["job"], one["item"]) for answer in traces["traces"] for one in answer["findings"]]
    assert found == wanted


def test_an_audit_of_the_recorded_bucket_finds_nothing(
    recorded: RecordedBucket, tmp_path: Path
) -> None:
    report = run_audit(recorded, tmp_path, recorded.notes["checkpoints"][0])
    passed = {str(check["number"]): check["passed"] for check in report["checks"]}
    assert {number: passed[number] for number in recorded.notes["audit"]} == recorded.notes["audit"]
    assert report["findings"] == []


def test_an_audit_finds_every_byte_that_was_changed(archive: Path, tmp_path: Path) -> None:
    """This shows that the test above can fail."""
    workspace = unpack(archive, tmp_path)
    changed = {
        f"out/{workspace.job('items')}/one.mp3.sealed": "SEAL_INVALID",
        f"out/{workspace.job('chapters')}/chapters/c0.srt.sealed": "OBJECT_CHANGED",
        f"out/{workspace.job('cut')}/parts/00001.json": "OBJECT_CHANGED",
        f"out/{workspace.job('book')}/result.json": "SIGNATURE_INVALID",
        max(
            key for key in stored_objects(workspace) if key.startswith("log/tile/0/")
        ): "LOG_INVALID",
    }
    for key in changed:
        flip_bit(workspace.results / key)
    report = run_audit(workspace, tmp_path, workspace.notes["checkpoints"][0])
    codes = {(one["key"], one["code"]) for one in report["findings"]}
    assert {(key, code) for key, code in changed.items() if code != "LOG_INVALID"} <= codes
    assert "LOG_INVALID" in {code for _, code in codes}


def test_a_waiting_job_resumes_when_its_recording_arrives(continued: Continued) -> None:
    answer, workspace = continued.resumed, continued.workspace
    assert (answer["job"], answer["status"]) == (workspace.job("waiting"), "succeeded")
    assert workspace.result(answer["job"])["manifest"]["key"] == "jobs/waiting.manifest.json"


def test_a_sweep_finds_only_what_was_left_to_do(continued: Continued) -> None:
    """They are two shards, the last of which finishes the job, and the note of a withdrawal, which
    the version that saw it did not write yet."""
    assert continued.swept["counts"] == {"unfinished": 2, "withdrawn": 1}
    assert continued.swept["open"] == 0
    assert continued.swept["manifests"] == len(continued.workspace.notes["jobs"])


def test_unfinished_shards_are_carried_out_and_stored_outputs_are_adopted(
    continued: Continued, recorded: RecordedBucket, tmp_path: Path
) -> None:
    workspace, job = continued.workspace, continued.workspace.job("left")
    result = workspace.result(job)
    assert (result["status"], len(result["parts"])) == ("succeeded", 3)
    made = {path.name for path in (workspace.results / "out" / job).glob("*.sealed")}
    stored = {path.name for path in (recorded.results / "out" / job).glob("*.sealed")}
    assert made > stored
    opened = workspace.json("open", job, "--out", str(tmp_path))["opened"]
    assert [one["item"] for one in opened] == [f"left-{n}" for n in range(5)]
    assert len(made) == len(opened)


def test_an_adopted_output_of_another_version_is_noticed(continued: Continued) -> None:
    """The version is part of the fingerprint in the record of the object."""
    workspace = continued.workspace
    items = workspace.items(workspace.job("left"))
    (adopted,) = [item for item in items if item["id"] == "left-1"]
    changed = "ENGINE_CHANGED" in [notice["code"] for notice in adopted["notices"]]
    assert changed == (workspace.notes["version"] != VERSION)


def test_recorded_objects_are_not_written_again(
    continued: Continued, recorded: RecordedBucket
) -> None:
    now, then = stored_objects(continued.workspace), stored_objects(recorded)
    assert {key: data for key, data in now.items() if key in then} == then


def test_a_manifest_that_was_finished_is_answered_with_its_result(continued: Continued) -> None:
    ran = continued.workspace.run("watch", "--once", "--json", VOICEDROP_KOKORO="/nowhere")
    assert ran.returncode == 0, ran.stderr  # the exit code speaks of new jobs alone
    jobs = json.loads(ran.stdout)["jobs"].values()
    answer = {one["job"]: one["status"] for one in jobs if "job" in one}
    for one in continued.workspace.notes["jobs"].values():
        assert answer[one["job"]] == (one["status"] or "succeeded")


def test_a_stored_voiceprint_is_used(continued: Continued) -> None:
    """Only by the version that stored it; others enrol the voice again."""
    workspace = continued.workspace
    jobs = [workspace.job("left"), workspace.job("waiting"), continued.new["fresh"]]
    assert all("speak" in workspace.result(job)["stages"] for job in jobs)
    learned = any("enrol" in workspace.result(job)["stages"] for job in jobs)
    assert learned == (workspace.notes["version"] != VERSION)


@pytest.mark.parametrize("name", ["items", "cut", "book"])
def test_a_retry_keeps_recorded_items(continued: Continued, name: str) -> None:
    """Except the one of the voice that was withdrawn since."""
    before = continued.workspace.result(continued.workspace.job(name))
    done = continued.workspace.result(continued.new[name])
    withdrawn = {"items": 1}.get(name, 0)
    assert done["status"] == ("partial" if withdrawn else before["status"])
    assert done["totals"]["kept"] == before["totals"]["succeeded"] - withdrawn


def test_withdrawn_consent_stays_withdrawn(continued: Continued) -> None:
    done = continued.workspace.result(continued.new["withdrawn"])
    (item,) = done["items"]
    assert (done["status"], item["error"]["code"]) == ("failed", "CONSENT_REVOKED")


def test_the_log_extends_every_recorded_checkpoint(continued: Continued, tmp_path: Path) -> None:
    workspace = continued.workspace
    for kept in workspace.notes["checkpoints"]:
        (tmp_path / "kept").write_text(kept)
        answer = workspace.json("log", "verify", "--checkpoint", str(tmp_path / "kept"))
        assert answer["size"] == continued.logged
    jobs, notes = (
        len(list(workspace.results.glob(pattern)))
        for pattern in ("out/*/result.json", "withdrawn/*/*.json")
    )
    assert (answer["jobs"], continued.logged) == (jobs, jobs + notes)


def test_an_audit_of_the_continued_bucket_is_clean_and_lists_the_renewed_records(
    continued: Continued, tmp_path: Path
) -> None:
    report = run_audit(continued.workspace, tmp_path, continued.workspace.notes["checkpoints"][-1])
    assert report["findings"] == []
    assert {one["key"] for one in report["replaced"]} == {"consent/alice.json"}
    found = [one["job"] for one in report["replaced"]]
    assert continued.workspace.job("items") in found
    assert continued.new["fresh"] not in found


def test_nothing_is_left_for_another_sweep(continued: Continued) -> None:
    answer = continued.workspace.json("sweep")
    assert (answer["findings"], answer["open"]) == ([], 0)
    assert answer["finished"] == answer["manifests"]


def run_audit(workspace: RecordedBucket, folder: Path, checkpoint: str) -> dict[str, Any]:
    (folder / "checkpoint").write_text(checkpoint)
    options = ("--out", str(folder / "audit"), "--checkpoint", str(folder / "checkpoint"))
    report: dict[str, Any] = json.loads(workspace.run("audit", "--json", *options).stdout)
    return report


def stored_objects(workspace: RecordedBucket) -> dict[str, tuple[bytes, int]]:
    """Return the key of every result object -> its bytes and modification time in ns."""
    return {
        str(path.relative_to(workspace.results)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in workspace.results.rglob("*")
        if path.is_file() and ".meta" not in path.parts
    }


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
