"""A small server of what the receiver of alarms talks to, and CloudMonitor's rules on a timeline.

It speaks parts of Function Compute 2023-03-30 (aliases, minimum of instances), of CloudMonitor
2019-01-01 (DescribeMetricRuleList), of KMS 2016-01-20 (Decrypt) and of DingTalk's robots, over TLS.
It verifies signatures by code of its own, and grants what `cloud/policies/alarms*.json` grant.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cryptography.hazmat.primitives import hashes, hmac

from tests.support.kms_server import SECRET, Kms, is_authentic, serving_tls, write_certificate

ROOT = Path(__file__).parents[2]
FUNCTION, REGION, ACCOUNT = "voicedrop-worker", "cn-hangzhou", "1234567890123456"
NAMES = {"FUNCTION": FUNCTION, "REGION": REGION, "ACCOUNT": ACCOUNT, "KMS_KEY": "key-1"}
ROBOT_TOKEN, ROBOT_SECRET = "robot-token-of-test", "SEC-robot-secret-of-test"
_PATH = re.compile(r"/2023-03-30/functions/([^/]+)/(?:aliases/([^/]+)|(provision-config))")
Answer = tuple[int, Mapping[str, Any]]


class AlarmServices:
    """Its state is what the services would have; `failing` are actions that answer 500."""

    def __init__(self, endpoint: str, ca_file: str) -> None:
        self.endpoint, self.ca_file = endpoint, ca_file
        self.kms = Kms(endpoint, ca_file)
        self.kms.keys = {"key-1": bytes(32)}
        self.clock = datetime(2026, 12, 1, tzinfo=UTC)
        self.reset()

    def reset(self) -> None:
        self.aliases: dict[str, dict[str, Any]] = {
            "prod": {"aliasName": "prod", "versionId": "3", "description": "release"},
            "cpu": {"aliasName": "cpu", "versionId": "4", "description": ""},
        }
        self.minimum: dict[str, Any] = {}
        self.firing: set[str] = set()
        self.failing: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        """Action and resource of each signed request."""
        self.messages: list[dict[str, Any]] = []
        """What the robot has accepted."""
        self._granted = set(list_grants("alarms")) | set(list_grants("alarms-kms"))

    @property
    def robot(self) -> str:
        return f"https://{self.endpoint}/robot/send?access_token={ROBOT_TOKEN}"

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        if parts.path == "/robot/send":
            return 200, self._post(query, json.loads(body))
        if not is_authentic(headers, body, method, parts.path, parts.query):
            return 403, {"Code": "SignatureDoesNotMatch", "Message": "signature"}
        action = headers["x-acs-action"]
        if action in self.failing:
            return 500, {"Code": "InternalError", "Message": "injected"}
        if action == "DescribeMetricRuleList":
            self._authorise("cms:DescribeMetricRuleList", "*")
            return 200, self._list_rules(query)
        if action == "Decrypt":
            self._authorise("kms:Decrypt", f"acs:kms:{REGION}:{ACCOUNT}:key/key-1")
            return self.kms.answer(headers, dict(parse_qsl(body.decode())), body)
        return self._call_function(method, parts.path, query, action, body)

    def _authorise(self, action: str, resource: str) -> None:
        self.calls.append((action, resource))
        if (action, resource) not in self._granted:
            raise PermissionError(f"{action} on {resource}")

    def _list_rules(self, query: Mapping[str, str]) -> dict[str, Any]:
        state = query.get("AlertState", "ALARM")
        names = sorted(self.firing) if state == "ALARM" else []
        rules = [{"RuleName": name, "AlertState": "ALARM"} for name in names]
        found = [rule for rule in rules if query.get("RuleName", "") in rule["RuleName"]]
        return {"Success": True, "Total": str(len(found)), "Alarms": {"Alarm": found}}

    def _call_function(
        self, method: str, path: str, query: Mapping[str, str], action: str, body: bytes
    ) -> Answer:
        found = _PATH.fullmatch(path)
        assert found, path
        name, alias = unquote(found[1]), found[2]
        expected = {"GET": "Get", "PUT": "Update" if alias else "Put"}[method]
        assert action == expected + ("Alias" if alias else "ProvisionConfig")
        if name != FUNCTION:
            return 404, {"Code": "FunctionNotFound", "Message": name}
        arn = f"acs:fc:{REGION}:{ACCOUNT}:functions/{name}"
        if alias:
            self._authorise(f"fc:{action}", f"{arn}/aliases/{alias}")
            return self._alias(method, alias, body)
        assert query["qualifier"] in self.aliases  # or LATEST; never a version
        self._authorise(f"fc:{action}", f"{arn}/{query['qualifier']}")
        return self._provision(method, body)

    def _alias(self, method: str, name: str, body: bytes) -> Answer:
        if name not in self.aliases:
            return 404, {"Code": "AliasNotFound", "Message": name}
        if method == "PUT":
            given = json.loads(body)
            assert set(given) <= {"versionId", "description", "additionalVersionWeight"}
            self.aliases[name] |= given
        return 200, self.aliases[name]

    def _provision(self, method: str, body: bytes) -> Answer:
        if method == "PUT":
            given = json.loads(body)
            required = {"defaultTarget", "alwaysAllocateCPU", "alwaysAllocateGPU"}
            assert (
                required
                <= set(given)
                <= required
                | {
                    *("scheduledActions", "targetTrackingPolicies"),
                }
            )
            for policy in given.get("scheduledActions", []):
                assert set(policy) <= {
                    *("name", "startTime", "endTime", "target", "scheduleExpression", "timeZone"),
                }
            self.minimum = given
        if not self.minimum:
            return 404, {"Code": "ProvisionConfigNotFound", "Message": "none"}
        current = {"target": self.minimum_now(), "current": 0, "functionArn": "acs:fc:..."}
        return 200, self.minimum | current

    def minimum_now(self) -> int:
        """Return the minimum of instances now, by the rules that the documentation states: of the
        policies in force the largest counts, and the base value only if none is in force."""
        in_force = [
            policy["target"]
            for policy in self.minimum.get("scheduledActions", [])
            if policy["scheduleExpression"].startswith("at(")
            and _moment(policy["scheduleExpression"][3:-1]) <= self.clock
            and _moment(policy["startTime"]) <= self.clock < _moment(policy["endTime"])
        ]
        return int(max(in_force, default=self.minimum.get("defaultTarget", 0)))

    def _post(self, query: Mapping[str, str], message: dict[str, Any]) -> dict[str, Any]:
        """Verify a signature as DingTalk does: base64 of HMAC-SHA256 of the time and the secret,
        not older than an hour."""
        if query.get("access_token") != ROBOT_TOKEN:
            return {"errcode": 300001, "errmsg": "token is not exist"}
        mac = hmac.HMAC(ROBOT_SECRET.encode(), hashes.SHA256())
        mac.update(f"{query.get('timestamp', '')}\n{ROBOT_SECRET}".encode())
        is_signed = base64.b64encode(mac.finalize()).decode() == query.get("sign")
        age = datetime.now(UTC).timestamp() - int(query.get("timestamp", "0")) / 1000
        if not is_signed or abs(age) > 3600:
            return {"errcode": 310000, "errmsg": "sign not match"}
        if message["msgtype"] != "markdown" or set(message["markdown"]) != {"title", "text"}:
            return {"errcode": 400102, "errmsg": "message"}
        self.messages.append(message["markdown"])
        return {"errcode": 0, "errmsg": "ok"}


class Timeline:
    """Evaluates the alarms of cloud/monitoring/alarms.tf.json minute by minute."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        document = (ROOT / "cloud" / "monitoring" / "alarms.tf.json").read_text(encoding="utf-8")
        self.rules = {
            rule["name"]: rule
            for rule in json.loads(document)["resource"]["alicloud_cms_alarm"].values()
        }
        self._variables = variables
        self._minutes = dict.fromkeys(self.rules, 0)
        """Rule -> how many minutes its condition has held without a break."""

    def pass_minute(self, metrics: Mapping[str, float]) -> set[str]:
        """Return the rules that fire after a minute with these values; others have none."""
        for name, rule in self.rules.items():
            holds = self._holds(rule, metrics)
            self._minutes[name] = self._minutes[name] + 1 if holds else 0
        return {
            n for n, rule in self.rules.items() if self._minutes[n] >= _condition(rule)["times"]
        }

    def _holds(self, rule: Mapping[str, Any], metrics: Mapping[str, float]) -> bool:
        condition = _condition(rule)
        if rule["metric"] not in metrics:
            return False
        if "expression_raw" not in condition:
            assert condition["comparison_operator"] == ">"
            threshold = condition["threshold"]
            if isinstance(threshold, str):
                threshold = self._variables[threshold.removeprefix("${var.").removesuffix("}")]
            return bool(metrics[rule["metric"]] > threshold)
        source = condition["expression_raw"].replace("&&", "and")
        source = re.sub(r"@(\w+)\[60\]\.\$Average", lambda m: repr(metrics[m[1]]), source)
        return bool(eval(source, {"__builtins__": {}}))  # noqa: S307  (our own file)


def _condition(rule: Mapping[str, Any]) -> dict[str, Any]:
    (condition,) = rule.get("composite_expression") or rule["escalations_critical"]
    return dict(condition)


def callback(name: str, state: str, token: str, value: str = "95") -> bytes:
    """Return the event by which the HTTP trigger hands over a callback of CloudMonitor."""
    form = f"userId={ACCOUNT}&alertName={name}&alertState={state}&curValue={value}&metricName=x"
    return json.dumps(
        {
            "version": "v1",
            "rawPath": "/",
            "headers": {"Content-Type": "application/x-www-form-urlencoded"},
            "queryParameters": {"token": token} if token else {},
            "body": base64.b64encode(form.encode()).decode(),
            "isBase64Encoded": True,
            "requestContext": {"http": {"method": "POST", "path": "/"}, "requestId": "1-a"},
        }
    ).encode()


def list_grants(policy: str) -> Iterator[tuple[str, str]]:
    text = (ROOT / "cloud" / "policies" / f"{policy}.json").read_text(encoding="utf-8")
    for statement in json.loads(Template(text).substitute(NAMES))["Statement"]:
        yield from ((a, r) for a in statement["Action"] for r in statement["Resource"])


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.rstrip("Z")).replace(tzinfo=UTC)


class _Handler(BaseHTTPRequestHandler):
    services: AlarmServices
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            status, answer = self.services.answer(self.command, self.path, headers, body)
        except PermissionError as exc:
            status, answer = 403, {"Code": "AccessDenied", "Message": str(exc)}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = _serve  # noqa: N815  (names of http.server)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running(folder: Path) -> Iterator[AlarmServices]:
    pem = write_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    handler: type[_Handler] = type("Handler", (_Handler,), {})
    with serving_tls(handler, context) as port:
        handler.services = AlarmServices(f"127.0.0.1:{port}", str(pem))
        yield handler.services


CREDENTIALS = {
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "STS.receiver",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET,
    "ALIBABA_CLOUD_SECURITY_TOKEN": "token-of-the-role",
}
MINUTE = timedelta(minutes=1)
