from __future__ import annotations

import base64
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.crypto import keys
from core.crypto.kms import AliyunKms
from core.errors import Misconfigured
from core.job.runtime import Step, Stopwatch
from core.settings import Settings
from core.storage.local import LocalStore
from core.storage.oss import OssStore
from core.storage.oss_connection import Credentials
from handlers import wiring, worker
from handlers.cli.screen import Progress
from handlers.cli.status import list_jobs
from handlers.cli.watch import watch_inbox
from handlers.server.tokens import create_tokens
from handlers.wiring import CurrentCredentials
from handlers.worker import Worker
from tests.support.events import notification
from tests.support.runtime import local_runtime, local_settings, put_job


def test_credentials_of_the_call_come_before_those_of_the_environment() -> None:
    credentials = CurrentCredentials({"OSS_ACCESS_KEY_ID": "a", "OSS_ACCESS_KEY_SECRET": "b"})
    assert credentials() == Credentials("a", "b", "")
    with credentials.of_call(Credentials("c", "d", "e")):
        assert credentials() == Credentials("c", "d", "e")
    assert credentials().access_key_id == "a"


def test_the_names_of_the_platform_are_read_too() -> None:
    names = ("ACCESS_KEY_ID", "ACCESS_KEY_SECRET", "SECURITY_TOKEN")
    credentials = CurrentCredentials({f"ALIBABA_CLOUD_{name}": name for name in names})
    assert credentials().security_token == "SECURITY_TOKEN"


def test_without_any_credentials_the_variable_is_named() -> None:
    with pytest.raises(Misconfigured, match="OSS_ACCESS_KEY_ID"):
        CurrentCredentials({})()


def test_locations_become_folders_or_buckets(tmp_path: Path) -> None:
    settings = Settings(oss_region="cn-hangzhou")
    credentials = CurrentCredentials({"OSS_ACCESS_KEY_ID": "a", "OSS_ACCESS_KEY_SECRET": "b"})
    assert isinstance(wiring.open_store(str(tmp_path), settings, credentials), LocalStore)
    store = wiring.open_store("oss://some-bucket/", settings, credentials)
    assert isinstance(store, OssStore)
    assert store.name == "some-bucket"


def test_keys_come_from_values_or_a_folder_and_kms_wraps_if_named(tmp_path: Path) -> None:
    keys.create_keys(tmp_path)
    credentials = CurrentCredentials({})
    folder = wiring.load_keyring(Settings(keys=tmp_path), credentials)
    pem = base64.b64encode((tmp_path / "sign-001.pem").read_bytes()).decode()
    values = Settings(
        kek=(tmp_path / "kek-001.key").read_text(),
        signing_key=pem,
        watermark_key=(tmp_path / "watermark-001.key").read_text(),
    )
    same = wiring.load_keyring(values, credentials)
    assert same.watermark == folder.watermark
    assert set(same.verifying) == set(folder.verifying)
    kms = wiring.load_keyring(
        Settings(keys=tmp_path, kms_key="alias/v", oss_region="cn-hangzhou"), credentials
    )
    assert isinstance(kms.wrapping, AliyunKms)
    auditor = wiring.load_reading_keys(values, credentials)
    assert (auditor.watermark, set(auditor.verifying)) == (same.watermark, set(same.verifying))
    assert auditor.wrapping is not None


@pytest.mark.parametrize("load", [wiring.load_keyring, wiring.load_reading_keys])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"kek": "abc"},
            "VOICEDROP_KEK is set, so VOICEDROP_SIGNING_KEY and VOICEDROP_WATERMARK_KEY must be "
            "set too (or none of the three: keys are then read from some/keys).",
        ),
        (
            {"kek": "abc", "watermark_key": "abc"},
            "VOICEDROP_KEK and VOICEDROP_WATERMARK_KEY are set, so VOICEDROP_SIGNING_KEY must be "
            "set too (or none of the three: keys are then read from some/keys).",
        ),
        (
            {"signing_key": "abc", "kms_key": "alias/v", "oss_region": "cn-hangzhou"},
            "VOICEDROP_SIGNING_KEY is set, so VOICEDROP_WATERMARK_KEY must be set too (or none of "
            "the three: keys are then read from some/keys).",
        ),
    ],
)
def test_some_of_the_keys_as_values_name_those_that_are_not_set(
    values: dict[str, str], message: str, load: Callable[..., object]
) -> None:
    settings = replace(Settings(keys=Path("some/keys")), **values)  # type: ignore[arg-type]
    with pytest.raises(Misconfigured) as caught:
        load(settings, CurrentCredentials({}))
    assert (caught.value.message, caught.value.advice) == (message, "")


def test_the_voice_is_loaded_on_first_use_and_languages_are_known_before(tmp_path: Path) -> None:
    keys.create_keys(tmp_path / "keys")
    places = {"VOICEDROP_BUCKET": str(tmp_path), "VOICEDROP_KEYS": str(tmp_path / "keys")}
    settings = Settings.from_environ({**places, "VOICEDROP_ENGINE": "gpt_sovits"})
    runtime = wiring.create_local_runtime(settings)
    assert "yue" in runtime.languages
    with pytest.raises(Misconfigured, match="VOICEDROP_BUNDLE"):
        runtime.voice  # noqa: B018 - a property that loads


def test_an_engine_without_its_model_is_refused() -> None:
    with pytest.raises(Misconfigured, match="ENGINE_UNSUPPORTED"):
        wiring.load_voice(Settings(engine="gpt_sovits"))
    with pytest.raises(Misconfigured, match="MODEL_MISSING"):
        wiring.load_voice(Settings(engine="gpt_sovits", bundle=Path("/nowhere")))


def test_steps_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "voicedrop.steps"):
        wiring._log_step(Step(job="j", stage="speak", item="i"))
        wiring._log_step(Step(job="j", stage="speak", item="i", seconds=1.5))
    (record,) = caplog.records
    assert record.message == "speak"
    assert (vars(record)["job"], vars(record)["seconds"]) == ("j", 1.5)


def test_a_stage_that_fails_is_timed_but_not_reported_as_done(tmp_path: Path) -> None:
    steps: list[Step] = []
    watch = Stopwatch(local_runtime(tmp_path, observe=steps.append), "job")
    with pytest.raises(ValueError), watch.stage("enrol"):  # noqa: PT011
        raise ValueError
    assert watch.seconds["enrol"] >= 0
    assert [(step.stage, step.seconds) for step in steps] == [("enrol", None)]


@pytest.fixture
def container(tmp_path: Path) -> Worker:
    """A worker over folders with the real engine."""
    runtime = local_runtime(tmp_path)
    runtime.inbox.put("jobs/x.manifest.json", b"{")
    return worker.worker_from(
        {"VOICEDROP_BUCKET": str(tmp_path), "VOICEDROP_KEYS": str(tmp_path / "keys")}
    )


@pytest.mark.slow
def test_the_worker_warms_once_handles_and_forgets_credentials(
    container: Worker, tmp_path: Path
) -> None:
    credentials = Credentials("id", "very-secret", "token")
    answer = json.loads(container.handle(notification("jobs/x.manifest.json"), credentials, "r-1"))
    assert (answer["request"], answer["done"][0]["status"]) == ("r-1", "rejected")
    assert container.warm() is container.warm()
    with pytest.raises(Misconfigured):
        container._credentials()
    container.close()
    assert put_job(local_runtime(tmp_path)) == "jobs/one.manifest.json"


def test_a_worker_with_overlapping_buckets_is_refused(tmp_path: Path) -> None:
    environ = {"VOICEDROP_INBOX": str(tmp_path), "VOICEDROP_RESULTS": str(tmp_path / "out")}
    with pytest.raises(Misconfigured, match="CONFIG_LOOP"):
        worker.worker_from(environ)


def test_an_engine_without_its_bundle_names_the_setting() -> None:
    with pytest.raises(Misconfigured, match="VOICEDROP_BUNDLE is not set"):
        wiring.load_voice(Settings(engine="gpt_sovits"))


def test_words_are_recognised_only_where_somebody_asks_for_it() -> None:
    assert wiring.create_transcriber(Settings()) is None
    assert wiring.create_transcriber(Settings(guard="words")) is not None


def test_a_recogniser_that_only_the_policy_demands_may_be_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`verified` says so at the start, not at the first recorded statement."""
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    wiring._recogniser.cache_clear()
    assert wiring.create_statement_transcriber(Settings(consent="required")) is None
    wiring.require_recogniser(Settings(consent="required"))
    with pytest.raises(Misconfigured, match="MODEL_MISSING"):
        wiring.require_recogniser(Settings(consent="verified"))


def test_whoever_only_looks_at_jobs_needs_no_recogniser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    wiring._recogniser.cache_clear()
    local_runtime(tmp_path)
    settings = replace(local_settings(tmp_path), consent="verified")
    assert list_jobs(settings, 1).exit_code == 0
    with pytest.raises(Misconfigured, match="MODEL_MISSING"):
        watch_inbox(settings, once=True, poll=0.1, progress=Progress(quiet=True))


@pytest.mark.parametrize(
    ("package", "make", "extra"),
    [
        ("redis", lambda: create_tokens(Settings(), "redis://localhost:1/0"), "redis"),
        (
            "oss2",
            lambda: wiring.open_store(
                "oss://some-bucket/",
                Settings(oss_region="cn-hangzhou"),
                CurrentCredentials({"OSS_ACCESS_KEY_ID": "a", "OSS_ACCESS_KEY_SECRET": "b"}),
            ),
            "oss",
        ),
    ],
)
def test_a_package_that_a_setting_needs_is_named_with_the_command_that_installs_it(
    package: str, make: Callable[[], object], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Misconfigured, match=rf"{package}.*scripts/setup {extra}") as error:
        make()
    assert error.value.code == "SETTING_INVALID"
