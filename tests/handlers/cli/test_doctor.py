"""What `voicedrop doctor` reports about settings; tests/e2e/test_commands.py tests the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.settings import SETTINGS
from core.voice.gpt_sovits.convert.download import MODELS
from handlers.cli.app import app
from handlers.cli.doctor import check_environment
from tests.support.runtime import local_runtime

NO_MODEL = {"VOICEDROP_KOKORO": "/nowhere", "HOME": "/home/a"}


def run_doctor(**environ: str) -> list[str]:
    return [line.strip() for line in check_environment(NO_MODEL | environ).lines]


def test_effective_settings_are_listed_without_secrets() -> None:
    redis = "redis://:hunter2@localhost:1/0"
    listed_lines = run_doctor(
        VOICEDROP_MARK="quiet", VOICEDROP_REDIS=redis, FC_REGION="cn-hangzhou"
    )
    assert "VOICEDROP_MARK=quiet (environment)" in listed_lines
    kept = "voiceprints are in the control bucket; the speech of items is not kept"
    assert f"ok   caches: {kept}" in listed_lines
    assert "VOICEDROP_REDIS=set (environment)" in listed_lines
    assert "VOICEDROP_OSS_REGION=cn-hangzhou (environment)" in listed_lines
    assert "VOICEDROP_CONSENT=required (default)" in listed_lines
    assert not [
        line for line in listed_lines if "hunter2" in line or line.startswith("VOICEDROP_KEK=")
    ]


def test_the_prices_are_said_or_refused() -> None:
    said = run_doctor(VOICEDROP_PRICES="currency=USD unit=0.00002 cpu=4*1 memory=8*0.15 call=1")
    assert "ok   prices: an hour 0.374 USD, a call 2e-05 USD" in said
    (wrong,) = (line for line in run_doctor(VOICEDROP_PRICES="cpu=4") if "prices:" in line)
    assert wrong.startswith("BAD  prices: SETTING_INVALID: VOICEDROP_PRICES: currency must be")


def test_what_is_kept_where_is_said_or_refused() -> None:
    said = run_doctor(VOICEDROP_SPEECH_CACHE="bucket", VOICEDROP_CACHE_HOURS="1.5")
    (line,) = (line for line in said if "caches:" in line)
    assert line.endswith("the speech of items is kept in the control bucket for 1.5 hours")
    dead = "redis://127.0.0.1:1/0"
    (line,) = (
        line
        for line in run_doctor(VOICEDROP_VOICE_CACHE="redis", VOICEDROP_REDIS=dead)
        if "caches:" in line
    )
    assert line.startswith("BAD  caches: SETTING_INVALID: The Redis of VOICEDROP_REDIS does not")


def test_the_common_folder_is_listed_for_each_bucket() -> None:
    listed_lines = run_doctor(VOICEDROP_BUCKET="/b", VOICEDROP_CONTROL="/c")
    for place in ("BUCKET=/b", "INBOX=/b/inbox", "RESULTS=/b/results", "CONTROL=/c"):
        assert f"VOICEDROP_{place} (environment)" in listed_lines


def test_a_wrong_setting_does_not_hide_the_others() -> None:
    report = check_environment(NO_MODEL | {"VOICEDROP_THREADS": "many"})
    assert report.exit_code == 4
    listed = {row["variable"] for row in report.data["settings"]}
    assert "VOICEDROP_MARK" in listed
    assert "VOICEDROP_THREADS" not in listed


def test_a_misspelt_variable_is_named_with_the_setting_that_it_may_mean() -> None:
    listed_lines = run_doctor(
        VOICEDROP_CONSNET="optional", VOICEDROP_IMAGE="i", VOICEDROP_12345678=""
    )
    hint = "Unknown setting, ignored. Did you mean VOICEDROP_CONSENT?"
    assert f"-    VOICEDROP_CONSNET: {hint}" in listed_lines
    assert "-    VOICEDROP_12345678: Unknown setting, ignored." in listed_lines
    assert not [line for line in listed_lines if "VOICEDROP_IMAGE" in line]


def test_a_command_names_a_misspelt_variable_beside_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICEDROP_BUKET", "x")
    monkeypatch.setenv("VOICEDROP_CACHE", str(tmp_path))
    ran = CliRunner().invoke(app, ["models", "list", "--json"])
    assert json.loads(ran.stdout) == {"bundles": []}
    assert "VOICEDROP_BUKET: Unknown setting, ignored. Did you mean VOICEDROP_BUCKET?" in ran.stderr


@pytest.mark.parametrize("url", ["localhost", "redis://h:port"])
def test_an_address_that_the_server_would_refuse_is_found(url: str) -> None:
    (line,) = (line for line in run_doctor(VOICEDROP_REDIS=url) if "redis:" in line)
    assert line.startswith("BAD  redis: SETTING_INVALID: VOICEDROP_REDIS must be redis://")


def test_no_setting_is_mistaken_for_a_misspelt_one() -> None:
    every = {row.variable: "x" for row in SETTINGS.values()}
    assert not [line for line in run_doctor(**every) if "Unknown" in line]


@pytest.mark.parametrize("bundle", ["", "/nowhere"], ids=["unset", "absent"])
def test_a_model_that_is_missing_is_named_with_the_commands_that_install_it(bundle: str) -> None:
    given = {"VOICEDROP_BUNDLE": bundle} if bundle else {}
    (line,) = (
        line for line in run_doctor(VOICEDROP_ENGINE="gpt_sovits", **given) if "BAD  voice" in line
    )
    assert "`voicedrop models list`" in line
    assert line.partition("`voicedrop models get ")[2].partition("`")[0] in MODELS
    assert "doctor" not in line
    assert "VOICEDROP_ENGINE" not in line


@pytest.mark.parametrize(
    ("environ", "mark"),
    [
        ({}, "-    whisper"),
        ({"VOICEDROP_CONSENT": "verified"}, "BAD  whisper"),
        ({"VOICEDROP_GUARD": "words"}, "BAD  whisper"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_whisper_that_a_setting_needs_is_missed(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], mark: str
) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    (line,) = (line for line in run_doctor(**environ) if "whisper" in line)
    assert line.startswith(mark)
    assert "scripts/setup asr" in line
    assert all(f"{name}={value}" in line for name, value in environ.items())


def test_an_unknown_model_is_refused_with_the_names_that_exist() -> None:
    ran = CliRunner().invoke(app, ["models", "get", "foo"])
    assert ran.output == "", "no empty line before the error"
    assert all(name in str(ran.exception) for name in MODELS)


def test_sentences_of_a_finding_end_before_the_next_one_begins() -> None:
    (line,) = (line for line in run_doctor(VOICEDROP_RESULTS="/a", VOICEDROP_INBOX="/a/b")
               if "CONFIG_LOOP" in line)  # fmt: skip
    assert "overlap. Use separate" in line


FULL = """
import resource, sys
from handlers.cli.doctor import check_environment

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
environ = {"VOICEDROP_BUCKET": sys.argv[1], "VOICEDROP_KOKORO": "/nowhere"}
print(*check_environment(environ).lines, sep=chr(10))
"""


def test_folders_that_cannot_be_written_are_found(tmp_path: Path) -> None:
    local_runtime(tmp_path)
    given = {"VOICEDROP_BUCKET": str(tmp_path), "VOICEDROP_KEYS": str(tmp_path / "keys")}
    assert f"ok   control: {tmp_path}/control" in run_doctor(**given)
    assert [path for path in tmp_path.rglob("*") if "doctor" in path.name] == []
    ran = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    for name in ("results", "control"):
        assert f"BAD  {name}: NO_SPACE: " in ran.stdout
    assert "ok   inbox: " in ran.stdout
    assert "Not ready" in ran.stdout
