"""`voicedrop retry`, and what `submit`, `status` and `list` say about the same jobs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.consent import records
from core.errors import Refused
from core.job import commit
from core.job.lease import Lease
from core.job.runtime import Runtime
from core.result.document import Result
from core.storage.object_keys import queue_key, result_key
from handlers.cli.open_result import open_results
from handlers.cli.retry import next_command, retry_job
from handlers.cli.status import list_jobs, show_status
from handlers.cli.submit import submit_job
from tests.support.runtime import (
    REFERENCE,
    consent_record,
    finish_job,
    local_runtime,
    local_settings,
    put_job,
    voice_of,
)

pytestmark = pytest.mark.slow
ITEMS = [
    {"id": "a", "text": "Good words."},
    {"id": "b", "text": "好的。", "language": "zh"},
    {"id": "c", "text": ""},
]


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return local_runtime(tmp_path)


def put_consent(runtime: Runtime, *languages: str) -> None:
    scope = records.Scope(languages=list(languages))
    record = consent_record(REFERENCE.read_bytes(), scope=scope)
    runtime.inbox.put("consent/alice.json", records.format_consent(record))


def fail_by_consent(runtime: Runtime, count: int = 3) -> Result:
    """Carry out a job in which one item succeeds, one has no consent, and one has no text."""
    key = put_job(runtime, items=ITEMS[:count])
    put_consent(runtime, "en")
    return finish_job(key, runtime)


def test_a_job_is_run_again_after_a_correction_elsewhere(runtime: Runtime, tmp_path: Path) -> None:
    settings = local_settings(tmp_path)
    first = fail_by_consent(runtime, 2)
    manifest = tmp_path / "inbox/jobs/one.manifest.json"
    put_consent(runtime)

    submitted = submit_job(settings, manifest, [])
    assert (submitted.exit_code, submitted.data["finished"]) == (1, "partial")
    assert f"voicedrop retry {first.job_id[:8]}" in submitted.lines[-1]

    retried = retry_job(settings, first.job_id[:8])
    for named in (first.job_id, str(manifest)):
        assert retry_job(settings, named).exit_code == 5, "asked twice, it is one retry"
    assert submit_job(settings, manifest, []).lines[-1].startswith("Its retry ")
    (waiting,) = list_jobs(settings, 20).data["jobs"][1:]
    assert (waiting["job"], waiting["status"]) == (retried.data["retry"], "unfinished")
    assert show_status(settings, [retried.data["retry"]]).exit_code == 5

    voice_of(runtime).spoken.clear()
    second = finish_job(retried.data["manifest"], runtime)
    assert (second.job_id, second.retry_of) == (retried.data["retry"], first.job_id)
    assert voice_of(runtime).spoken == ["好的。"]
    assert (second.totals.succeeded, second.totals.kept) == (2, 1)
    leaves = {queue_key(result.job_id) for result in (first, second)}
    assert {info.key for info in runtime.control.list("log/leaves/")} == leaves

    opened = open_results(settings, [str(manifest)], tmp_path / "heard")
    assert [one["item"] for one in opened.data["opened"]] == ["a", "b"]
    again = retry_job(settings, first.job_id)
    assert (again.exit_code, again.data["retry"]) == (0, "")
    assert again.data["reason"] == "everything in it succeeded."


def test_a_job_whose_manifest_was_deleted_is_not_said_to_be_retried(
    runtime: Runtime, tmp_path: Path
) -> None:
    failed = fail_by_consent(runtime, 2)
    assert f"voicedrop retry {failed.job_id[:8]}" in next_command(failed, runtime)
    runtime.inbox.delete("jobs/one.manifest.json")
    assert next_command(failed, runtime).endswith("correct the manifest and submit it again")


def test_a_retry_that_failed_is_retried(runtime: Runtime, tmp_path: Path) -> None:
    settings = local_settings(tmp_path)
    first = fail_by_consent(runtime)
    keys = []
    for _ in range(2):
        keys.append(retry_job(settings, first.job_id).data["manifest"])
        last = finish_job(keys[-1], runtime)
        assert last.totals.succeeded == 1
    assert len(set(keys)) == 2
    put_consent(runtime)
    done = finish_job(retry_job(settings, "one.manifest.json").data["manifest"], runtime)
    assert (done.retry_of, done.totals.succeeded) == (last.job_id, 2)
    assert done.items[0].kept_from == first.job_id


@pytest.mark.parametrize(
    ("fields", "reason", "code"),
    [
        pytest.param({}, "everything in it succeeded", 0, id="succeeded"),
        pytest.param({"colour": "blue"}, "in the manifest itself (UNKNOWN_FIELD", 1, id="rejected"),
        pytest.param({"items": ITEMS[2:]}, "every error is in the manifest", 1, id="bad-items"),
    ],
)
def test_a_retry_that_would_change_nothing_is_not_made(
    runtime: Runtime, tmp_path: Path, fields: dict[str, object], reason: str, code: int
) -> None:
    done = finish_job(put_job(runtime, **fields), runtime)  # type: ignore[arg-type]
    stored = tmp_path / "inbox/jobs/one.manifest.json"
    output = retry_job(local_settings(tmp_path), done.job_id)
    assert (output.exit_code, reason in output.lines[0]) == (code, True)
    (advice,) = show_status(local_settings(tmp_path), [done.job_id]).lines[-1:]
    submitted = submit_job(local_settings(tmp_path), stored, [], as_is=True) if done.items else None
    for line in (advice, *(submitted.lines if submitted else ())):
        assert "voicedrop retry" not in line, "what is refused is not advised"
    assert [info.key for info in runtime.inbox.list("jobs/")] == ["jobs/one.manifest.json"]


NO_RECORD = {"alice": {"reference": "refs/alice.flac", "language": "en"}}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param({"voices": NO_RECORD}, "CONSENT_MISSING", id="no-record"),
        pytest.param({"items": [ITEMS[0] | {"language": "xx"}]}, "LANGUAGE_UNSUPPORTED", id="lang"),
    ],
)
def test_what_only_the_manifest_corrects_is_refused_before_and_not_retried_after(
    runtime: Runtime,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fields: dict[str, object],
    code: str,
) -> None:
    settings = local_settings(tmp_path)
    failed = finish_job(put_job(runtime, **fields), runtime)  # type: ignore[arg-type]
    assert [item.error and item.error.code for item in failed.items] == [code]
    assert voice_of(runtime).spoken == []
    assert retry_job(settings, failed.job_id).exit_code == 1
    opened = open_results(settings, [failed.job_id], tmp_path / "heard")
    for lines in (show_status(settings, [failed.job_id]).lines, opened.lines):
        assert lines[-1].strip() == "correct the manifest and submit it again"

    new = tmp_path / "new.manifest.json"
    new.write_bytes(runtime.inbox.get(failed.manifest.key, limit=10**6).data)
    refused = submit_job(settings, new, [])
    assert (refused.exit_code, refused.data["error"]["code"]) == (1, code)
    assert runtime.inbox.head("jobs/new.manifest.json") is None
    assert "`consent` of the voice" in capsys.readouterr().err or code != "CONSENT_MISSING"
    assert submit_job(settings, new, [], as_is=True).exit_code == 0


def test_other_settings_may_correct_what_the_manifest_lacks(
    runtime: Runtime, tmp_path: Path
) -> None:
    failed = finish_job(put_job(runtime, voices=NO_RECORD), runtime)
    optional = local_settings(tmp_path, consent="optional")
    assert retry_job(optional, failed.job_id).exit_code == 0


def test_a_job_that_waits_for_a_file_is_said_to_wait_for_it(
    runtime: Runtime, tmp_path: Path
) -> None:
    settings = local_settings(tmp_path)
    voices = {"alice": NO_RECORD["alice"] | {"reference": "refs/x.wav", "consent": "consent/c"}}
    failed = finish_job(put_job(runtime, voices=voices), runtime)
    (advice,) = show_status(settings, [failed.job_id]).lines[-1:]
    assert "submit the missing file" in advice
    assert "or correct the manifest" in advice
    retried = retry_job(settings, failed.job_id)
    said = [retried.lines[-1], retry_job(settings, failed.job_id).lines[0]]
    said += show_status(settings, [retried.data["retry"]]).lines[-1:]
    said.append(
        open_results(settings, [retried.data["retry"]], tmp_path).data["failed"][0]["message"]
    )
    for line in said:
        assert "waits for refs/x.wav: `voicedrop submit MANIFEST FILE` stores it; or " in line
        assert "watch --once" not in line


def test_a_manifest_that_was_replaced_is_not_retried(runtime: Runtime, tmp_path: Path) -> None:
    first = fail_by_consent(runtime)
    put_job(runtime, items=ITEMS[:1])
    output = retry_job(local_settings(tmp_path), first.job_id)
    assert (output.exit_code, "was replaced or deleted" in output.lines[0]) == (1, True)


def test_the_state_of_unfinished_jobs(runtime: Runtime, tmp_path: Path) -> None:
    settings = local_settings(tmp_path)
    assert list_jobs(settings, 20).lines == [f"No jobs: {settings.inbox} has no manifests."]
    put_job(runtime, name="absent", voices={"alice": {"reference": "refs/x.wav", "language": "en"}})
    busy = commit.read_manifest(put_job(runtime, name="busy"), runtime).job_id
    finish_job(put_job(runtime, name="done"), runtime)
    with Lease.acquire(runtime.control, busy, "somebody", 60, runtime.keys):
        output = show_status(settings, [])
        listed = list_jobs(settings, 20)
    states = {Path(one["manifest"]).name: one for one in listed.data["jobs"]}
    assert {name.partition(".")[0]: one["status"] for name, one in states.items()} == {
        "absent": "waiting",
        "busy": "running",
        "done": "succeeded",
    }
    assert "waits for refs/x.wav" in states["absent.manifest.json"]["detail"]
    assert "somebody" in states["busy.manifest.json"]["detail"]
    assert output.lines[0] == "1 job finished, 2 jobs not finished."
    assert show_status(settings, ["absent.manifest.json"]).exit_code == 3
    assert show_status(settings, ["done.manifest.json", "absent.manifest.json"]).exit_code == 3


def test_the_status_of_a_job_says_what_failed_and_what_to_do(
    runtime: Runtime, tmp_path: Path
) -> None:
    first = fail_by_consent(runtime)
    output = show_status(local_settings(tmp_path), [first.job_id[:6]])
    assert output.exit_code == 1
    shown = "\n".join(output.lines)
    assert "item b: CONSENT_SCOPE: " in shown
    assert "item c: TEXT_EMPTY: " in shown
    assert f"open it: voicedrop open {first.job_id[:8]}" in shown
    assert f"voicedrop retry {first.job_id[:8]}" in shown


def test_the_list_ends_with_the_last_job_and_can_be_cut(runtime: Runtime, tmp_path: Path) -> None:
    settings = local_settings(tmp_path)
    for name in ("zz", "aa"):
        finish_job(put_job(runtime, name=name, colour="blue"), runtime)
    assert [one["manifest"] for one in list_jobs(settings, 20).data["jobs"]] == [
        "jobs/zz.manifest.json",
        "jobs/aa.manifest.json",
    ]
    cut = list_jobs(settings, 1)
    assert "and 1 that finished before" in cut.lines[0]
    assert [one["manifest"] for one in cut.data["jobs"]] == ["jobs/aa.manifest.json"]


def test_a_result_that_was_changed_is_listed_with_its_error_beside_the_others(
    runtime: Runtime, tmp_path: Path
) -> None:
    settings = local_settings(tmp_path)
    done = finish_job(put_job(runtime, name="done", mode="validate"), runtime).job_id
    assert show_status(settings, []).lines[0] == "1 job finished, 0 jobs not finished."
    refused = finish_job(put_job(runtime, name="refused", colour="blue"), runtime).job_id
    changed = finish_job(put_job(runtime, name="changed", colour="blue"), runtime).job_id
    summary = show_status(settings, [])
    assert summary.lines[0] == (
        "3 jobs finished, 2 of them not successfully: `voicedrop list` shows them; "
        "0 jobs not finished."
    )
    assert (summary.exit_code, summary.data["finished"], summary.data["unsuccessful"]) == (0, 3, 2)
    key = result_key(changed)
    data = runtime.results.get(key, limit=10**6).data
    runtime.results.put(key, data.replace(b"rejected", b"succeeded", 1))

    for output in (list_jobs(settings, 20), show_status(settings, [])):
        assert output.exit_code == 1
        (failed,) = output.data["failed"]
        assert (failed["code"], failed["pointer"]) == ("SIGNATURE_INVALID", key)
        (line,) = (x for x in output.lines if changed[:8] in x)
        assert "unreadable" in line
        assert "SIGNATURE_INVALID: The document was changed after signing" in line
        assert line.endswith(f"(at {key})")
    listed = {one["job"]: one["status"] for one in list_jobs(settings, 20).data["jobs"]}
    assert listed == {done: "validated", refused: "rejected", changed: "unreadable"}
    with pytest.raises(Refused, match=key):
        show_status(settings, [changed])


def test_submit_names_the_lines_of_bad_items(
    runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = put_job(runtime, items=[{"id": "a", "text": "x"}, {"id": "", "text": "x"}, ITEMS[2]])
    document = json.loads(runtime.inbox.get(key, limit=10**6).data)
    bad = tmp_path / "bad.manifest.json"
    bad.write_text(json.dumps(document, indent=1))
    refused = submit_job(local_settings(tmp_path), bad, [])
    assert refused.exit_code == 1
    assert [one["code"] for one in refused.data["errors"]] == ["ID_INVALID", "TEXT_EMPTY"]
    lines = bad.read_text().splitlines()
    second = lines.index('   "id": "",')  # the line after the one that opens the item
    third = lines.index('   "id": "c",')
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in said] == [
        f"{bad}, line {second}",
        f"{bad}, line {third}",
        f"{bad} was not submitted",
    ]
    assert "--as-is" in said[-1]
    assert [info.key for info in runtime.inbox.list("jobs/")] == [key]

    submitted = submit_job(local_settings(tmp_path), bad, [], as_is=True)
    assert submitted.exit_code == 0
    done = finish_job(submitted.data["manifest"], runtime)
    assert (done.status, done.totals.succeeded) == ("partial", 1)
