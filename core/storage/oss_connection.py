"""Connections to OSS: endpoint, credentials, and https with TLS 1.2 or newer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from core.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key; temporary (STS) if it has a security token."""

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str = field(default="", repr=False)

    def get_access_key_id(self) -> str:  # oss2 calls these methods
        return self.access_key_id

    def get_access_key_secret(self) -> str:
        return self.access_key_secret

    def get_security_token(self) -> str:
        return self.security_token


def tls_adapter() -> Any:
    """Return a `requests` adapter that refuses TLS below 1.2."""
    import ssl

    from requests.adapters import HTTPAdapter

    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs, ssl_context=context)

    return Adapter(pool_connections=32, pool_maxsize=32)


def https_url(endpoint: str) -> str:
    """Return the endpoint as an https URL; http is accepted for loopback addresses only."""
    url = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    bare = not (url.path.strip("/") or url.query or url.username)
    if url.scheme not in ("https", "http") or not url.hostname or not bare:
        message = (
            "An endpoint is a URL such as https://oss-cn-hangzhou.aliyuncs.com, without a path."
        )
        raise Misconfigured("SETTING_INVALID", message)
    if url.scheme == "http" and not _is_loopback(url.hostname):
        raise Misconfigured("ENDPOINT_INSECURE", f"Use https://{url.netloc}.")
    return f"{url.scheme}://{url.netloc}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def region_of(endpoint: str) -> str:
    found = re.search(r"//oss-([a-z0-9-]+?)(-internal)?\.aliyuncs\.com$", endpoint)
    if not found:
        raise Misconfigured(
            "SETTING_INVALID", f"Set the region: the endpoint {endpoint} does not contain it."
        )
    return found[1]
