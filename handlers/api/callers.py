"""Who calls, and what the caller may do.

    tokens     `Authorization: Bearer TOKEN`; a setting has the SHA-256 of each token, the name of
               its caller and what it allows
    jwt        the same header with a JSON Web Token that the platform has verified before it passed
               the request on; its claim `sub` names the caller
    loopback   nobody is asked who listens on a loopback address; instead, `SameHost` refuses what a
               web page of another site may send there

A caller is a producer: its manifests are stored in its own folder of `jobs/`, by which quotas and
label policies know it, and it sees its own jobs only. Neither tokens nor JSON Web Tokens are
cookies, so that a page of another site cannot use them.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args
from urllib.parse import urlsplit

import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from core.documents import base64url
from core.errors import Misconfigured, Refused
from core.settings import Settings
from handlers.api.problems import answer_error

Scope = Literal["clone", "read", "listen", "trace", "all"]
"""clone: submit and cancel jobs; read: see how far jobs are; listen: open audio; trace: trace
clips; all: the jobs of all producers instead of its own."""
SCOPES: frozenset[Scope] = frozenset(get_args(Scope))
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEX = re.compile(r"[0-9a-f]{64}")
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Caller:
    name: str
    """The folder of the caller below `jobs/`; empty for the only caller of a loopback address."""
    scopes: frozenset[Scope]

    @property
    def folder(self) -> str:
        return f"{self.name}/" if self.name else ""

    @property
    def sees_all(self) -> bool:
        return "all" in self.scopes

    def require(self, *scopes: Scope) -> None:
        """Raises Refused SCOPE_MISSING."""
        if missing := [scope for scope in scopes if scope not in self.scopes]:
            raise Refused("SCOPE_MISSING", f"This needs the scope {' and '.join(missing)}.")


LOCAL = Caller("", SCOPES)


class Authenticate(Protocol):
    def __call__(self, headers: Headers) -> Caller:
        """Return who calls. Raises Refused CALLER_UNKNOWN."""
        ...


def of_loopback(headers: Headers) -> Caller:
    return LOCAL


def hash_token(token: str) -> str:
    """Tokens are random and long, so a plain digest cannot be searched for them."""
    return hashlib.sha256(token.encode()).hexdigest()


class Tokens:
    """The tokens of a setting: `NAME:SCOPE+SCOPE:SHA256`, with spaces between."""

    def __init__(self, setting: str) -> None:
        """Raises Misconfigured SETTING_INVALID, without quoting the entry."""
        self._callers: dict[str, Caller] = {}
        for number, entry in enumerate(setting.split(), 1):
            name, _, rest = entry.partition(":")
            scopes, _, digest = rest.partition(":")
            named = scopes.split("+")
            if not (_NAME.fullmatch(name) and _HEX.fullmatch(digest) and SCOPES.issuperset(named)):
                message = (
                    f"VOICEDROP_API_TOKENS: entry {number} is not NAME:SCOPE+SCOPE:SHA256 with "
                    f"scopes of {', '.join(sorted(SCOPES))}."
                )
                raise Misconfigured("SETTING_INVALID", message)
            self._callers[digest] = Caller(
                name, frozenset(scope for scope in SCOPES if scope in named)
            )

    def __call__(self, headers: Headers) -> Caller:
        given = hash_token(_bearer(headers))
        found = None
        for digest, caller in self._callers.items():  # all of them, whichever fits
            if hmac.compare_digest(digest, given):
                found = caller
        if found is None:
            raise Refused("CALLER_UNKNOWN", "This token is unknown.")
        return found


def of_platform_jwt(headers: Headers) -> Caller:
    """Return the caller that a JSON Web Token names. The platform has verified the same header, and
    refuses everything else (`authType: jwt`), so that it is not verified again."""
    parts = _bearer(headers).split(".")
    try:
        claims = msgspec.json.decode(base64url.decode(parts[1]), type=dict[str, Any])
    except (IndexError, ValueError, msgspec.DecodeError):
        raise Refused("CALLER_UNKNOWN", "This is no JSON Web Token.") from None
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise Refused("CALLER_UNKNOWN", "The token has no claim `sub`.")
    granted = str(claims.get("scope", "clone read listen trace")).split()
    return Caller(_folder_of(subject), frozenset(scope for scope in SCOPES if scope in granted))


def _folder_of(subject: str) -> str:
    """Return the name of a folder for a subject: itself, or a digest of one that is no name."""
    if _NAME.fullmatch(subject):
        return subject
    return f"sub-{hashlib.sha256(subject.encode(errors='surrogatepass')).hexdigest()[:24]}"


def _bearer(headers: Headers) -> str:
    given = headers.getlist("authorization")
    kind, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if kind.lower() != "bearer" or not token.strip():
        raise Refused("CALLER_UNKNOWN")
    return token.strip()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class SameHost:
    """Refuses requests that a page of another site sends to a server on a loopback address.

    A name of another site may resolve to 127.0.0.1 (DNS rebinding): so `Host` must be a name of
    this machine. A page may post a form anywhere, and open a WebSocket: so `Origin` must be this
    server.
    """

    def __init__(self, app: ASGIApp, *, host: str = "") -> None:
        """`host`: the address on which the server listens."""
        self._app, self._names = app, _LOCAL_NAMES | {host.strip("[]")}

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                _refuse_other_sites(Headers(scope=scope), self._names)
            except Refused as exc:
                if scope["type"] == "websocket":
                    await receive()  # the opening of the connection
                    await send({"type": "websocket.close", "code": 1008, "reason": exc.code})
                else:
                    await answer_error(exc, path=scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _refuse_other_sites(headers: Headers, names: Iterable[str]) -> None:
    """Raises Refused ORIGIN_FORBIDDEN."""
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    if len(hosts) != 1 or _host_name(hosts[0]) not in names:
        raise Refused("ORIGIN_FORBIDDEN", "The header Host does not name this machine.")
    if any(origin != f"http://{hosts[0]}" for origin in origins):
        raise Refused("ORIGIN_FORBIDDEN", "The header Origin names another site.")
    is_link = headers.get("sec-fetch-dest") == "document"  # which shows a page and reads nothing
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not is_link:
        raise Refused("ORIGIN_FORBIDDEN", "A page of another site asks for this.")


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or "" if "@" not in host else ""
    except ValueError:
        return ""


def choose_authentication(settings: Settings, host: str) -> Authenticate:
    """`host`: the address on which the server listens. Raises Misconfigured SETTING_INVALID if
    everybody who reaches the address could call."""
    if settings.api_jwt == "platform":
        return of_platform_jwt
    if settings.api_tokens:
        return Tokens(settings.api_tokens)
    if is_loopback(host):
        return of_loopback
    message = (
        f"Everybody who reaches {host} could call: set VOICEDROP_API_TOKENS (`voicedrop keys token "
        "NAME` makes one), or listen on 127.0.0.1."
    )
    raise Misconfigured("SETTING_INVALID", message, advice="")
