"""Commands as they are typed: their options reach the functions, in this process."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from handlers.cli import app as cli
from tests.support.runtime import finish_job, local_runtime, put_job

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOICEDROP_KEYS", str(tmp_path / "keys"))
    return tmp_path


def run(bucket: Path, *arguments: str, code: int = 0) -> Any:
    """Run a command with --json, which must end with `code`; return what it prints."""
    command = [*arguments, "--bucket", str(bucket), "--json"]
    ran = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert ran.exit_code == code, ran.output
    return json.loads(ran.stdout)


def test_a_job_from_its_manifest_to_its_erasure(bucket: Path) -> None:
    runtime = local_runtime(bucket)
    items = [{"id": "a", "text": "These are a few words."}, {"id": "b", "text": "!bug"}]
    done = finish_job(put_job(runtime, items=items), runtime)
    job = done.job_id

    (state,) = run(bucket, "status", job[:8], code=1)["jobs"]
    assert (state["job"], state["status"]) == (job, "partial")
    assert run(bucket, "list", "--limit", "5")["finished"] == 1
    again = run(bucket, "retry", job[:8])["retry"]
    assert {one["job"] for one in run(bucket, "list")["jobs"]} == {job, again}
    opened = run(bucket, "open", job, "--out", str(bucket / "heard"), code=1)["opened"]
    assert [one["item"] for one in opened] == ["a"]
    (trace,) = run(bucket, "trace", opened[0]["path"])["traces"]
    assert [one["job"] for one in trace["findings"]] == [job]
    assert run(bucket, "sweep", code=5)["open"] == 1
    ran = CliRunner().invoke(
        cli.app, ["erase", again[:6], "--reason", "asked for", "--bucket", str(bucket)]
    )
    assert f"Job {again} has no result" in str(ran.exception)
    ran = CliRunner().invoke(cli.app, ["erase", job, "--reason", " ", "--bucket", str(bucket)])
    assert "Give a reason" in str(ran.exception)
    run(bucket, "erase", job[:8], "--reason", "asked for", "--item", "a")
    assert not list(runtime.results.list(f"out/{job}/a"))

    output = run(bucket, "open", job, "--out", str(bucket / "again"), code=1)
    erased = next(one for one in output["failed"] if one["item"] == "a")
    assert erased["error"] == "ERASED"
    assert erased["message"].startswith("a.wav was erased at 20")
    assert erased["message"].endswith(": asked for")
    assert [one["item"] for one in output["failed"]] == ["a", "b"]


@pytest.mark.parametrize("option", [("watch", "--once", "--poll"), ("sweep", "--grace")])
@pytest.mark.parametrize("seconds", ["-1", "nan", "inf"])
def test_seconds_that_are_none_are_refused(
    bucket: Path, option: tuple[str, ...], seconds: str
) -> None:
    local_runtime(bucket)
    ran = CliRunner().invoke(cli.app, [*option, seconds, "--bucket", str(bucket)])
    assert ran.exit_code == 2
    assert option[-1] in ran.output
    assert "is not a number of seconds from 0 to" in " ".join(ran.output.split())


@pytest.mark.parametrize("group", ["", "consent", "protect", "models", "log"])
def test_a_list_of_commands_cuts_no_sentence(group: str) -> None:
    ran = CliRunner().invoke(cli.app, [*group.split(), "--help"])
    assert "Commands:" in ran.output
    assert not re.search(r"\.\.\.$", ran.output.partition("Options:")[2], re.MULTILINE)


def test_the_reading_of_a_text_is_shown() -> None:
    for engine, phones in ((), ["w", "ˈ", "ɜ"]), (("--engine", "gpt_sovits"), [".", "W", "ER1"]):
        command = ["text", "Words.", "--language", "en", "--json", *engine]
        ran = CliRunner().invoke(cli.app, command)
        assert ran.exit_code == 0, ran.output
        (sentence,) = json.loads(ran.stdout)["sentences"]
        assert sentence["spans"][0]["phones"][:3] == phones
