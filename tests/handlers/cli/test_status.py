"""What commands say about jobs that were divided, refused, retried or only tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import Refused
from core.job import commit
from core.job.lease import Lease
from core.job.runtime import Runtime
from handlers.cli.describe import MAX_LINES, MAX_NAMED, describe_result
from handlers.cli.erase import erase_job
from handlers.cli.foresee import CARRY_OUT
from handlers.cli.open_result import open_results
from handlers.cli.retry import next_command, retry_job
from handlers.cli.status import list_jobs, show_status
from handlers.jobs import carry_out_shard
from tests.support.present import present
from tests.support.runtime import finish_job, local_runtime, local_settings, put_job, split_job
from tests.support.shards import shard_keys

pytestmark = pytest.mark.slow


def test_a_divided_job_counts_its_shards_and_then_its_errors(tmp_path: Path) -> None:
    runtime, settings = local_runtime(tmp_path, shard_items=1), local_settings(tmp_path)
    texts = ["Words.", "!bug", "!bug"]
    items = [{"id": f"i{n}", "text": text} for n, text in enumerate(texts)]
    job = split_job(put_job(runtime, items=items), runtime).job_id
    result = None
    for number, key in enumerate(shard_keys(runtime)):
        (state,) = list_jobs(settings, 20).data["jobs"]
        assert (state["status"], state["detail"]) == ("shared", f"{number} of 3 shards are made.")
        assert show_status(settings, [job]).exit_code == 5
        result = carry_out_shard(key, runtime)

    lines = describe_result(present(result))
    assert lines[:2] == ["2 items: INTERNAL", f"each of them: out/{job}/errors.jsonl"]
    shown = show_status(settings, [job])
    assert shown.exit_code == 1
    assert any(line.startswith("  item i1, item i2: INTERNAL") for line in shown.lines)
    opened = open_results(settings, [job], tmp_path / "heard")
    assert [one["item"] for one in opened.data["opened"]] == ["i0"]
    assert [one["item"] for one in opened.data["failed"]] == ["i1", "i2"]


def test_many_errors_are_cut(tmp_path: Path) -> None:
    """Equal ones are said once, with the first items; the rest is counted."""
    runtime = local_runtime(tmp_path)
    alike = [{"id": f"a{n}", "text": ""} for n in range(MAX_NAMED + 2)]
    different = [{"id": f"b{n}", "text": "x", f"f{n}": 1} for n in range(MAX_LINES + 1)]
    result = finish_job(put_job(runtime, items=[*alike, *different]), runtime)
    lines = describe_result(result)
    assert " and 2 more: TEXT_EMPTY: " in lines[0]
    assert lines[MAX_LINES] == "and 2 other errors"


def test_a_refused_manifest_and_an_unreadable_one(tmp_path: Path) -> None:
    runtime, settings = local_runtime(tmp_path), local_settings(tmp_path)
    rejected = finish_job(put_job(runtime, colour="blue"), runtime)
    assert next_command(rejected, runtime) == "correct the manifest and submit it again"
    runtime.inbox.put("jobs/broken.manifest.json", b"{")
    (_, broken) = list_jobs(settings, 20).data["jobs"]
    assert broken["status"] == "unfinished"
    assert show_status(settings, ["jobs/broken.manifest.json"]).lines[-1] == f"  {CARRY_OUT}"
    shown = show_status(settings, [rejected.job_id, "jobs/broken.manifest.json"])
    assert shown.exit_code == 1
    assert any("UNKNOWN_FIELD" in line for line in shown.lines)


def test_a_retry_names_what_it_repeats(tmp_path: Path) -> None:
    runtime, settings = local_runtime(tmp_path), local_settings(tmp_path)
    first = finish_job(put_job(runtime, items=[{"id": "a", "text": "!bug"}]), runtime)
    again = finish_job(retry_job(settings, first.job_id).data["manifest"], runtime)
    assert f"  a retry of {first.job_id[:8]}" in show_status(settings, [again.job_id]).lines


def test_an_id_without_a_job_is_refused(tmp_path: Path) -> None:
    local_runtime(tmp_path)
    with pytest.raises(Refused, match="OBJECT_MISSING"):
        show_status(local_settings(tmp_path), ["0" * 32])


def test_a_name_without_a_job_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = local_runtime(tmp_path)
    job = finish_job(put_job(runtime), runtime).job_id
    shown = show_status(local_settings(tmp_path), ["0" * 32, job])
    assert (shown.exit_code, shown.data["failed"][0]["code"]) == (1, "OBJECT_MISSING")
    assert [state["job"] for state in shown.data["jobs"]] == [job]
    assert "No job has this id." in capsys.readouterr().err


def test_what_was_erased_is_not_offered_to_be_opened(tmp_path: Path) -> None:
    runtime, settings = local_runtime(tmp_path), local_settings(tmp_path)
    items = [{"id": name, "text": "Words."} for name in "ab"]
    job = finish_job(put_job(runtime, items=items), runtime).job_id
    for name, is_open in (("a", True), ("b", False)):
        erase_job(settings, job, [name], "asked for")
        (line,) = (x for x in show_status(settings, [job]).lines if f"erased {name} at 20" in x)
        assert line.endswith(": asked for")
        (listed,) = list_jobs(settings, 20).lines
        assert listed.endswith(f"outputs were erased: `voicedrop status {job[:8]}` says which")
        lines = "\n".join(show_status(settings, [job]).lines)
        assert (f"voicedrop open {job[:8]}" in lines) == is_open


def test_an_attempt_that_is_not_counted_has_no_number(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path)
    job = commit.read_manifest(put_job(runtime), runtime).job_id
    for is_counted, words in ((False, "not counted as an attempt"), (True, "attempt 1.")):
        with Lease.acquire(runtime.control, job, "tired", 9, runtime.keys) as lease:
            if not is_counted:
                lease.undo_attempt()
        (line,) = (x for x in show_status(local_settings(tmp_path), [job]).lines if "tired" in x)
        assert words in line
        assert "attempt 0" not in line


def test_a_dry_run_is_described_by_its_estimate(tmp_path: Path) -> None:
    runtime: Runtime = local_runtime(tmp_path)
    result = finish_job(put_job(runtime, mode="validate"), runtime)
    (listed,) = list_jobs(local_settings(tmp_path), 20).lines
    assert listed.split()[1:3] == ["validated", "1/1"]
    assert " UTC  " in listed
    shown = show_status(local_settings(tmp_path), [result.job_id])
    assert any("1 of 1 items can be made, about" in line for line in shown.lines)
    assert "submit the manifest without `mode`" in shown.lines[-1]
    opened = open_results(local_settings(tmp_path), [result.job_id], tmp_path / "heard")
    assert opened.lines == [f"job {result.job_id[:8]}: a dry run, in which nothing is spoken"]
