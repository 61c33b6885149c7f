"""The offline check of s.yaml accepts the template and finds faults."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud import check, template
from core.settings import DEPLOYMENT, SETTINGS, Settings
from events import incoming
from handlers.server.app import RETRY_PAUSE_SECONDS
from handlers.server.instance import DRAIN_SECONDS

ROOT = Path(__file__).parents[2]
S_YAML = yaml.safe_load((ROOT / "s.yaml").read_text(encoding="utf-8"))
FUNCTION = S_YAML["resources"]["worker"]["props"]


def resolve_function() -> dict[str, Any]:
    props = template.resolve(FUNCTION, S_YAML["vars"], {})
    assert isinstance(props, dict)
    return props


def faults_after(change: Callable[[Any], Any]) -> list[str]:
    """Return the faults after `change` was applied to the resources."""
    broken = copy.deepcopy(S_YAML)
    change(broken["resources"])
    return list(template.find_faults(broken, {}))


def edit(path: str, value: Any) -> Callable[[Any], None]:
    """Return a change that sets the value at `path` under the resources, or deletes it if None."""

    def change(resources: Any) -> None:
        *parents, last = (int(p) if p.isdigit() else p for p in path.split("/"))
        place = resources
        for parent in parents:
            place = place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return change


def test_the_template_has_no_fault() -> None:
    assert list(template.find_faults(S_YAML, {})) == []


P, A = "worker/props", "alarms/props"
OSS = f"{P}/triggers/0/triggerConfig"
FAULTS = [
    # rules of the deployer's schema
    (f"{P}/timeout", 99999, "timeout: 99999 violates maximum: 86400"),
    (f"{P}/functionName", None, "worker/: missing: functionName"),
    (f"{P}/provisionConfig/alwaysAllocateGPU", None, "provisionConfig: missing: alwaysAllocateGPU"),
    ("domain/props/tlsConfig/maxVersion", None, "tlsConfig: missing: maxVersion"),
    (
        f"{P}/timeout",
        {"a": "x" * 300},
        "xxx... violates type: integer",
    ),
    # misspelt keys, which the schema accepts
    (f"{P}/instanceConcurency", 1, "instanceConcurency: unknown key"),
    (f"{P}/logConfig/logBeginrule", "None", "logConfig/logBeginrule: unknown key"),
    (f"{P}/tags/0/vaule", "x", "tags/0/vaule: unknown key"),
    (f"{OSS}/filter/key/sufix", "", "triggers/manifest/filter/key/sufix: unknown key"),
    (
        f"{P}/environmentVariables/X",
        "${vars.nothing}",
        "${vars.nothing}: placeholder without a value",
    ),
    # triggers, which the schema does not check
    (f"{OSS}/filter/key/suffix", None, "triggers/manifest/filter/key: missing: suffix"),
    (f"{OSS}/filter/key/prefix", "", "filter/key/prefix: must not be empty"),
    (f"{OSS}/events/0", "oss:ObjectCreated:*", "only events that a whole object fires once"),
    (f"{OSS}/events/0", "oss:ObjectCreated:Puts", "oss:ObjectCreated:Puts violates"),
    (f"{P}/triggers/1/triggerConfig/filter/key/suffix", ".json", "manifest and batch overlap"),
    (f"{P}/triggers/2/triggerConfig/filter/key/prefix", "job", "manifest and reference overlap"),
    (f"{P}/triggers/0/sourceArn", "acs:oss:x:1:voicedrop-results", "must be the inbox"),
    (f"{P}/triggers/5/triggerConfig/authType", "anonymous", "anonymous calls"),
    (f"{P}/triggers/4/triggerType", "log", "triggerType: must be one of oss, http"),
    # cards and machines
    (f"{P}/gpuConfig/gpuType", "fc.gpu.ada.9", "fc.gpu.ada.9 violates"),
    (f"{P}/gpuConfig/gpuType", "fc.gpu.ampere.1", "gpuConfig/gpuType: must be one of"),
    (f"{P}/gpuConfig", {"gpuType": "fc.gpu.ada.2"}, "must be 24576, all of fc.gpu.ada.2"),
    (f"{P}/gpuConfig/gpuMemorySize", 8192, "must be 24576, all of fc.gpu.ada.2"),
    (f"{P}/memorySize", 16384, "memorySize: not offered"),
    (f"{P}/cpu", 4, "cpu: not offered"),
    (f"{P}/diskSize", 2048, "diskSize"),
    # the container
    (f"{P}/runtime", "python3.10", "runtime: must be custom-container"),
    (f"{P}/customContainerConfig/image", "docker.io/x/y:1", "must be in ACR"),
    (f"{P}/customContainerConfig/image", "a.cn-x.aliyuncs.com/x/y:latest", "other than latest"),
    (f"{P}/instanceLifecycleConfig/initializer", None, "needs an initializer"),
    (f"{P}/instanceLifecycleConfig/preStop/timeout", None, "preStop/timeout: must be 4 to 300"),
    (f"{P}/instanceLifecycleConfig/preStop/command", ["x"], "either handler or command"),
    (f"{P}/instanceConcurrency", 20, "instanceConcurrency: must be 1"),
    (f"{P}/logConfig/logBeginRule", "DefaultRegex", "logConfig/logBeginRule"),
    # the receiver of alarms
    (f"{A}/concurrencyConfig/reservedConcurrency", 2, "must be 1, or two actions overlap"),
    (f"{A}/instanceConcurrency", 2, "instanceConcurrency: must be 1"),
    (f"{A}/environmentVariables/RECEIVER_TOKEN", "a" * 40, "must be kms:BLOB or empty"),
    (f"{A}/triggers/0/triggerConfig/methods", ["POST", "GET"], "methods: must be POST alone"),
    (f"{A}/triggers/1", None, "triggers: needs a timer"),
    (f"{A}/cpu", 1, "1 to 4 GB of memory per core"),
    (f"{A}/code", None, "missing: code"),
    # settings
    (f"{P}/environmentVariables/VOICEDROP_OSS_ENDPOINT", "http://x", "must begin with https://"),
    (
        f"{P}/environmentVariables/VOICEDROP_RESULTS",
        "oss://voicedrop-inbox",
        "three different buckets",
    ),
    (f"{P}/environmentVariables/VOICEDROP_CONTROL", None, "three different buckets"),
    (f"{P}/environmentVariables/BIG", "x" * 4096, "exceed 4 KB"),
    # cost limits and retries
    (f"{P}/concurrencyConfig", None, "to limit the cost"),
    (f"{P}/provisionConfig/scheduledActions/0/scheduleExpression", "cron(0 1 * * *)", "six"),
    (f"{P}/provisionConfig/scheduledActions/0/endTime", "2020-01-01T00:00:00Z", "ends before"),
    (f"{P}/scalingConfig", {"minInstances": 1}, "cannot be combined with provisionConfig"),
    (f"{P}/asyncInvokeConfig/destinationConfig", None, "needs a failure destination"),
    (f"{P}/asyncInvokeConfig/maxAsyncEventAgeInSeconds", 700000, "must be 60 to 604800"),
    # the domain
    ("domain/props/protocol", "HTTP,HTTPS", "protocol: must be HTTPS"),
    ("domain/props/tlsConfig/minVersion", "TLSv1.1", "must be TLSv1.2 or TLSv1.3"),
    ("domain/props/tlsConfig", None, "must be TLSv1.2 or TLSv1.3"),
    ("domain/props/tlsConfig/cipherSuites/0", "TLS_RSA_WITH_RC4_128_SHA", "lacks forward secrecy"),
    ("domain/component", "fc3-domian", "component: must be one of"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "value", "fault"),
    FAULTS,
    ids=lambda value: str(value)[-40:] if not isinstance(value, dict) else "dict",
)
def test_a_fault_is_found_and_named(path: str, value: Any, fault: str) -> None:
    found = faults_after(edit(path, value))
    assert any(fault in line for line in found), found


def test_eleven_triggers_on_a_bucket_are_too_many() -> None:
    def crowd(resources: Any) -> None:
        triggers = resources["worker"]["props"]["triggers"]
        for i in range(7):
            more = copy.deepcopy(triggers[0])
            more["triggerConfig"]["filter"]["key"]["prefix"] = f"more{i}/"
            triggers.append(more | {"triggerName": f"more{i}"})

    assert faults_after(crowd) == ["worker/triggers: a bucket can have at most ten"]


def test_without_a_card_the_ratio_of_memory_to_cores_is_checked() -> None:
    def plain(cpu: int) -> Callable[[Any], None]:
        def change(resources: Any) -> None:
            del resources["worker"]["props"]["gpuConfig"]
            resources["worker"]["props"] |= {"cpu": cpu, "memorySize": 8192}

        return change

    assert faults_after(plain(4)) == []
    assert faults_after(plain(1)) == ["worker/cpu: must have 1 to 4 GB of memory per core"]


def test_the_edition_is_checked() -> None:
    assert list(template.find_faults(S_YAML | {"edition": "1.0.0"}, {})) == [
        "edition: must be 3.0.0"
    ]


def test_the_environment_fills_the_template() -> None:
    buckets = {"VOICEDROP_INBOX_BUCKET": "mine-in", "VOICEDROP_OSS_REGION": "cn-shanghai"}
    props = template.resolve(FUNCTION, S_YAML["vars"], buckets)
    assert props["environmentVariables"]["VOICEDROP_INBOX"] == "oss://mine-in"
    assert props["triggers"][0]["sourceArn"] == "acs:oss:cn-shanghai:1234567890123456:mine-in"
    assert list(template.find_faults(S_YAML, buckets)) == []


def test_the_settings_accept_the_variables() -> None:
    settings = Settings.from_environ(resolve_function()["environmentVariables"])
    settings.refuse_loops()
    assert settings.inbox == "oss://voicedrop-inbox"
    assert settings.consent == "required"


def test_every_variable_is_a_setting_or_read_when_it_is_deployed() -> None:
    settings = {row.variable for row in SETTINGS.values()}
    assert set(FUNCTION["environmentVariables"]) <= settings
    source = (ROOT / "s.yaml").read_text(encoding="utf-8")
    read = set(re.findall(r"\$\{env\('(VOICEDROP_\w+)'", source))
    assert read - settings == DEPLOYMENT


def test_every_variable_of_the_image_is_a_setting() -> None:
    source = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    named = set(re.findall(r"\b(VOICEDROP_\w+)=", source))
    assert named
    assert named <= {row.variable for row in SETTINGS.values()}


def test_secrets_are_never_written_in_the_template() -> None:
    for name in ("VOICEDROP_KEK", "VOICEDROP_SIGNING_KEY", "VOICEDROP_WATERMARK_KEY"):
        assert FUNCTION["environmentVariables"][name] == f"${{env('{name}', '')}}"


def test_pre_stop_is_longer_than_the_draining() -> None:
    assert FUNCTION["instanceLifecycleConfig"]["preStop"]["timeout"] > DRAIN_SECONDS + 5


def test_the_platform_repeats_often_enough_for_the_last_attempt_to_be_recorded() -> None:
    assert FUNCTION["asyncInvokeConfig"]["maxAsyncRetryAttempts"] + 1 >= Settings().max_attempts


def test_the_attempts_outlast_the_lease_of_a_killed_worker() -> None:
    retries = FUNCTION["asyncInvokeConfig"]["maxAsyncRetryAttempts"]
    assert retries * RETRY_PAUSE_SECONDS > Settings().lease_seconds


def test_triggers_fire_on_every_way_to_write_an_object_but_not_on_its_parts() -> None:
    expected = {f"oss:ObjectCreated:{operation}" for operation in incoming.CREATED}
    events = [
        set(trigger["triggerConfig"]["events"])
        for trigger in FUNCTION["triggers"]
        if trigger["triggerType"] == "oss"
    ]
    assert events
    assert all(each == expected for each in events)


def test_the_command_prints_ok(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert check.main([]) == 0
    assert capsys.readouterr().out == "s.yaml, policies and alarms: OK\n"


def test_the_command_names_the_file_and_fails(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = (ROOT / "s.yaml").read_text(encoding="utf-8")
    path = tmp_path / "s.yaml"
    path.write_text(
        text.replace("timeout: 3600", "timeout: 0").replace(
            "${env('VOICEDROP_KEK', '')}", "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k="
        )
    )
    assert check.main([str(path)]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{path}: contains something that looks like a secret"
    assert second.startswith(f"{path}: worker/timeout: 0 violates minimum: 1")
