"""Signed requests to the OpenAPI of Alibaba Cloud: signature V3, ACS3-HMAC-SHA256.

It imports the standard library alone, because the function that receives alarms has nothing else.
Source: Alibaba Cloud OpenAPI, "V3 request body and signature mechanism".
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from urllib.parse import quote


def encode_form(fields: Mapping[str, str]) -> str:
    """Encode the fields of a form or query in the order and spelling that are signed."""
    return "&".join(f"{quote(k, safe='')}={quote(fields[k], safe='')}" for k in sorted(fields))


def request_headers(
    host: str, action: str, version: str, security_token: str = ""
) -> dict[str, str]:
    """Return the headers that every request has. `version`: of the API, such as `2016-01-20`."""
    headers = {
        "host": host,
        "x-acs-action": action,
        "x-acs-date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "x-acs-signature-nonce": secrets.token_hex(16),
        "x-acs-version": version,
    }
    if security_token:
        headers["x-acs-security-token"] = security_token
    return headers


def sign_request(
    headers: Mapping[str, str],
    body: bytes,
    key_id: str,
    secret: str,
    *,
    request: str = "POST /",
    query: str = "",
) -> dict[str, str]:
    """Sign a request and return its headers. All given headers are signed; their names are in lower
    case. `request`: method and path, percent-encoded; `query`: as `encode_form` writes it."""
    digest = hashlib.sha256(body).hexdigest()
    headers = {
        "accept": "application/json",
        "content-type": "application/x-www-form-urlencoded",
        **headers,
        "x-acs-content-sha256": digest,
    }
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    method, _, path = request.partition(" ")
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}"
    text = f"ACS3-HMAC-SHA256\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={key_id},SignedHeaders={names},Signature={signature}"
    return {**headers, "authorization": f"ACS3-HMAC-SHA256 {credential}"}
