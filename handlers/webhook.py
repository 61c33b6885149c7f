"""Tell an operator's web server about events, in requests that it can verify.

A delivery is queued in the control bucket before its event is written, and leaves the queue when
the server has accepted it. No event is lost by a crash, and one may be delivered twice, with the
same `webhook-id`, which is the id of the event.

Source: Standard Webhooks 1.0.0 (standardwebhooks.com): headers, signatures, times of the attempts.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import logging
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit

import msgspec

from core.errors import Misconfigured, Refused, Unavailable
from core.storage.object_keys import WEBHOOKS
from core.storage.port import Store

log = logging.getLogger("voicedrop.webhook")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

WAITS = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Seconds from each failed attempt to the next one; after the last attempt an event is given up."""
TIMEOUT_SECONDS = 10.0
SECRET_PREFIX = "whsec_"  # noqa: S105
_SECRET_BYTES = range(24, 65)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LIMIT = 4096
"""Largest queue entry, in bytes."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A web server that is told about events."""

    url: SplitResult
    secrets: tuple[bytes, ...] = field(repr=False)
    """Each signs every request, so that the receiver can change from one to the next."""
    networks: tuple[Network, ...] = ()
    """Networks that are not part of the Internet and may be called, also without TLS."""
    trusted: ssl.SSLContext | None = None
    """None: the certificate must come from an authority that this machine trusts."""

    def send(self, event: bytes, now: float) -> bool:
        """Send one event in a single request, without following redirects. Return whether the
        server accepted it; False: it answered 410, and wants no further attempts.

        `event`: a CloudEvent as JSON; `now`: Unix seconds. Raises Unavailable WEBHOOK_FAILED.
        """
        from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Timeout
        from urllib3.exceptions import HTTPError

        host, port = self.url.hostname or "", self.url.port
        address = self.find_address()
        timeout = Timeout(total=TIMEOUT_SECONDS)
        pool: HTTPConnectionPool
        if self.url.scheme == "https":
            pool = HTTPSConnectionPool(
                address, port, timeout=timeout, retries=False, ssl_context=self.trusted,
                server_hostname=host, assert_hostname=host,
            )  # fmt: skip
        else:
            pool = HTTPConnectionPool(address, port, timeout=timeout, retries=False)
        headers = self._sign(str(json.loads(event)["id"]), int(now), event)
        target = (self.url.path or "/") + (f"?{self.url.query}" if self.url.query else "")
        try:
            with pool:
                answer = pool.urlopen(
                    "POST", target, event, headers, redirect=False, preload_content=False
                )
                answer.close()
        except HTTPError as exc:
            reason = f"{self.place} did not answer ({type(exc).__name__})."
            raise Unavailable("WEBHOOK_FAILED", reason) from exc
        if answer.status == HTTPStatus.GONE:
            return False
        if answer.status // 100 != HTTPStatus.OK // 100:
            raise Unavailable("WEBHOOK_FAILED", f"{self.place} answered {answer.status}.")
        return True

    @property
    def place(self) -> str:
        """The server without path and query, which may contain secrets."""
        return f"{self.url.scheme}://{self.url.netloc}"

    def _sign(self, event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        return {
            "host": self.url.netloc,
            "content-type": "application/cloudevents+json",
            "user-agent": "voicedrop",
            "webhook-id": event_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(self.secrets, event_id, timestamp, body),
        }

    def find_address(self) -> str:
        """Return an address of the server. The request goes to this address, so that a name server
        cannot give another one afterwards. Raises Unavailable WEBHOOK_FAILED."""
        host = self.url.hostname or ""
        port = self.url.port or (443 if self.url.scheme == "https" else 80)
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:  # UnicodeError: a label of more than 63 characters
            raise Unavailable("WEBHOOK_FAILED", f"The name {host} was not found.") from exc
        addresses = [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
        for address in addresses:
            is_listed = any(address in network for network in self.networks)
            if not is_listed and (self.url.scheme != "https" or not _is_public(address)):
                message = (
                    f"{host} is {address}. Only public addresses are called, over https, unless "
                    "VOICEDROP_WEBHOOK_NETWORKS lists their network."
                )
                raise Unavailable("WEBHOOK_FAILED", message)
        return str(addresses[0])


def _is_public(address: Address) -> bool:
    """Tell whether an address is part of the Internet, also one that contains an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        within = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            within = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if within:
            return _is_public(within)
        if address.teredo:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def sign(secrets: tuple[bytes, ...], event_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of `webhook-signature`: one signature a secret, HMAC-SHA256 in base64."""
    content = f"{event_id}.{timestamp}.".encode() + body
    digests = (hmac.digest(secret, content, hashlib.sha256) for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def open_webhook(url: str, secrets: str, networks: str) -> Webhook:
    """Return the webhook of these settings. Raises Misconfigured SETTING_INVALID, KEY_UNUSABLE."""
    message = "VOICEDROP_WEBHOOK must be an https:// address in ASCII, without a user name"
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("https", "http") and parts.hostname and parts.port != 0
    except ValueError:  # of the port
        is_usable = False
    if not is_usable or parts.username is not None or not url.isascii() or not url.isprintable():
        raise Misconfigured("SETTING_INVALID", message)
    try:
        listed = tuple(ipaddress.ip_network(text) for text in networks.split())
    except ValueError as exc:
        message = f"VOICEDROP_WEBHOOK_NETWORKS: {exc}"
        raise Misconfigured("SETTING_INVALID", message) from exc
    return Webhook(parts, tuple(map(_read_secret, secrets.split(","))), listed)


def _read_secret(text: str) -> bytes:
    try:
        secret = base64.b64decode(text.strip().removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) not in _SECRET_BYTES:
        message = (
            f"VOICEDROP_WEBHOOK_SECRET must be {SECRET_PREFIX} and {_SECRET_BYTES.start} to "
            f"{_SECRET_BYTES.stop - 1} bytes in base64, such as {SECRET_PREFIX}$(openssl rand "
            "-base64 32)"
        )
        raise Misconfigured("KEY_UNUSABLE", message, advice="")
    return secret


class Delivery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of the queue. It is not signed: it says only when to try again. What is sent is
    derived from a signed document."""

    attempts: int = 0
    after: float = 0.0
    """Unix seconds before which it is not tried again."""


def enqueue(control: Store, name: str) -> None:
    """Queue the delivery of an event that is about to be written."""
    control.put_once(f"{WEBHOOKS}{name}", msgspec.json.encode(Delivery()))


def list_queued(control: Store) -> Iterator[str]:
    """Yield the names of the queued deliveries."""
    for info in control.list(WEBHOOKS):
        yield info.key.removeprefix(WEBHOOKS)


def deliver(control: Store, webhook: Webhook, name: str, event: bytes) -> str:
    """Try a queued delivery once. Return what happened, or an empty text if it is too early.

    Raises Unavailable WEBHOOK_FAILED if there will be another attempt.
    """
    queued = _read(control, name)
    now = control.now()
    if queued is None or queued.after > now:
        return ""
    try:
        accepted = webhook.send(event, now)
    except Unavailable as exc:
        if queued.attempts < len(WAITS):
            after = now + WAITS[queued.attempts]
            later = Delivery(attempts=queued.attempts + 1, after=after)
            control.put(f"{WEBHOOKS}{name}", msgspec.json.encode(later))
            raise
        outcome = f"given up after {queued.attempts + 1} attempts: {exc.message}"
    else:
        outcome = "delivered" if accepted else "given up: the server answered 410 (Gone)"
    if outcome != "delivered":
        log.error("webhook", extra={"delivery": name, "outcome": outcome})
    control.delete(f"{WEBHOOKS}{name}")
    return outcome


def _read(control: Store, name: str) -> Delivery | None:
    try:
        data = control.get(f"{WEBHOOKS}{name}", limit=_LIMIT).data
        queued = msgspec.json.decode(data, type=Delivery)
        return queued if queued.attempts >= 0 else Delivery()
    except msgspec.MsgspecError:
        return Delivery()
    except Refused as exc:
        return None if exc.code == "OBJECT_MISSING" else Delivery()
