"""The receiver of alarms, against a small server of the services that it talks to."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cloud import pack_alarms
from handlers.alarms import receiver as receiver_module
from handlers.alarms import services as client
from handlers.alarms.receiver import Misconfigured, Receiver, create_receiver
from handlers.alarms.services import Connections, Credentials, ServiceError
from tests.support import alarm_services
from tests.support.alarm_services import (
    CREDENTIALS,
    FUNCTION,
    MINUTE,
    REGION,
    ROBOT_SECRET,
    AlarmServices,
    Timeline,
    callback,
)
from tests.support.kms_server import SECRET

TOKEN = "0123456789abcdef0123456789abcdef"
ROLE = Credentials("STS.receiver", SECRET, "token-of-the-role")
DAY = {
    "defaultTarget": 0,
    "alwaysAllocateCPU": False,
    "alwaysAllocateGPU": False,
    "scheduledActions": [
        {
            "name": "morning",
            "startTime": "2026-12-01T00:00:00",
            "endTime": "2036-12-01T00:00:00",
            "target": 1,
            "scheduleExpression": "cron(0 30 8 * * MON-FRI)",
            "timeZone": "Asia/Shanghai",
        }
    ],
    "targetTrackingPolicies": [],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlarmServices]:
    with alarm_services.running(tmp_path_factory.mktemp("alarms")) as services:
        yield services


@pytest.fixture
def services(server: AlarmServices, monkeypatch: pytest.MonkeyPatch) -> AlarmServices:
    monkeypatch.setenv("SSL_CERT_FILE", server.ca_file)
    server.reset()
    return server


def variables(services: AlarmServices, **more: str) -> dict[str, str]:
    endpoints = {f"RECEIVER_{name}_ENDPOINT": services.endpoint for name in ("FC", "CMS", "KMS")}
    return {
        **endpoints,
        "RECEIVER_FUNCTION": FUNCTION,
        "RECEIVER_TOKEN": TOKEN,
        "RECEIVER_DINGTALK_URL": services.robot,
        "RECEIVER_DINGTALK_SECRET": ROBOT_SECRET,
        "RECEIVER_HOLD_MINUTES": "10",
        **more,
    }


@pytest.fixture
def connections(services: AlarmServices) -> Iterator[Connections]:
    with closing(Connections()) as connections:
        yield connections


@pytest.fixture
def receiver(services: AlarmServices, connections: Connections) -> Receiver:
    return create_receiver(variables(services), ROLE, REGION, connections)


def call_back(receiver: Receiver, services: AlarmServices, name: str, state: str) -> dict[str, Any]:
    answer = receiver.answer(json.loads(callback(name, state, TOKEN)), services.clock)
    assert answer["statusCode"] == 200, answer
    return dict(json.loads(answer["body"]))


def play(
    receiver: Receiver,
    services: AlarmServices,
    timeline: Timeline,
    metrics: Mapping[str, float],
    minutes: int,
) -> None:
    """Let minutes pass: CloudMonitor evaluates, calls back on changes, and the timer fires."""
    for _ in range(minutes):
        services.clock += MINUTE
        firing = timeline.pass_minute(metrics)
        changed, services.firing = services.firing ^ firing, firing
        for name in sorted(changed):
            call_back(receiver, services, name, "ALERT" if name in firing else "OK")
        assert receiver.check(services.clock)["statusCode"] == 200


def titles(services: AlarmServices) -> list[str]:
    return [message["title"] for message in services.messages]


QUIET = {
    "FunctionTotalInvocations": 100.0,
    "FunctionFunctionErrors": 1.0,
    "FunctionAsyncMessageLatencyAvg": 900.0,
    "FunctionLatencyAvg": 300.0,
    "FunctionGPUSMPercent": 90.0,
    "FunctionDestinationSucceeded": 0.0,
    "FunctionDestinationErrors": 0.0,
    "FunctionAsyncEventExpiredDropped": 0.0,
    "FunctionAsyncMessagesBacklogV2": 100.0,
    "FunctionConcurrencyThrottles": 0.0,
    "FunctionClientErrors": 0.0,
}
"""Nothing fires, although some values stand at their limits."""
LIMITS = {"queue_ms": 60000, "latency_ms": 800, "backlog": 100}


@pytest.mark.parametrize(
    ("name", "change", "minutes"),
    [
        ("errors", {"FunctionFunctionErrors": 2.0}, 3),
        ("queue", {"FunctionAsyncMessageLatencyAvg": 60001.0}, 3),
        ("front", {"FunctionLatencyAvg": 801.0}, 3),
        ("gpu", {"FunctionGPUSMPercent": 91.0}, 5),
        ("dead-letters", {"FunctionDestinationSucceeded": 1.0}, 1),
        ("lost-letters", {"FunctionDestinationErrors": 1.0}, 1),
        ("expired", {"FunctionAsyncEventExpiredDropped": 1.0}, 1),
        ("backlog", {"FunctionAsyncMessagesBacklogV2": 101.0}, 5),
        ("throttled", {"FunctionConcurrencyThrottles": 1.0}, 5),
        ("not-started", {"FunctionClientErrors": 1.0}, 3),
    ],
)
def test_each_alarm_fires_after_its_minutes_is_told_and_clears(
    receiver: Receiver,
    services: AlarmServices,
    name: str,
    change: dict[str, float],
    minutes: int,
) -> None:
    timeline = Timeline(LIMITS)
    rule = f"voicedrop-{name}"
    play(receiver, services, timeline, QUIET, 2)
    play(receiver, services, timeline, QUIET | change, minutes - 1)
    assert services.firing == set()
    assert titles(services) == []
    play(receiver, services, timeline, QUIET | change, 1)
    assert services.firing == {rule}
    assert titles(services)[0] == f"{rule}: ALERT"
    play(receiver, services, timeline, QUIET, 1)
    assert services.firing == set()
    assert f"{rule}: OK" in titles(services)


def test_every_alarm_is_on_the_timeline() -> None:
    names = {mark.args[1][i][0] for mark in _marks() for i in range(len(mark.args[1]))}
    assert {f"voicedrop-{name}" for name in names} == set(Timeline(LIMITS).rules)


def _marks() -> list[Any]:
    marks = test_each_alarm_fires_after_its_minutes_is_told_and_clears.pytestmark  # type: ignore[attr-defined]
    return [mark for mark in marks if mark.name == "parametrize"]


def test_a_busy_gpu_moves_the_alias_to_the_cpu_and_back(
    receiver: Receiver, services: AlarmServices
) -> None:
    services.aliases["prod"]["additionalVersionWeight"] = {"5": 0.05}
    timeline = Timeline(LIMITS)
    play(receiver, services, timeline, QUIET | {"FunctionGPUSMPercent": 95.0}, 5)
    assert services.aliases["prod"]["versionId"] == "4"
    assert services.aliases["prod"]["additionalVersionWeight"] == {}
    assert titles(services)[-1] == ("voicedrop alarm: prod now runs on the CPU: version 3 to 4")
    without_card = {k: v for k, v in QUIET.items() if k != "FunctionGPUSMPercent"}
    play(receiver, services, timeline, without_card, 9)
    assert services.aliases["prod"]["versionId"] == "4"
    play(receiver, services, timeline, without_card, 1)
    assert services.aliases["prod"]["versionId"] == "3"
    assert services.aliases["prod"]["description"] == ""
    assert titles(services)[-1] == "voicedrop alarm: prod is back: version 4 to 3"


def test_an_alarm_that_comes_and_goes_moves_the_alias_no_sooner_than_the_hold_time_allows(
    receiver: Receiver, services: AlarmServices
) -> None:
    seen = [services.aliases["prod"]["versionId"]]
    for minute in range(40):
        services.clock += MINUTE
        services.firing = {"voicedrop-gpu"} if minute % 2 else set()
        receiver.check(services.clock)
        if services.aliases["prod"]["versionId"] != seen[-1]:
            seen.append(services.aliases["prod"]["versionId"])
    assert seen == ["3", "4", "3", "4", "3", "4", "3", "4"]


def test_an_alias_that_somebody_moved_is_left_alone(
    receiver: Receiver, services: AlarmServices
) -> None:
    services.aliases["prod"] |= {"versionId": "4", "description": "cards are short"}
    services.firing = {"voicedrop-gpu"}
    receiver.check(services.clock)
    services.firing = set()
    receiver.check(services.clock + timedelta(hours=2))
    assert services.aliases["prod"]["description"] == "cards are short"
    services.firing = {"voicedrop-gpu"}
    services.aliases["prod"] |= {"versionId": "3"}
    receiver.check(services.clock)
    services.aliases["prod"] |= {"versionId": "7"}  # a release during the alarm
    services.firing = set()
    receiver.check(services.clock + timedelta(hours=2))
    assert services.aliases["prod"]["versionId"] == "7"


@pytest.mark.parametrize(
    ("metric", "before"),
    [
        ("FunctionAsyncMessageLatencyAvg", {}),
        ("FunctionLatencyAvg", DAY),
        ("FunctionAsyncMessageLatencyAvg", DAY | {"defaultTarget": 3}),
    ],
)
def test_high_latency_raises_the_minimum_of_instances_until_it_is_over(
    receiver: Receiver, services: AlarmServices, metric: str, before: dict[str, Any]
) -> None:
    services.minimum = json.loads(json.dumps(before))
    usual = services.minimum_now()
    timeline = Timeline(LIMITS)
    play(receiver, services, timeline, QUIET | {metric: 1e6}, 3)
    play(receiver, services, timeline, QUIET | {metric: 1e6}, 12)
    assert services.minimum_now() == max(2, usual)
    minimums = []
    for _ in range(12):
        play(receiver, services, timeline, QUIET, 1)
        minimums.append(services.minimum_now())
    assert minimums[0] == max(2, usual)
    assert minimums[-1] == usual
    assert services.minimum["scheduledActions"] == before.get("scheduledActions", [])
    assert services.minimum["defaultTarget"] == usual
    raised = [title for title in titles(services) if "instances ready" in title]
    assert len(raised) == 2


def test_while_latency_is_high_the_minimum_never_falls(
    receiver: Receiver, services: AlarmServices
) -> None:
    services.firing = {"voicedrop-queue"}
    receiver.check(services.clock)
    minimums = set()
    for _ in range(30):
        services.clock += MINUTE
        minimums.add(services.minimum_now())
        receiver.check(services.clock)
        assert len(services.minimum["scheduledActions"]) <= 3
    assert minimums == {2}


def test_the_role_needs_all_that_its_policy_grants(
    services: AlarmServices, connections: Connections
) -> None:
    sealed = variables(services, RECEIVER_TOKEN=_seal(services, "RECEIVER_TOKEN", TOKEN))
    services.firing = {"voicedrop-gpu", "voicedrop-queue"}
    assert (
        create_receiver(sealed, ROLE, REGION, connections).check(services.clock)["statusCode"]
        == 200
    )
    arn = f"acs:fc:{REGION}:{alarm_services.ACCOUNT}:functions/{FUNCTION}"
    granted = {
        *alarm_services.list_grants("alarms"),
        *alarm_services.list_grants("alarms-kms"),
    }
    # The documentation names both resources for the minimum of instances.
    either = {(f"fc:{a}ProvisionConfig", arn) for a in ("Get", "Put")}
    assert set(services.calls) == granted - either


def _seal(services: AlarmServices, variable: str, text: str) -> str:
    """Encrypt by KMS with the context that the receiver gives, as the command `aliyun` would."""
    context = json.dumps({"voicedrop": f"voicedrop/setting/1 {variable}"})
    params = {
        "KeyId": "key-1",
        "Plaintext": base64.b64encode(text.encode()).decode(),
        "EncryptionContext": context,
    }
    _, answer = services.kms._encrypt(params)
    return f"kms:{answer['CiphertextBlob']}"


def test_secrets_are_decrypted_for_their_own_variable_only(
    services: AlarmServices, connections: Connections
) -> None:
    token = _seal(services, "RECEIVER_TOKEN", TOKEN)
    receiver = create_receiver(variables(services, RECEIVER_TOKEN=token), ROLE, REGION, connections)
    assert call_back(receiver, services, "voicedrop-gpu", "OK") == {"done": [], "problems": []}
    wrong = variables(services, RECEIVER_TOKEN=_seal(services, "RECEIVER_DINGTALK_URL", TOKEN))
    with pytest.raises(ServiceError, match="Decrypt: 400 InvalidParameter"):
        create_receiver(wrong, ROLE, REGION, connections)


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "0", "é"])
def test_a_callback_without_the_token_does_nothing(
    receiver: Receiver, services: AlarmServices, token: str
) -> None:
    services.firing = {"voicedrop-gpu"}
    event = json.loads(callback("voicedrop-gpu", "ALERT", token))
    assert receiver.answer(event, services.clock)["statusCode"] == 403
    assert (services.calls, services.messages) == ([], [])


def test_a_receiver_without_a_token_takes_no_callback(
    services: AlarmServices, connections: Connections
) -> None:
    receiver = create_receiver(variables(services, RECEIVER_TOKEN=""), ROLE, REGION, connections)
    event = json.loads(callback("voicedrop-gpu", "ALERT", ""))
    assert receiver.answer(event, services.clock)["statusCode"] == 403
    assert receiver.check(services.clock)["statusCode"] == 200


def test_a_forged_callback_moves_nothing(receiver: Receiver, services: AlarmServices) -> None:
    """Whoever learned the token can only make people read a message."""
    call_back(receiver, services, "voicedrop-gpu", "ALERT")
    assert services.aliases["prod"]["versionId"] == "3"
    assert services.minimum == {}


@pytest.mark.parametrize("body", ["", "a=b", "alertName=other-gpu&alertState=ALERT", "%00%ff"])
def test_what_is_no_callback_is_refused(
    receiver: Receiver, services: AlarmServices, body: str
) -> None:
    request = {"queryParameters": {"token": TOKEN}, "body": body, "isBase64Encoded": False}
    assert receiver.answer(request, services.clock)["statusCode"] == 400
    assert services.messages == []


@pytest.mark.parametrize(
    "action", ["DescribeMetricRuleList", "UpdateAlias", "GetAlias", "PutProvisionConfig"]
)
def test_what_fails_is_repeated_and_keeps_nothing_else_from_being_done(
    receiver: Receiver, services: AlarmServices, action: str
) -> None:
    services.firing = {"voicedrop-gpu", "voicedrop-queue"}
    services.failing = {action}
    answer = receiver.answer(json.loads(callback("voicedrop-gpu", "ALERT", TOKEN)), services.clock)
    assert answer["statusCode"] == 500
    assert json.loads(answer["body"])["problems"] == [f"{action}: 500 InternalError."]
    assert SECRET not in str(answer)
    assert titles(services)[0] == "voicedrop-gpu: ALERT"
    is_about_alias = action.endswith("Alias")
    assert bool(services.minimum) == is_about_alias
    services.failing = set()
    assert receiver.check(services.clock)["statusCode"] == 200
    assert services.aliases["prod"]["versionId"] == "4"
    assert services.minimum["scheduledActions"]


def test_dingtalk_refuses_a_wrong_signature_and_that_is_reported(
    services: AlarmServices, connections: Connections
) -> None:
    wrong = variables(services, RECEIVER_DINGTALK_SECRET="SEC-another")
    receiver = create_receiver(wrong, ROLE, REGION, connections)
    services.firing = {"voicedrop-gpu"}
    event = json.loads(callback("voicedrop-gpu", "ALERT", TOKEN))
    answer = receiver.answer(event, services.clock)
    assert "DingTalk refused a message: 310000." in json.loads(answer["body"])["problems"]
    assert services.aliases["prod"]["versionId"] == "4"


def test_a_server_with_another_certificate_is_refused(
    services: AlarmServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ServiceError, match=r"DingTalk: no usable answer \(SSLCert"):
        client.post_to_dingtalk(Connections(), services.robot, ROBOT_SECRET, "t", "text")
    assert services.messages == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RECEIVER_TOKEN": "short"}, "at least 32 characters"),
        ({"RECEIVER_DINGTALK_URL": "http://oapi.dingtalk.com/x"}, "must begin with https://"),
        ({"RECEIVER_FUNCTION": ""}, "RECEIVER_FUNCTION"),
    ],
)
def test_bad_variables_are_named(
    services: AlarmServices, connections: Connections, change: dict[str, str], message: str
) -> None:
    with pytest.raises(Misconfigured, match=message):
        create_receiver(variables(services, **change), ROLE, REGION, connections)


@pytest.mark.slow
def test_the_packed_function_needs_no_package(services: AlarmServices, tmp_path: Path) -> None:
    """It runs as the platform runs it, with the standard library alone."""
    pack_alarms.pack(tmp_path / "code")
    program = (
        "import sys, types; sys.path.insert(0, 'code'); from index import handler\n"
        f"context = types.SimpleNamespace(region={REGION!r})\n"
        "for event in sys.stdin.buffer.read().split(b'|'):\n"
        "    print(handler(event, context)['statusCode'])\n"
    )
    services.firing = {"voicedrop-gpu"}
    timer = json.dumps({"triggerTime": "2026-12-01T00:00:00Z", "triggerName": "check"}).encode()
    events = [timer, callback("voicedrop-gpu", "ALERT", TOKEN), callback("x", "OK", "no")]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        input=b"|".join(events),
        cwd=tmp_path,
        env={**variables(services), **CREDENTIALS, "SSL_CERT_FILE": services.ca_file},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == b""
    lines = done.stdout.decode().splitlines()
    assert [line for line in lines if line.isdigit()] == ["200", "200", "403"]
    assert services.aliases["prod"]["versionId"] == "4"
    assert titles(services)[-1] == "voicedrop-gpu: ALERT"
    assert TOKEN not in done.stdout.decode()
    described = services.aliases["prod"]["description"]
    assert abs(datetime.now(UTC) - _time_in(described)) < timedelta(minutes=2)
    assert not (tmp_path / "code" / "core" / "settings.py").exists()


def _time_in(description: str) -> datetime:
    text = description.split(" at ")[1].split(": ")[0]
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_the_names_of_rules_are_those_of_the_alarms() -> None:
    rules = set(Timeline(LIMITS).rules)
    assert rules >= receiver_module.DEGRADING | receiver_module.SCALING
    assert all(name.startswith(receiver_module.PREFIX) for name in rules)
