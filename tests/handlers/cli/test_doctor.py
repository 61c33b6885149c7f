"""What `voicedrop doctor` says about settings; about all else: tests/e2e/test_commands.py."""

from __future__ import annotations

from core.settings import SETTINGS
from handlers.cli.doctor import check_environment

NO_MODEL = {"VOICEDROP_KOKORO": "/nowhere", "HOME": "/home/a"}


def lines(**environ: str) -> list[str]:
    return [line.strip() for line in check_environment(NO_MODEL | environ).lines]


def test_effective_settings_are_listed_without_secrets() -> None:
    redis = "redis://:hunter2@localhost:1/0"
    told = lines(VOICEDROP_MARK="quiet", VOICEDROP_REDIS=redis, FC_REGION="cn-hangzhou")
    assert "VOICEDROP_MARK=quiet (environment)" in told
    assert "VOICEDROP_REDIS=set (environment)" in told
    assert "VOICEDROP_OSS_REGION=cn-hangzhou (environment)" in told
    assert "VOICEDROP_CONSENT=required (default)" in told
    assert not [line for line in told if "hunter2" in line or line.startswith("VOICEDROP_KEK=")]


def test_the_common_folder_is_listed_for_each_bucket() -> None:
    told = lines(VOICEDROP_BUCKET="/b", VOICEDROP_CONTROL="/c")
    for place in ("BUCKET=/b", "INBOX=/b/inbox", "RESULTS=/b/results", "CONTROL=/c"):
        assert f"VOICEDROP_{place} (environment)" in told


def test_a_wrong_setting_does_not_hide_the_others() -> None:
    report = check_environment(NO_MODEL | {"VOICEDROP_THREADS": "many"})
    assert report.exit_code == 4
    listed = {row["variable"] for row in report.data["settings"]}
    assert "VOICEDROP_MARK" in listed
    assert "VOICEDROP_THREADS" not in listed


def test_a_misspelt_variable_is_named_with_the_setting_that_it_may_mean() -> None:
    told = lines(VOICEDROP_CONSNET="optional", VOICEDROP_IMAGE="i", VOICEDROP_12345678="")
    hint = "Unknown setting, ignored. Did you mean VOICEDROP_CONSENT?"
    assert f"-    VOICEDROP_CONSNET: {hint}" in told
    assert "-    VOICEDROP_12345678: Unknown setting, ignored." in told
    assert not [line for line in told if "VOICEDROP_IMAGE" in line]


def test_no_setting_is_mistaken_for_a_misspelt_one() -> None:
    every = {row.variable: "x" for row in SETTINGS.values()}
    assert not [line for line in lines(**every) if "Unknown" in line]
