"""What an earlier version wrote is read and continued by the version of today.

tests/data/recorded/README.md says what each recording holds. The voice of a recording by another
version is learned anew, which takes half a minute.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.version import VERSION
from handlers.worker import worker_from
from tests.e2e.recorded import ARCHIVES, Recorded, unpack
from tests.support.events import notification

pytestmark = pytest.mark.slow

ONE_JOB = {"VOICEDROP_QUOTA_JOBS": "1"}
"""A day and producer. The day of the recording has had more: of its jobs only those pass that were
counted then. Each new one lies in a folder of its own."""


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.name)
def archive(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture(scope="module")
def recorded(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """As it was recorded: only to be read."""
    return unpack(archive, tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def heard(recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Finished job -> the files that `voicedrop open` made of it."""
    files: dict[str, list[Path]] = {}
    for job in recorded.finished():
        folder = tmp_path_factory.mktemp(job)
        if recorded.outputs(job):
            opened = recorded.json("open", job, "--out", str(folder))["opened"]
            files[job] = [Path(one["path"]) for one in opened]
    return files


@dataclass(frozen=True, slots=True)
class Continued:
    """A recording in which all was done that was left to do, and then new jobs."""

    place: Recorded
    awakened: dict[str, Any]
    """What the function answered when the recording arrived for which a job waited."""
    swept: dict[str, Any]
    """What it answered to its timer after that."""
    new: dict[str, str]
    """Name of a new manifest -> its job."""
    logged: int


@pytest.fixture(scope="module")
def continued(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Continued:
    """By the function of a container, in this process."""
    place = unpack(archive, tmp_path_factory.mktemp("continued"))
    function = worker_from(place.environ(**ONE_JOB))

    def answer(body: bytes) -> Any:
        return json.loads(function.handle(body, None, "request"))["done"]

    refs = place.root / "bucket" / "inbox" / "refs"
    shutil.copy(refs / "alice.flac", refs / "carol.flac")
    (awakened,) = answer(notification("refs/carol.flac"))
    (swept,) = answer(timer("sweep"))
    keys = {name: place.drop(f"{name}/new", document) for name, document in later(place).items()}
    made = answer(notification(*keys.values()))
    new = {name: told["job"] for name, told in zip(keys, made, strict=True)}
    (integrated,) = answer(timer("integrate"))
    function.close()
    return Continued(place, awakened, swept, new, integrated["logged"])


def later(place: Recorded) -> dict[str, dict[str, Any]]:
    """Manifests of jobs that build on those that were recorded."""
    items = place.manifest("items")
    words = {"id": "new", "text": "New words in the old voice."}
    return {
        "fresh": items | {"items": [words]},
        "withdrawn": items | {"items": [words | {"voice": "bob"}]},
        **{n: place.manifest(n) | {"retry_of": place.job(n)} for n in ("items", "cut", "book")},
    }


def timer(payload: str) -> bytes:
    fields = {"triggerTime": "2026-11-30T00:00:00Z", "triggerName": payload, "payload": payload}
    return json.dumps(fields).encode()


def test_there_is_a_recording() -> None:
    assert ARCHIVES


def test_every_result_opens(recorded: Recorded, heard: dict[str, list[Path]]) -> None:
    """Which verifies its signature, its envelopes and all digests."""
    for job, files in heard.items():
        assert sorted(path.name for path in files) == sorted(recorded.outputs(job))
        assert all(path.stat().st_size for path in files)
    assert sum(map(len, heard.values())) == recorded.notes["audit"]["2"]


def test_the_mark_of_an_opened_output_names_its_job(
    recorded: Recorded, heard: dict[str, list[Path]]
) -> None:
    """Under the watermark key of then and under the one before it."""
    wanted = [(recorded.job("items"), "one"), (recorded.job("cut"), "row-1")]
    clips = [str(path) for job, item in wanted for path in heard[job] if path.stem == item]
    traces = recorded.json("trace", *(clip for clip in clips if not clip.endswith(".srt")))
    found = [(one["job"], one["item"]) for told in traces["traces"] for one in told["findings"]]
    assert found == wanted


def test_an_audit_of_the_recorded_bucket_finds_nothing(recorded: Recorded, tmp_path: Path) -> None:
    report = audited(recorded, tmp_path, recorded.notes["checkpoints"][0])
    passed = {str(check["number"]): check["passed"] for check in report["checks"]}
    assert {number: passed[number] for number in recorded.notes["audit"]} == recorded.notes["audit"]
    assert report["findings"] == []


def test_an_audit_finds_every_byte_that_was_changed(archive: Path, tmp_path: Path) -> None:
    """So the test above can fail."""
    place = unpack(archive, tmp_path)
    changed = {
        f"out/{place.job('items')}/one.mp3.sealed": "SEAL_INVALID",
        f"out/{place.job('chapters')}/chapters/c0.srt.sealed": "OBJECT_CHANGED",
        f"out/{place.job('cut')}/parts/00001.json": "OBJECT_CHANGED",
        f"out/{place.job('book')}/result.json": "SIGNATURE_INVALID",
        max(key for key in objects(place) if key.startswith("log/tile/0/")): "LOG_INVALID",
    }
    for key in changed:
        flip(place.results / key)
    report = audited(place, tmp_path, place.notes["checkpoints"][0])
    codes = {(one["key"], one["code"]) for one in report["findings"]}
    assert {(key, code) for key, code in changed.items() if code != "LOG_INVALID"} <= codes
    assert "LOG_INVALID" in {code for _, code in codes}


def test_a_waiting_job_resumes_when_its_recording_arrives(continued: Continued) -> None:
    told, place = continued.awakened, continued.place
    assert (told["job"], told["status"]) == (place.job("waiting"), "succeeded")
    assert place.result(told["job"])["manifest"]["key"] == "jobs/waiting.manifest.json"


def test_a_sweep_finds_only_what_was_left_to_do(continued: Continued) -> None:
    """Two shards, the last of which ends the job."""
    assert continued.swept["counts"] == {"unfinished": 2}
    assert continued.swept["open"] == 0
    assert continued.swept["manifests"] == len(continued.place.notes["jobs"])


def test_unfinished_shards_are_carried_out_and_stored_outputs_are_adopted(
    continued: Continued, recorded: Recorded, tmp_path: Path
) -> None:
    place, job = continued.place, continued.place.job("left")
    result = place.result(job)
    assert (result["status"], len(result["parts"])) == ("succeeded", 3)
    made = {path.name for path in (place.results / "out" / job).glob("*.sealed")}
    stored = {path.name for path in (recorded.results / "out" / job).glob("*.sealed")}
    assert made > stored
    opened = place.json("open", job, "--out", str(tmp_path))["opened"]
    assert [one["item"] for one in opened] == [f"left-{n}" for n in range(5)]
    assert len(made) == len(opened)


def test_an_adopted_output_of_another_version_is_noticed(continued: Continued) -> None:
    """By the fingerprint in its record, in which the version counts."""
    place = continued.place
    items = place.items(place.job("left"))
    (adopted,) = [item for item in items if item["id"] == "left-1"]
    changed = "ENGINE_CHANGED" in [notice["code"] for notice in adopted["notices"]]
    assert changed == (place.notes["version"] != VERSION)


def test_recorded_objects_are_not_written_again(continued: Continued, recorded: Recorded) -> None:
    now, then = objects(continued.place), objects(recorded)
    assert {key: data for key, data in now.items() if key in then} == then


def test_a_manifest_that_was_finished_is_answered_with_its_result(continued: Continued) -> None:
    ran = continued.place.run("watch", "--once", "--json", VOICEDROP_KOKORO="/nowhere")
    assert ran.returncode == 1, ran.stderr  # not all of them succeeded
    jobs = json.loads(ran.stdout)["jobs"].values()
    told = {one["job"]: one["status"] for one in jobs if "job" in one}
    for one in continued.place.notes["jobs"].values():
        assert told[one["job"]] == (one["status"] or "succeeded")


def test_a_stored_voiceprint_is_used(continued: Continued) -> None:
    """By the version that kept it; another one learns the voice anew."""
    place = continued.place
    jobs = [place.job("left"), place.job("waiting"), continued.new["fresh"]]
    assert all("speak" in place.result(job)["stages"] for job in jobs)
    learned = any("enrol" in place.result(job)["stages"] for job in jobs)
    assert learned == (place.notes["version"] != VERSION)


@pytest.mark.parametrize("name", ["items", "cut", "book"])
def test_a_retry_keeps_recorded_items(continued: Continued, name: str) -> None:
    before = continued.place.result(continued.place.job(name))
    done = continued.place.result(continued.new[name])
    assert done["status"] == before["status"]
    assert done["totals"]["kept"] == before["totals"]["succeeded"]


def test_withdrawn_consent_stays_withdrawn(continued: Continued) -> None:
    done = continued.place.result(continued.new["withdrawn"])
    (item,) = done["items"]
    assert (done["status"], item["error"]["code"]) == ("failed", "CONSENT_REVOKED")


def test_the_log_extends_every_recorded_checkpoint(continued: Continued, tmp_path: Path) -> None:
    place = continued.place
    for kept in place.notes["checkpoints"]:
        (tmp_path / "kept").write_text(kept)
        told = place.json("log", "verify", "--checkpoint", str(tmp_path / "kept"))
        assert told["size"] == told["jobs"] == continued.logged
    assert continued.logged == len(list(place.results.glob("out/*/result.json")))


def test_an_audit_of_the_continued_bucket_finds_nothing(
    continued: Continued, tmp_path: Path
) -> None:
    report = audited(continued.place, tmp_path, continued.place.notes["checkpoints"][-1])
    assert (report["findings"], report["verdict"]) == ([], "clean")


def test_nothing_is_left_for_another_sweep(continued: Continued) -> None:
    told = continued.place.json("sweep")
    assert (told["findings"], told["open"]) == ([], 0)
    assert told["finished"] == told["manifests"]


def audited(place: Recorded, folder: Path, checkpoint: str) -> dict[str, Any]:
    (folder / "checkpoint").write_text(checkpoint)
    options = ("--out", str(folder / "audit"), "--checkpoint", str(folder / "checkpoint"))
    report: dict[str, Any] = json.loads(place.run("audit", "--json", *options).stdout)
    return report


def objects(place: Recorded) -> dict[str, tuple[bytes, int]]:
    """Key -> bytes and time of modification of all that lies in the results."""
    return {
        str(path.relative_to(place.results)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in place.results.rglob("*")
        if path.is_file() and ".meta" not in path.parts
    }


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
