"""Dry runs and retries, on the command line and as a notification."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from core.crypto import keys
from core.result.document import Result, parse_result
from tests.support.command_line import EXAMPLE_INBOX, Workspace
from tests.support.container import STS_HEADERS, bucket_server, container, manifest, server_environ
from tests.support.events import notification
from tests.support.oss_server import OssServer
from tests.support.present import present

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_coverage")]

HELLO = json.loads((EXAMPLE_INBOX / "jobs/hello.manifest.json").read_text())
NO_ENGINE = "/nowhere"


def put_manifest(workspace: Workspace, name: str, **fields: Any) -> str:
    """Put the manifest of the example with other fields into the inbox; return its key."""
    key = f"jobs/{name}.manifest.json"
    path = workspace.root / "bucket" / "inbox" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(HELLO | fields))
    return key


def watch_once(workspace: Workspace, key: str, code: int = 0, /, **environ: str) -> dict[str, Any]:
    """Run `voicedrop watch --once` and return its report on the job."""
    ran = workspace.run("watch", "--once", "--json", **environ)
    assert ran.returncode == code, ran.stderr
    job: dict[str, Any] = json.loads(ran.stdout)["jobs"][key]
    return job


def test_dry_runs_from_the_command_line_estimate_or_explain_and_load_no_engine(
    workspace: Workspace,
) -> None:
    inbox, results = (workspace.root / "bucket" / name for name in ("inbox", "results"))
    shutil.copytree(EXAMPLE_INBOX, inbox, dirs_exist_ok=True)
    (inbox / "jobs/hello.manifest.json").unlink()
    french = {"id": "fr", "text": "Bonjour.", "language": "fr"}
    good = put_manifest(workspace, "good", mode="validate")
    put_manifest(workspace, "bad", mode="validate", items=[HELLO["items"][0], french])
    ran = workspace.run("watch", "--once", VOICEDROP_KOKORO=NO_ENGINE, VOICEDROP_PRICE="0.6")
    assert (ran.returncode, "item fr: LANGUAGE_UNSUPPORTED" in ran.stdout) == (1, True)
    assert "invalid, 1 of 2 items can be made, about " in ran.stdout
    assert not list((results / "out").rglob("*.sealed"))
    done = [parse_result(path.read_bytes()) for path in (results / "out").glob("*/result.json")]
    (validated,) = (one for one in done if one.manifest.key == good)
    estimate = present(validated.estimate)
    assert (validated.status, estimate.items, present(estimate.cost) > 0) == ("validated", 3, True)
    events = [json.loads(path.read_text()) for path in (results / "events").rglob("*.json")]
    assert "com.voicedrop.job.validated" in [event["type"] for event in events]


def test_a_retry_from_the_command_line_speaks_only_changed_items(
    spoken: Workspace, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "again")
    shutil.copytree(spoken.root, workspace.root)
    (earlier,) = (workspace.root / "bucket/results/out").iterdir()
    same = put_manifest(workspace, "same", retry_of=earlier.name)
    job = watch_once(workspace, same, VOICEDROP_KOKORO=NO_ENGINE)
    assert (job["status"], job["totals"]["kept"]) == ("succeeded", 3)

    items = [*HELLO["items"][1:], HELLO["items"][0] | {"text": "Other words."}]
    changed = put_manifest(workspace, "changed", retry_of=job["job"], items=items)
    job = watch_once(workspace, changed)
    assert (job["status"], job["totals"]["kept"]) == ("succeeded", 2)
    for job_id, folder in ((earlier.name, "before"), (job["job"], "after")):
        assert workspace.run("open", job_id, "--out", folder).returncode == 0
    before, after = (
        {path.name: path.read_bytes() for path in (workspace.root / folder).iterdir()}
        for folder in ("before", "after")
    )
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == ["english.wav"]


class SubmitJob(Protocol):
    """Puts a manifest of these texts and fields, announces it, and returns the result."""

    def __call__(self, name: str, *texts: str, **fields: Any) -> Result: ...


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OssServer, SubmitJob]]:
    """The buckets of a container with the voice of the tests, and a way to run jobs there."""
    folder = tmp_path_factory.mktemp("modes")
    keys.create_keys(folder / "keys")
    with bucket_server() as server:
        environ = server_environ(server, VOICEDROP_KEYS=str(folder / "keys"))
        with container(environ, folder / "log") as client:

            def submit(name: str, *texts: str, **fields: Any) -> Result:
                key = f"jobs/{name}.manifest.json"
                server.place("inbox", key, manifest(*texts, **fields))
                response, answer = client.invoke(notification(key), **STS_HEADERS)
                assert (response.status, response.headers["x-fc-status"]) == (200, "200")
                (done,) = answer["done"]
                return parse_result(server.objects("results")[f"out/{done['job']}/result.json"])

            yield server, submit


def test_an_invoked_dry_run_writes_a_result_and_an_event_and_no_audio(
    function: tuple[OssServer, SubmitJob],
) -> None:
    server, submit = function
    done = submit("dry", "Some words of speech.", "More of them.", mode="validate")
    assert (done.status, present(done.estimate).items) == ("validated", 2)
    stored = server.objects("results")
    (event,) = (data for key, data in stored.items() if done.job_id in key and "events/" in key)
    assert json.loads(event)["type"] == "com.voicedrop.job.validated"
    assert not [key for key in stored if done.job_id in key and key.endswith(".sealed")]


def test_an_invoked_retry_keeps_unchanged_items(
    function: tuple[OssServer, SubmitJob],
) -> None:
    _, submit = function
    first = submit("first", "Some words of speech.", "!silence", "The last of three.")
    assert [item.status for item in first.items] == ["succeeded", "failed", "succeeded"]
    texts = ("Some words of speech.", "Now it can be said.", "The very last of three.")
    done = submit("again", *texts, retry_of=first.job_id)
    assert done.status == "succeeded"
    assert [item.kept_from for item in done.items] == [first.job_id, "", ""]
    assert done.items[0].output == first.items[0].output
    was, now = (present(one.items[2].output).plain_sha256 for one in (first, done))
    assert was != now
    assert present(submit("none", "Words.", retry_of="0" * 32).error).code == "RETRY_UNKNOWN"
