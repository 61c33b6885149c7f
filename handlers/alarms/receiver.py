"""The handler of the function `voicedrop-alarms`: callbacks of CloudMonitor, and a timer.

A callback is not signed. It must name the token in the address, and what it says is only told to
people; what is done depends on the state of the rules, which CloudMonitor is asked for. The timer
does the same every minute, so an action ends although no callback says so.

Variables: RECEIVER_FUNCTION; RECEIVER_TOKEN, RECEIVER_DINGTALK_URL and RECEIVER_DINGTALK_SECRET,
each encrypted by KMS (`kms:BLOB`) or empty; RECEIVER_INSTANCES, RECEIVER_HOLD_MINUTES;
RECEIVER_FC_ENDPOINT, RECEIVER_CMS_ENDPOINT and RECEIVER_KMS_ENDPOINT replace the public hosts.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from handlers.alarms import actions, services
from handlers.alarms.actions import Limits
from handlers.alarms.services import (
    Connections,
    Credentials,
    OpenApi,
    ServiceError,
    WatchedFunction,
)

PREFIX = "voicedrop-"
"""Beginning of the names of the rules (cloud/monitoring/alarms.tf.json)."""
DEGRADING = {"voicedrop-gpu"}
SCALING = {"voicedrop-queue", "voicedrop-front"}
MIN_TOKEN = 32
"""Characters of the shortest token that is accepted."""


class Misconfigured(Exception):
    """A variable is missing or too weak. The message names it."""


@dataclass(frozen=True, slots=True)
class Receiver:
    function: WatchedFunction
    monitor: OpenApi
    limits: Limits
    token: str
    """Empty: callbacks are refused, and the timer alone acts."""
    tell: Callable[[str, str], None]
    """Post a title and a text to people. Raises ServiceError."""

    def answer(self, request: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """Answer a request of the HTTP trigger."""
        given = str((request.get("queryParameters") or {}).get("token", ""))
        if not self.token or not hmac.compare_digest(given.encode(), self.token.encode()):
            return _response(403, {"error": "The token is missing or wrong."})
        fields = _read_callback(request)
        name, state = fields.get("alertName", ""), fields.get("alertState", "")
        if not name.startswith(PREFIX) or not state:
            return _response(400, {"error": "This is no callback of an alarm of voicedrop."})
        detail = f"{fields.get('metricName', '')} {fields.get('curValue', '')}".strip()
        return self._act(now, [(f"{name}: {state}", detail)])

    def check(self, now: datetime) -> dict[str, Any]:
        """Do what the timer does."""
        return self._act(now, [])

    def _act(self, now: datetime, messages: list[tuple[str, str]]) -> dict[str, Any]:
        """Act, then tell these messages and what was done. With 500 CloudMonitor calls again."""
        done: list[str] = []
        problems: list[str] = []
        try:
            firing = services.list_firing(self.monitor, PREFIX)
        except ServiceError as exc:
            problems.append(str(exc))
        else:
            for act in (self._switch, self._scale):
                try:
                    done += filter(None, [act(firing, now)])
                except ServiceError as exc:
                    problems.append(str(exc))
        for title, text in (*messages, *((f"voicedrop alarm: {line}", line) for line in done)):
            problems += self._tell(title, text)
        return _response(500 if problems else 200, {"done": done, "problems": problems})

    def _switch(self, firing: set[str], now: datetime) -> str:
        is_firing = bool(firing & DEGRADING)
        hold = self.limits.hold
        return actions.switch_engine(self.function, is_firing=is_firing, now=now, hold=hold)

    def _scale(self, firing: set[str], now: datetime) -> str:
        is_firing = bool(firing & SCALING)
        return actions.raise_minimum(
            self.function, is_firing=is_firing, now=now, limits=self.limits
        )

    def _tell(self, title: str, text: str) -> list[str]:
        """Post a message; return the problem if that fails, which keeps nothing from being done."""
        try:
            self.tell(title, f"**{title}**\n\n{text}")
        except ServiceError as exc:
            return [str(exc)]
        return []


def create_receiver(
    environ: Mapping[str, str],
    credentials: Credentials,
    region: str,
    connections: Connections | None = None,
) -> Receiver:
    """Raises Misconfigured, and ServiceError if KMS decrypts no secret."""
    connections = connections or Connections()

    def open_api(name: str, host: str, version: str) -> OpenApi:
        host = environ.get(f"RECEIVER_{name}_ENDPOINT") or f"{host}.{region}.aliyuncs.com"
        return OpenApi(host, version, credentials, connections)

    kms = open_api("KMS", "kms", "2016-01-20")
    secrets = {
        name: services.reveal(name, environ.get(name, ""), kms)
        for name in ("RECEIVER_TOKEN", "RECEIVER_DINGTALK_URL", "RECEIVER_DINGTALK_SECRET")
    }
    if 0 < len(secrets["RECEIVER_TOKEN"]) < MIN_TOKEN:
        raise Misconfigured(f"RECEIVER_TOKEN must have at least {MIN_TOKEN} characters.")
    url, function = secrets["RECEIVER_DINGTALK_URL"], environ.get("RECEIVER_FUNCTION", "")
    if not function:
        raise Misconfigured("RECEIVER_FUNCTION must be the name of the function.")
    if url and not url.startswith("https://"):
        raise Misconfigured("RECEIVER_DINGTALK_URL must begin with https://.")

    def tell(title: str, text: str) -> None:
        if url:
            secret = secrets["RECEIVER_DINGTALK_SECRET"]
            services.post_to_dingtalk(connections, url, secret, title, text)

    return Receiver(
        WatchedFunction(open_api("FC", "fcv3", "2023-03-30"), function),
        open_api("CMS", "metrics", "2019-01-01"),
        Limits(
            instances=int(environ.get("RECEIVER_INSTANCES") or 2),
            hold=timedelta(minutes=int(environ.get("RECEIVER_HOLD_MINUTES") or 30)),
        ),
        secrets["RECEIVER_TOKEN"],
        tell,
    )


def handler(event: bytes, context: Any) -> str | dict[str, Any]:
    """Called by the platform with the event of a trigger. Source: Function Compute, "Handler"."""
    request = json.loads(event)
    with closing(Connections()) as connections:
        receiver = create_receiver(os.environ, _credentials(context), context.region, connections)
        now = datetime.now(UTC)
        answer = receiver.check(now) if "triggerName" in request else receiver.answer(request, now)
    line = {"message": "alarm", "status": answer["statusCode"], **json.loads(answer["body"])}
    print(json.dumps(line))  # noqa: T201  (the log)
    return answer


def _credentials(context: Any) -> Credentials:
    """Return those of the function's role, which Python 3.12 of the platform has in variables."""
    given = getattr(context, "credentials", None)
    if given is not None:
        return Credentials(given.access_key_id, given.access_key_secret, given.security_token)
    names = ("ACCESS_KEY_ID", "ACCESS_KEY_SECRET", "SECURITY_TOKEN")
    return Credentials(*(os.environ[f"ALIBABA_CLOUD_{name}"] for name in names))


def _read_callback(request: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of the form in a request, whose body is base64 if the platform says so."""
    body = str(request.get("body") or "")
    if request.get("isBase64Encoded"):
        body = base64.b64decode(body).decode(errors="replace")
    return {name: values[0] for name, values in parse_qs(body).items()}


def _response(status: int, document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json"},
        "isBase64Encoded": False,
        "body": json.dumps(document),
    }
