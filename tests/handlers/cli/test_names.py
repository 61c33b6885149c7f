"""Names that producers choose are shown as they are: no command takes one for markup, breaks at it,
or hands it to the terminal as a control sequence."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import Refused
from core.job.runtime import Step
from handlers.cli import screen
from handlers.cli.open_result import open_results
from handlers.cli.retry import retry_job
from handlers.cli.screen import Progress
from handlers.cli.status import list_jobs, show_status
from handlers.cli.submit import submit_job
from handlers.cli.sweep import sweep_buckets
from handlers.cli.watch import Watch
from tests.support.runtime import local_runtime, local_settings, put_job

SHOWN = {"[/nobody]": "[/nobody]", "[bold red]x": "[bold red]x", ":smile:": ":smile:"}
"""What looks like markup or an emoji -> as it is shown."""
ESCAPED = {
    "\x1b]0;title\x07\x1b[2J": r"\x1b]0;title\x07\x1b[2J",
    "\x9b2J": r"\x9b2J",
    "a\rb": r"a\rb",
    "a\njobs~b: succeeded": r"a\njobs~b: succeeded",
    "\u202etxt": r"\u202etxt",
    "a\u2028b": r"a\u2028b",
}
"""What a terminal obeys, or takes for the end of a line -> as it is shown."""
NAMES = SHOWN | ESCAPED


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("names")
    fill(root)
    Watch(local_runtime(root), Progress(quiet=True)).poll()
    return root


def fill(root: Path) -> None:
    """Store for each name a job that waits for a recording, and one that is refused."""
    runtime = local_runtime(root)
    for name in NAMES:
        item = {"id": "a", "text": "Words."}
        key = f"refs/{name if name in SHOWN else 'a'}.flac"
        voices = {"a": {"reference": key, "language": "en"}}
        put_job(runtime, name=name, voices=voices, wait_s=900)
        put_job(runtime, name=f"{name}/refused", items=[item | {name: 1}, item])
        runtime.inbox.put(f"elsewhere {name}.manifest.json", b"{}")
    for path in (root / "inbox").rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - 60,) * 2)


@pytest.fixture(params=["pipe", "terminal"])
def said(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[], str]:
    """Return what was printed, once it is checked, where the output is a pipe or a terminal."""
    if request.param == "terminal":
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "400")

    def read() -> str:
        text = "".join(capsys.readouterr())
        for raw in ESCAPED:
            assert raw not in text
        if request.param == "pipe":
            assert all(char.isprintable() for char in text.replace("\n", ""))
        return text

    return read


@pytest.mark.slow
def test_watch_reports_jobs_of_any_name(tmp_path: Path, said: Callable[[], str]) -> None:
    fill(tmp_path)
    with Progress() as progress:
        watch = Watch(local_runtime(tmp_path, observe=progress), progress)
        watch.poll()
        progress.update_status(watch.idle_status())
        for line in watch.closing_lines():
            progress.report(line)
    text = said()
    for shown in NAMES.values():
        key = f"refs/{shown if shown in SHOWN else 'a'}.flac"
        assert f"jobs/{shown}.manifest.json: waits for {key}" in text
        assert f"jobs/{shown}/refused.manifest.json: rejected" in text
        assert f"elsewhere {shown}.manifest.json is ignored" in text


def test_progress_shows_any_name_in_its_status(said: Callable[[], str]) -> None:
    with Progress() as progress:
        for name in NAMES:
            progress(Step(job="0123456789", stage="speak", item=name))
            progress(Step(job="0123456789", stage="enrol", item=name, seconds=1.0))
    text = said()
    for shown in NAMES.values():
        assert f"01234567 {shown}: voice learned" in text


@pytest.mark.slow
def test_commands_about_jobs_show_any_name(folder: Path, said: Callable[[], str]) -> None:
    settings = local_settings(folder)
    refused = [f"jobs/{name}/refused.manifest.json" for name in NAMES]
    for output in (
        list_jobs(settings, 100),
        show_status(settings, []),
        show_status(settings, refused),
        sweep_buckets(settings, grace=-1, progress=Progress(quiet=True)),
        open_results(settings, refused, folder / "heard"),
        *(retry_job(settings, key) for key in refused),
    ):
        screen.show(replace(output, exit_code=0), as_json=False)
        screen.show(replace(output, exit_code=0), as_json=True)
    text = said()
    for shown in NAMES.values():
        assert f"jobs/{shown}.manifest.json" in text
        assert f"jobs/{shown}/refused.manifest.json" in text


def test_json_keeps_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    screen.print_json({"names": list(NAMES), "half": "\udcff"})
    assert json.loads(capsys.readouterr().out)["names"] == list(NAMES)


def test_errors_show_any_name(folder: Path, said: Callable[[], str]) -> None:
    settings = local_settings(folder)
    for name in (*NAMES, os.fsdecode(b"\xff")):
        output = open_results(settings, [f"{name}.manifest.json"], folder / "heard")
        screen.show(replace(output, exit_code=0), as_json=False)
        screen.print_error(Refused("OBJECT_MISSING", "Nothing.", pointer=name))
        path = folder / f"{name.replace('/', '-')}.manifest.json"
        voices = {"v": {"reference": "refs/a.flac", "language": "en"}}
        items = [{"id": name, "text": "x"}, {"id": "b", "text": "x"}]
        document = {"schema": "voicedrop/job/1", "voices": voices, "items": items}
        path.write_text(json.dumps(document))
        assert submit_job(settings, path, []).data["error"]["code"] == "ID_INVALID"
    text = said()
    for shown in NAMES.values():
        assert f"OBJECT_MISSING: Nothing. (at {shown})\n" in text
