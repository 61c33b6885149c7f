"""Alibaba Cloud KMS as a key provider. The only module that talks to KMS.

`Encrypt` with an EncryptionContext wraps a data key that was generated here. Unlike
`GenerateDataKey` on the keys of a KMS instance it uses the primary version of the key, so automatic
rotation takes effect (KMS API 2016-01-20). A worker needs kms:Encrypt to seal, and kms:Decrypt to
join items, to read kept voices and to take over what another worker sealed.

The parameters are sent as a form in the body, because a URL, which `Plaintext` must not be part of,
is written into the logs of proxies and gateways.

There are only two calls, so no SDK is used: the old one bundles an outdated urllib3, the new one
depends on 28 packages.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import urllib3

from core.crypto.keys import WrappedKey
from core.crypto.openapi import encode_form, request_headers, sign_request
from core.errors import JobError, Misconfigured, Refused, Unavailable, raising
from core.storage.retry import Retry

if TYPE_CHECKING:
    from core.storage.oss import Credentials

API_VERSION = "2016-01-20"
TIMEOUT_SECONDS = 10.0

_MISSING_KEY_CODES = ("Forbidden.KeyNotFound", "Forbidden.AliasNotFound")


@dataclass(frozen=True)
class AliyunKms:
    key: str
    """Key id, `alias/...` or ARN."""
    region: str
    credentials: Callable[[], Credentials]
    """Called before every request, because the credentials of a function expire."""
    endpoint: str = ""
    """Host, with a port if needed; empty: `kms.<region>.aliyuncs.com`."""
    ca_file: str = ""
    """CA certificate of the gateway of a dedicated KMS instance; empty: those of the system."""
    retry: Retry = Retry(attempts=3, first_pause=0.4)  # noqa: RUF009 (frozen)

    def wrap(self, data_key: bytes, context: bytes) -> WrappedKey:
        fields = {"KeyId": self.key, "Plaintext": base64.b64encode(data_key).decode()}
        answer = self._call("Encrypt", fields, context, missing_code="KEY_NOT_FOUND")
        blob = base64.b64decode(answer["CiphertextBlob"])
        return WrappedKey(f"kms:{self.key}", answer["KeyVersionId"], blob)

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        if not wrapped.kek.startswith("kms:"):
            raise Misconfigured(
                "KEY_NOT_FOUND", f"Sealed with {wrapped.kek!r}, which is not a KMS key."
            )
        # The blob names the key and its version.
        fields = {"CiphertextBlob": base64.b64encode(wrapped.blob).decode()}
        answer = self._call("Decrypt", fields, context, missing_code="KEY_DESTROYED")
        return base64.b64decode(answer["Plaintext"])

    def _call(
        self, action: str, fields: Mapping[str, str], context: bytes, *, missing_code: str
    ) -> Any:
        """Call KMS, with retries. `missing_code`: error code for a key that does not exist."""
        fields = {**fields, "EncryptionContext": json.dumps({"voicedrop": context.decode()})}
        body = encode_form(fields).encode()
        return self.retry.run(
            lambda: self._call_once(action, body, missing_code),
            lambda exc: isinstance(exc, Unavailable),
        )

    def _call_once(self, action: str, body: bytes, missing_code: str) -> Any:
        with raising(Unavailable("KMS_UNAVAILABLE"), on=(urllib3.exceptions.HTTPError, ValueError)):
            status, data = self._send(action, body)
            answer = json.loads(data)
        if status != 200:
            raise _to_job_error(status, str(answer.get("Code", "")), missing_code)
        return answer

    def _send(self, action: str, body: bytes) -> tuple[int, bytes]:
        host = self.endpoint or f"kms.{self.region}.aliyuncs.com"
        credentials = self.credentials()
        headers = request_headers(host, action, API_VERSION, credentials.security_token)
        headers = sign_request(
            headers, body, credentials.access_key_id, credentials.access_key_secret
        )
        answer = self._connections.request(
            "POST", f"https://{host}/", body=body, headers=headers, retries=False
        )
        return answer.status, answer.data

    @cached_property
    def _connections(self) -> urllib3.PoolManager:
        """Reused, because a TLS handshake takes longer than the call; safe for threads."""
        return urllib3.PoolManager(
            maxsize=32,
            timeout=TIMEOUT_SECONDS,
            ca_certs=self.ca_file or None,
            ssl_minimum_version=ssl.TLSVersion.TLSv1_2,
        )


def _to_job_error(status: int, code: str, missing_code: str) -> JobError:
    message = f"KMS answered {status} {code}."
    if status >= 500 or code.startswith("Throttling"):
        return Unavailable("KMS_UNAVAILABLE", message)
    if code.startswith("InvalidSecurityToken"):
        return Unavailable("CREDENTIALS_EXPIRED", message)
    if code in _MISSING_KEY_CODES:
        return Misconfigured(missing_code, message)
    if missing_code == "KEY_DESTROYED" and code.startswith("InvalidParameter"):
        return Refused("SEAL_INVALID", message)  # blob or context was changed
    if code == "Forbidden.NoPermission":
        message += " Grant kms:Encrypt and kms:Decrypt on the key (cloud/policies/worker-kms.json)."
    return Misconfigured("KEY_UNUSABLE", message)
