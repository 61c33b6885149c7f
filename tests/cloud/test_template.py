"""The offline check of s.yaml accepts the template and finds faults."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud import check, machines, ram, template
from cloud.machines import Machine
from core.result import cost
from core.settings import DEPLOYMENT, SETTINGS, Settings
from events import incoming
from handlers.server.app import RETRY_PAUSE_SECONDS
from handlers.server.instance import DRAIN_SECONDS
from tests.handlers.server.test_secrets import key_settings_of, leaks
from tests.support.policies import granted_permissions

ROOT = Path(__file__).parents[2]
S_YAML = yaml.safe_load((ROOT / "s.yaml").read_text(encoding="utf-8"))
RESOURCES = S_YAML["resources"]
FUNCTION = RESOURCES["worker"]["props"]


def resolve_function(**environ: str) -> dict[str, Any]:
    return template.resolve_props(S_YAML, "worker", environ)


def faults_after(change: Callable[[Any], Any]) -> list[str]:
    """Return the faults after `change` was applied to the resources and the variables."""
    broken = copy.deepcopy(S_YAML)
    change({**broken["resources"], "vars": broken["vars"]})
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


@pytest.mark.parametrize("machine", machines.MACHINES.values(), ids=lambda one: one.name)
def test_the_template_has_no_fault_and_describes_both_machines(machine: Machine) -> None:
    environ = {"VOICEDROP_MACHINE": machine.name}
    assert list(template.find_faults(S_YAML, environ)) == []
    props = resolve_function(**environ)
    assert (props["cpu"], props["memorySize"]) == (machine.cpu, machine.memory_gb * 1024)
    assert props["diskSize"] == machine.disk_gb * 1024
    card = machine.card.name if machine.card else None
    assert props.get("gpuConfig", {}).get("gpuType") == card
    # The platform checks the health of functions with a card and of web functions alone.
    assert ("healthCheckConfig" in props["customContainerConfig"]) == (card is not None)


def test_the_card_of_the_template_is_one_that_a_new_account_has() -> None:
    assert machines.GPU.card
    assert machines.GPU.card.on_request >= FUNCTION["concurrencyConfig"]["reservedConcurrency"]


@pytest.mark.parametrize("machine", machines.MACHINES.values(), ids=lambda one: one.name)
def test_the_price_table_of_a_machine_is_a_setting(machine: Machine) -> None:
    table = cost.parse_prices(machine.prices)
    assert table
    assert table.cost(3600, 0).amount == pytest.approx(machine.active * 3600 * machines.USD)
    assert table.cost(20.1, 1).amount == pytest.approx(machine.cost(20.1), abs=1e-9)


P, A, F = "worker/props", "alarms/props", "front/props"
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
    (f"{P}/gpuConfig", {"gpuType": "fc.gpu.ada.9"}, "fc.gpu.ada.9 violates"),
    (f"{P}/gpuConfig", {"gpuType": "fc.gpu.xpu.1"}, "fc.gpu.xpu.1 violates"),
    (f"{P}/gpuConfig", {"gpuType": "fc.gpu.ada.2"}, "must be 24576, all of fc.gpu.ada.2"),
    (
        f"{P}/gpuConfig",
        {"gpuType": "fc.gpu.tesla.1", "gpuMemorySize": 8192},
        "must be 16384, all of fc.gpu.tesla.1",
    ),
    (f"{P}/memorySize", 36864, "8 vCPU must be 8192 to 32768, in steps of 4096"),
    (f"{P}/memorySize", 17408, "in steps of 4096"),
    (f"{P}/cpu", 4, "cpu: with fc.gpu.ampere.1 must be one of 8, 16"),
    (f"{P}/diskSize", 2048, "diskSize"),
    # versions
    (f"{P}/triggers/2/qualifier", "LATEST", "triggers/reference/qualifier: must be prod"),
    (f"{P}/triggers/2/qualifier", None, "triggers/reference/qualifier: must be prod"),
    (f"{P}/asyncInvokeConfig/qualifier", None, "asyncInvokeConfig/qualifier: must be prod"),
    (f"{P}/provisionConfig/qualifier", "LATEST", "provisionConfig/qualifier: must be prod"),
    ("domain/props/routeConfig/routes/0/qualifier", "LATEST", "/qualifier: must be prod"),
    # secrets
    (f"{P}/environmentVariables/VOICEDROP_KEK", "x", "must be control:KEY or kms:BLOB"),
    (
        f"{P}/environmentVariables/VOICEDROP_SIGNING_KEY",
        "control:keys/sign-001.pem,LS0t",
        "VOICEDROP_SIGNING_KEY: must be control:KEY or kms:BLOB",
    ),
    (
        f"{P}/environmentVariables/VOICEDROP_REDIS",
        "redis://:hunter2@host:1/0",
        "VOICEDROP_REDIS: must be control:KEY or kms:BLOB",
    ),
    (f"{P}/environmentVariables/OSS_ACCESS_KEY_SECRET", "x", "OSS_ACCESS_KEY_SECRET: must be"),
    (f"{P}/environmentVariables/X", "LTAI5tAbCdEfGhIjKl", "X: contains something that looks"),
    (f"{P}/description", "-----BEGIN PRIVATE KEY-----", "contains something that looks like"),
    # the container
    (f"{P}/runtime", "python3.10", "runtime: must be custom-container"),
    ("vars/gpu/customContainerConfig/image", "docker.io/x/y:1", "must be in ACR"),
    (
        "vars/gpu/customContainerConfig/image",
        "a.cn-x.aliyuncs.com/x/y:latest",
        "other than latest",
    ),
    (f"{P}/instanceLifecycleConfig/initializer", None, "needs an initializer"),
    (f"{P}/instanceLifecycleConfig/preStop/timeout", None, "preStop/timeout: must be 4 to 300"),
    (f"{P}/instanceLifecycleConfig/preStop/command", ["x"], "either handler or command"),
    (f"{P}/instanceConcurrency", 20, "instanceConcurrency: must be 4"),
    (f"{P}/logConfig/logBeginRule", "DefaultRegex", "logConfig/logBeginRule"),
    # the front function
    (
        f"{F}/environmentVariables/VOICEDROP_KEK",
        "control:keys/k",
        "the front function holds no keys",
    ),
    (f"{F}/gpuConfig", {"gpuType": "fc.gpu.ampere.1", "gpuMemorySize": 24576}, "needs no card"),
    (f"{F}/customContainerConfig/image", "front:latest", "image: must be in ACR"),
    (f"{F}/instanceConcurrency", 1, "must be at least VOICEDROP_TOKENS"),
    (f"{F}/environmentVariables/VOICEDROP_API_JWT", "platform", "authType: must be jwt"),
    (f"{F}/triggers/0/triggerConfig/disableURLInternet", False, "must be http, behind a domain"),
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


def test_a_redis_without_a_password_is_no_secret() -> None:
    redis = edit(f"{P}/environmentVariables/VOICEDROP_REDIS", "redis://10.0.0.1:6379/0")
    assert faults_after(redis) == []


@pytest.mark.parametrize("machine", machines.MACHINES)
def test_no_secret_of_the_deployer_is_rendered(machine: str, tmp_path: Path) -> None:
    """Whatever s.yaml renders is printed by `s deploy` and written into its log."""
    secrets = {
        **key_settings_of(tmp_path),
        "VOICEDROP_REDIS": "redis://:redis-password-1@host:6379/0",
        "OSS_ACCESS_KEY_SECRET": "access-key-secret-1",
        "VOICEDROP_MACHINE": machine,
    }
    rendered = json.dumps([template.resolve_props(S_YAML, name, secrets) for name in RESOURCES])
    values = [value for name, value in secrets.items() if name != "VOICEDROP_MACHINE"]
    assert leaks(rendered, [*values, "redis-password-1"]) == []
    assert leaks(rendered + values[0], values) != []


def test_a_plain_secret_in_place_of_its_source_is_refused(tmp_path: Path) -> None:
    for name, value in key_settings_of(tmp_path).items():
        (fault,) = template.find_faults(S_YAML, {f"{name}_SOURCE": value})
        assert fault.endswith(f"{name}: must be control:KEY or kms:BLOB, not the secret")
        assert value not in fault


def test_only_the_worker_can_read_the_keys_in_the_control_bucket() -> None:
    key = "acs:oss:*:1234567890123456:voicedrop-control/keys/sign-001.pem"

    def who_may(action: str) -> set[str]:
        granted = {role: granted_permissions(role) for role in ram.PERMISSIONS}
        return {role for role, lines in granted.items() for one, pattern in lines
                if one == action and fnmatchcase(key, pattern)}  # fmt: skip

    assert who_may("oss:GetObject") == {"worker"}
    assert who_may("oss:PutObject") == who_may("oss:DeleteObject") == set()


def test_without_a_card_the_ratio_of_memory_to_cores_is_checked() -> None:
    def plain(cpu: int) -> Callable[[Any], None]:
        def change(resources: Any) -> None:
            resources["worker"]["props"] |= {"gpuConfig": {}, "cpu": cpu, "memorySize": 8192}

        return change

    assert faults_after(plain(4)) == []
    assert faults_after(plain(1)) == ["worker/cpu: must have 1 to 4 GB of memory per core"]


def test_the_edition_is_checked() -> None:
    assert list(template.find_faults(S_YAML | {"edition": "1.0.0"}, {})) == [
        "edition: must be 3.0.0"
    ]


def test_a_machine_that_does_not_exist_is_named() -> None:
    faults = list(template.find_faults(S_YAML, {"VOICEDROP_MACHINE": "tpu"}))
    assert any("VOICEDROP_MACHINE" in fault for fault in faults)


def test_the_environment_fills_the_template() -> None:
    buckets = {"VOICEDROP_INBOX_BUCKET": "mine-in", "VOICEDROP_OSS_REGION": "cn-shanghai"}
    props = resolve_function(**buckets)
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
    read = set(re.findall(r"\benv\('(VOICEDROP_\w+)'", source))
    assert read - settings == DEPLOYMENT


def test_every_variable_of_the_image_is_a_setting() -> None:
    source = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    named = set(re.findall(r"\b(VOICEDROP_\w+)=", source))
    assert named
    assert named <= {row.variable for row in SETTINGS.values()}


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
            "${env('VOICEDROP_KMS_KEY', '')}", "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k="
        )
    )
    assert check.main([str(path)]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{path}: contains something that looks like a secret"
    assert second.startswith(f"{path}: worker/timeout: 0 violates minimum: 1")
