"""`voicedrop open` opens what the signed result of that very job states, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from core.documents import signed
from core.job.runtime import Runtime
from core.result.document import Result
from core.settings import Settings
from core.storage.object_keys import result_key
from handlers.cli.open_result import open_results
from tests.support.present import present
from tests.support.runtime import local_runtime, local_settings, put_job, run_job

pytestmark = pytest.mark.slow
ITEMS = [{"id": name, "text": f"These are the words of item {name}."} for name in "ab"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("open")


@pytest.fixture(scope="module")
def runtime(root: Path) -> Runtime:
    return local_runtime(root)


@pytest.fixture(scope="module")
def settings(root: Path) -> Settings:
    return local_settings(root)


@pytest.fixture(scope="module")
def done(runtime: Runtime) -> Result:
    return run_job(put_job(runtime, items=ITEMS), runtime)


def swap_envelopes(done: Result) -> Result:
    a, b = done.items
    changed = msgspec.structs.replace(a, envelope=b.envelope)
    return msgspec.structs.replace(done, items=[changed, b])


def swap_outputs(done: Result) -> Result:
    """The output and the envelope of a are those of b, which open without an error."""
    a, b = done.items
    changed = msgspec.structs.replace(a, output=b.output, envelope=b.envelope)
    return msgspec.structs.replace(done, items=[changed, b])


def swap_keys(done: Result) -> Result:
    a, b = done.items
    output = msgspec.structs.replace(present(a.output), key=present(b.output).key)
    return msgspec.structs.replace(done, items=[msgspec.structs.replace(a, output=output), b])


def another_digest(done: Result) -> Result:
    a, b = done.items
    output = msgspec.structs.replace(present(a.output), plain_sha256="0" * 64)
    return msgspec.structs.replace(done, items=[msgspec.structs.replace(a, output=output), b])


@pytest.mark.parametrize("change", [swap_envelopes, swap_outputs, swap_keys, another_digest])
def test_a_signed_result_whose_output_and_envelope_differ_is_not_opened(
    runtime: Runtime,
    done: Result,
    settings: Settings,
    tmp_path: Path,
    change: Callable[[Result], Result],
) -> None:
    """Version 0.1.0 could be made to sign such a result."""
    folder = tmp_path / done.job_id
    folder.mkdir()
    for info in runtime.results.list(f"out/{done.job_id}/"):
        data = runtime.results.get(info.key, limit=10**7).data
        (folder / info.key.rpartition("/")[2]).write_bytes(data)
    (folder / "result.json").write_bytes(signed.sign(change(done), runtime.keys.signing))
    output = open_results(settings, [str(folder / "result.json")], tmp_path / "heard")
    assert [failed["error"] for failed in output.data["failed"]] == ["SEAL_INVALID"]
    assert not (tmp_path / "heard").exists()


def test_the_result_of_another_job_is_not_opened(
    runtime: Runtime, done: Result, settings: Settings, tmp_path: Path
) -> None:
    place = result_key("ab" * 16)
    runtime.results.put(place, runtime.results.get(result_key(done.job_id), limit=10**6).data)
    for source in ("ab" * 16, place, f"{settings.results}/{place}"):
        output = open_results(settings, [source], tmp_path / "heard")
        assert f"the result of job {done.job_id}" in output.data["failed"][0]["message"]
    output = open_results(settings, [done.job_id], tmp_path / "heard")
    assert len(output.data["opened"]) == 2


def test_an_item_of_a_voice_that_was_withdrawn_since_is_opened_with_a_remark(
    tmp_path: Path,
) -> None:
    """Kept items are looked up in the result of the job that made them."""
    runtime, settings = local_runtime(tmp_path), local_settings(tmp_path)
    first = run_job(put_job(runtime, items=ITEMS[:1]), runtime)
    again = put_job(runtime, name="two", items=ITEMS[:1], retry_of=first.job_id)
    kept = run_job(again, runtime)
    sources = [first.job_id, kept.job_id]
    assert open_results(settings, sources, tmp_path / "before").data["withdrawn"] == []
    record = runtime.inbox.get("consent/alice.json", limit=10**6).data
    runtime.consents.withdraw(record, runtime.results.now())
    output = open_results(settings, sources, tmp_path / "out")
    assert [one["job"] for one in output.data["withdrawn"]] == sources
    assert sum("consent to its voice was withdrawn" in line for line in output.lines) == 2
    assert (output.exit_code, len(output.data["opened"])) == (0, 2)
