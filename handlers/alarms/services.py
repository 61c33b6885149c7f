"""The calls to Function Compute, CloudMonitor, KMS and DingTalk that the receiver makes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from core.crypto.openapi import encode_form, request_headers, sign_request

TIMEOUT_SECONDS = 3.0
KMS_PREFIX = "kms:"


class ServiceError(Exception):
    """A service answered with an error, or not at all. The message contains no secret."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Connections:
    """Connections over TLS that are kept while one request is served, one to a host."""

    def __init__(self) -> None:
        self._context = ssl.create_default_context()
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._open: dict[str, http.client.HTTPSConnection] = {}

    def exchange(
        self, what: str, host: str, request: str, body: bytes, headers: Mapping[str, str]
    ) -> Any:
        """Send a request (`what` names it in errors; `request`: method and target) and return the
        parsed answer. Raises ServiceError."""
        connection = self._open.get(host) or http.client.HTTPSConnection(
            host, timeout=TIMEOUT_SECONDS, context=self._context
        )
        self._open[host] = connection
        method, _, target = request.partition(" ")
        try:
            connection.request(method, target, body, dict(headers))
            answer = connection.getresponse()
            parsed = json.loads(answer.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as exc:
            connection.close()
            raise ServiceError(f"{what}: no usable answer ({type(exc).__name__}).") from exc
        if answer.status >= http.client.BAD_REQUEST:
            code = parsed.get("Code") or parsed.get("code") if isinstance(parsed, dict) else ""
            raise ServiceError(f"{what}: {answer.status} {code}.", answer.status)
        return parsed

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()


@dataclass(frozen=True, slots=True)
class Credentials:
    key_id: str
    secret: str
    token: str


@dataclass(frozen=True, slots=True)
class OpenApi:
    """One service of Alibaba Cloud. All methods raise ServiceError."""

    host: str
    version: str
    credentials: Credentials
    connections: Connections

    def call(
        self,
        action: str,
        request: str = "POST /",
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        document: object = None,
    ) -> Any:
        """Call an action and return the parsed answer. `request`: method and path."""
        body = encode_form(form or {}).encode()
        headers = request_headers(self.host, action, self.version, self.credentials.token)
        if document is not None:
            body = json.dumps(document).encode()
            headers["content-type"] = "application/json"
        coded = encode_form(query or {})
        headers = sign_request(
            headers,
            body,
            self.credentials.key_id,
            self.credentials.secret,
            request=request,
            query=coded,
        )
        target = f"{request}?{coded}" if coded else request
        return self.connections.exchange(action, self.host, target, body, headers)


@dataclass(frozen=True, slots=True)
class WatchedFunction:
    """A function of Function Compute 3.0, and the alias that its triggers call.

    Source: Function Compute, API 2023-03-30.
    """

    api: OpenApi
    name: str

    def version_of(self, alias: str) -> str:
        return str(self.alias(alias)["versionId"])

    def alias(self, alias: str) -> dict[str, Any]:
        return dict(self.api.call("GetAlias", f"GET {self._path}/aliases/{quote(alias)}"))

    def move_alias(self, alias: str, version: str, description: str) -> None:
        """Point an alias to a version, which then gets all of its traffic."""
        document = {"versionId": version, "description": description, "additionalVersionWeight": {}}
        request = f"PUT {self._path}/aliases/{quote(alias)}"
        self.api.call("UpdateAlias", request, document=document)

    def minimum(self, alias: str) -> dict[str, Any]:
        """Return the configuration of the minimum of instances; empty if there is none."""
        try:
            answer = self.api.call(
                "GetProvisionConfig",
                f"GET {self._path}/provision-config",
                query={"qualifier": alias},
            )
        except ServiceError as exc:
            if exc.status == http.client.NOT_FOUND:
                return {}
            raise
        return dict(answer)

    def configure_minimum(self, alias: str, document: Mapping[str, Any]) -> None:
        request = f"PUT {self._path}/provision-config"
        query = {"qualifier": alias}
        self.api.call("PutProvisionConfig", request, query=query, document=document)

    @property
    def _path(self) -> str:
        return f"/2023-03-30/functions/{quote(self.name)}"


def list_firing(monitor: OpenApi, prefix: str) -> set[str]:
    """Return the names of the rules of CloudMonitor that begin with a prefix and are firing.

    Source: CloudMonitor, API 2019-01-01, DescribeMetricRuleList.
    """
    query = {"RuleName": prefix, "AlertState": "ALARM", "PageSize": "100", "Page": "1"}
    answer = monitor.call("DescribeMetricRuleList", query=query)
    rules = answer.get("Alarms", {}).get("Alarm", [])
    names = {str(rule["RuleName"]) for rule in rules if rule.get("AlertState") == "ALARM"}
    return {name for name in names if name.startswith(prefix)}


_REVEALED: dict[tuple[str, str], str] = {}
"""What KMS has decrypted in this process, so that it is not asked every minute."""


def reveal(variable: str, text: str, kms: OpenApi) -> str:
    """Return a secret variable, which KMS decrypts if it begins with `kms:`."""
    if not text.startswith(KMS_PREFIX):
        return text
    if known := _REVEALED.get((variable, text)):
        return known
    context = json.dumps({"voicedrop": f"voicedrop/setting/1 {variable}"})
    blob = text.removeprefix(KMS_PREFIX)
    answer = kms.call("Decrypt", form={"CiphertextBlob": blob, "EncryptionContext": context})
    secret = base64.b64decode(answer["Plaintext"]).decode()
    _REVEALED[variable, text] = secret
    return secret


def post_to_dingtalk(
    connections: Connections, url: str, secret: str, title: str, text: str
) -> None:
    """Post a message to a group by its robot. With a secret it is signed.

    DingTalk answers 200 to everything and states errors in the body. Raises ServiceError.
    Source: DingTalk, "Custom robots: security settings".
    """
    if secret:
        moment = str(round(time.time() * 1000))
        mac = hmac.new(secret.encode(), f"{moment}\n{secret}".encode(), hashlib.sha256).digest()
        url += "&" + urlencode({"timestamp": moment, "sign": base64.b64encode(mac).decode()})
    parts = urlsplit(url)
    message = {"msgtype": "markdown", "markdown": {"title": title, "text": text}}
    headers = {"content-type": "application/json; charset=utf-8"}
    request = f"POST {parts.path}?{parts.query}"
    body = json.dumps(message).encode()
    answer = connections.exchange("DingTalk", parts.netloc, request, body, headers)
    if answer.get("errcode") != 0:
        raise ServiceError(f"DingTalk refused a message: {answer.get('errcode')}.")
