"""`voicedrop open`: what names a job, where files go, and what is said about failed items."""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.errors import Refused
from core.result.document import Result
from core.settings import Settings
from core.storage.object_keys import result_key
from handlers.cli.find_job import find_job
from handlers.cli.open_result import open_results
from handlers.cli.screen import CommandOutput
from tests.support.full_disk import full_disk
from tests.support.runtime import finish_job, local_runtime, local_settings, put_job

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Jobs:
    root: Path
    settings: Settings
    one: Result
    two: Result
    """Has an item with the same id, and one that failed."""
    refused: Result

    def open(self, *sources: str, out: Path) -> CommandOutput:
        return open_results(self.settings, list(sources), out)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    root = tmp_path_factory.mktemp("jobs")
    runtime = local_runtime(root)
    items = [{"id": "hello", "text": "Other words in the same voice."}, {"id": "b", "text": "!bug"}]
    keys = [
        put_job(runtime, name="one"),
        put_job(runtime, name="two", items=items),
        put_job(runtime, name="refused", colour="blue"),
    ]
    runtime.inbox.put("jobs/notes.txt", b"no manifest")
    one, two, refused = (finish_job(key, runtime) for key in keys)
    return Jobs(root, local_settings(root), one, two, refused)


def test_a_job_is_named_in_many_ways(jobs: Jobs) -> None:
    one, runtime = jobs.one.job_id, local_runtime(jobs.root)
    manifest = jobs.root / "inbox/jobs/one.manifest.json"
    copy = shutil.copy(manifest, jobs.root / "one.manifest.json")
    names = [
        *(one, one[:8], f"out/{one}/result.json", f"results/out/{one}/result.json"),
        *(f"oss://results/out/{one}/hello.wav.sealed", f"out/{one}", str(manifest), str(copy)),
        *(
            str(jobs.root / "results/out" / one),
            "jobs/one.manifest.json",
            "one.manifest.json",
            "inbox/jobs/one.manifest.json",
        ),
    ]
    assert {name: find_job(name, runtime) for name in names} == dict.fromkeys(names, one)


@pytest.mark.parametrize("name", ["abcd", "nowhere", "nowhere.manifest.json", "/tmp/none.json"])
def test_what_names_no_job_is_refused_with_what_was_typed(jobs: Jobs, name: str) -> None:
    with pytest.raises(Refused, match="OBJECT_MISSING") as caught:
        find_job(name, local_runtime(jobs.root))
    assert caught.value.pointer == name


def test_the_name_of_a_file_is_no_folder(jobs: Jobs, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="--out is the folder for the audio"):
        jobs.open(jobs.one.job_id, out=tmp_path / "greeting.wav")
    (tmp_path / "greeting.wav").mkdir()
    assert jobs.open(jobs.one.job_id, out=tmp_path / "greeting.wav").exit_code == 0


def test_too_few_digits_are_said_to_be_too_few(jobs: Jobs) -> None:
    with pytest.raises(Refused, match="at least four digits"):
        find_job(jobs.one.job_id[:3], local_runtime(jobs.root))


def test_a_manifest_that_was_edited_since_it_was_submitted_is_no_job(jobs: Jobs) -> None:
    edited = jobs.root / "edited" / "one.manifest.json"
    edited.parent.mkdir()
    edited.write_text("{}")
    with pytest.raises(Refused, match="voicedrop submit"):
        find_job(str(edited), local_runtime(jobs.root))


def test_digits_that_begin_several_ids_are_refused(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path)
    for last in "01":
        runtime.results.put_once(f"out/{'abcd' * 7}000{last}/result.json", b"")
    with pytest.raises(Refused, match="2 jobs begin with it"):
        find_job("abcd", runtime)


def test_several_results_are_opened_and_no_file_of_another_job_is_replaced(
    jobs: Jobs, tmp_path: Path
) -> None:
    out = tmp_path / "heard"
    sources = [jobs.one.job_id[:8], f"results/out/{jobs.two.job_id}/result.json"]
    first = jobs.open(*sources, out=out)
    paths = [out / "hello.wav", out / jobs.two.job_id[:8] / "hello.wav"]
    assert [Path(one["path"]) for one in first.data["opened"]] == paths
    content = [path.read_bytes() for path in paths]
    assert content[0] != content[1]
    assert jobs.open(*sources, out=out).data == first.data
    paths[0].write_bytes(b"mine")
    jobs.open(sources[0], out=out)
    assert paths[0].read_bytes() == b"mine"
    assert (out / jobs.one.job_id[:8] / "hello.wav").read_bytes() == content[0]


def test_a_file_is_not_replaced_in_the_folder_of_the_job_either(jobs: Jobs, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / jobs.one.job_id[:8]):
        folder.mkdir(exist_ok=True)
        (folder / "hello.wav").write_bytes(b"mine")
    output = jobs.open(jobs.one.job_id, out=tmp_path)
    assert (output.exit_code, output.data["failed"][0]["error"]) == (1, "OUTPUT_EXISTS")


def test_failed_items_are_named_and_fail_the_command(jobs: Jobs, tmp_path: Path) -> None:
    output = jobs.open(jobs.two.job_id, out=tmp_path)
    assert output.exit_code == 1
    assert any("item b: INTERNAL: " in line for line in output.lines)
    (failed,) = output.data["failed"]
    assert (failed["job"], failed["item"], failed["error"]) == (jobs.two.job_id, "b", "INTERNAL")


def test_a_refused_job_is_explained(jobs: Jobs, tmp_path: Path) -> None:
    output = jobs.open("refused.manifest.json", out=tmp_path)
    assert output.exit_code == 1
    assert any("UNKNOWN_FIELD" in line for line in output.lines)
    assert "The signature and every digest are right." not in output.lines


def test_a_source_that_cannot_be_opened_does_not_stop_the_others(
    jobs: Jobs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = jobs.root / "inbox/consent/alice.json"
    output = jobs.open(str(record), "nowhere", jobs.one.job_id, out=tmp_path)
    assert output.exit_code == 1
    assert [Path(one["path"]).name for one in output.data["opened"]] == ["hello.wav"]
    printed = capsys.readouterr().err
    assert f"This is no result of a job. (at {record})" in printed
    assert "(at nowhere)" in printed
    assert "The signature and every digest are right." not in output.lines


def test_a_manifest_without_result_is_said_to_have_none(jobs: Jobs, tmp_path: Path) -> None:
    runtime = local_runtime(jobs.root)
    put_job(runtime, name="new")
    output = jobs.open("new.manifest.json", out=tmp_path)
    assert "voicedrop watch --once" in output.data["failed"][0]["message"]
    assert output.data["failed"][0]["error"] == "OBJECT_MISSING"


def test_the_folder_of_a_copied_result_is_opened_and_holds_only_what_the_result_states(
    jobs: Jobs, tmp_path: Path
) -> None:
    folder = shutil.copytree(jobs.root / "results/out" / jobs.one.job_id, tmp_path / "copy")
    (opened,) = jobs.open(str(folder), out=tmp_path / "heard").data["opened"]
    assert opened["item"] == "hello"
    stray = folder / "stray.wav.sealed"
    stray.write_bytes(b"not ours")
    output = jobs.open(str(stray), out=tmp_path / "heard")
    (failed,) = output.data["failed"]
    assert (failed["error"], output.data["opened"]) == ("OBJECT_MISSING", [])
    assert failed["message"] == "The result holds no such output."


def test_an_object_too_large_for_a_result_is_not_said_to_be_missing(
    jobs: Jobs, tmp_path: Path
) -> None:
    job = "f" * 32
    local_runtime(jobs.root).results.put(result_key(job), b"{}")
    os.truncate(jobs.root / "results" / result_key(job), 1 << 40)
    (failed,) = jobs.open(job, out=tmp_path).data["failed"]
    assert failed["error"] == "OBJECT_TOO_LARGE"


@pytest.mark.parametrize("name", ["a-file", "a-file/x", "full", "taken"])
def test_audio_that_cannot_be_written_is_a_failure_of_its_source_and_leaves_nothing(
    jobs: Jobs, tmp_path: Path, name: str
) -> None:
    (tmp_path / "a-file").write_bytes(b"")
    (tmp_path / "taken" / "hello.wav").mkdir(parents=True)
    with full_disk() if name == "full" else nullcontext():
        output = jobs.open(jobs.one.job_id, out=tmp_path / name)
    (failed,) = output.data["failed"]
    assert (output.exit_code, output.data["opened"], failed["error"]) == (1, [], "FILE_UNUSABLE")
    assert "cannot be written" in failed["message"]
    assert "Choose another with --out." in failed["message"]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a-file"]


@pytest.mark.parametrize("copied", [False, True], ids=["bucket", "copy"])
def test_damaged_and_missing_items_are_named_and_the_others_opened(
    tmp_path: Path, copied: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = local_runtime(tmp_path)
    items = [{"id": name, "text": "Words."} for name in ("a", "b", "c", "d")]
    job = finish_job(put_job(runtime, items=items), runtime).job_id
    folder = tmp_path / "results/out" / job
    if copied:
        folder = shutil.copytree(folder, tmp_path / "copy")
    damaged = folder / "b.wav.sealed"
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    (folder / "c.wav.sealed").unlink()

    out = tmp_path / "heard"
    output = open_results(local_settings(tmp_path), [str(folder)], out)
    assert output.exit_code == 1
    assert [one["item"] for one in output.data["opened"]] == ["a", "d"]
    assert sorted(path.name for path in out.iterdir()) == ["a.wav", "d.wav"]
    failed = [(one["job"], one["item"], one["error"]) for one in output.data["failed"]]
    assert failed == [(job, "b", "SEAL_INVALID"), (job, "c", "OBJECT_MISSING")]
    assert output.lines[1].startswith("item b: SEAL_INVALID: The sealed file is damaged")
    assert output.lines[2].startswith("item c: OBJECT_MISSING: ")
    assert "The signature and every digest are right." not in output.lines

    result = folder / "result.json"
    result.write_bytes(result.read_bytes().replace(b"succeeded", b"validated", 1))
    capsys.readouterr()
    output = open_results(local_settings(tmp_path), [str(result)], out)
    assert (output.data["opened"], output.exit_code) == ([], 1)
    assert f"(at {result})" in capsys.readouterr().err
