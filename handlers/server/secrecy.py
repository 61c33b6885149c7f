"""What keeps secrets inside the process: a mask over all that is logged or answered, no core dumps.

Our own code names no secret anywhere; the mask is for what libraries say, who quote in exceptions
what they sent.
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import re
import resource
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote, urlsplit

if TYPE_CHECKING:
    from pathlib import Path

    from core.storage.oss import Credentials

MASK = "***"
SHORTEST = 8
"""A shorter secret is none, and masking it would make a riddle of the log."""
RECENT = 64
"""Credentials of past calls that are remembered: the platform gives out new ones all the time."""
NAMES = re.compile(r"_(KEK|SIGNING_KEY|WATERMARK_KEY|REDIS|ACCESS_KEY_ID|ACCESS_KEY_SECRET|TOKEN)$")
"""Variables whose values are secret."""
PR_SET_DUMPABLE = 4


class Mask:
    """Replaces secrets, however they are written, by three stars."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._fixed = _forms(secrets)
        self._recent: deque[frozenset[str]] = deque(maxlen=RECENT)
        self._pattern: re.Pattern[str] | None = _pattern(self._fixed)

    def add(self, credentials: Credentials | None) -> None:
        """Those of the call in hand."""
        if credentials is None:
            return
        forms = _forms(
            (
                credentials.access_key_id,
                credentials.access_key_secret,
                credentials.security_token,
            )
        )
        if forms not in self._recent:
            self._recent.append(forms)
            self._pattern = _pattern(self._fixed.union(*self._recent))

    def __call__(self, text: str) -> str:
        return self._pattern.sub(MASK, text) if self._pattern else text


def secrets_of(environ: Mapping[str, str], keys: Path) -> list[str]:
    """The secret values of variables and of the key files in a folder."""
    found = [value for name, value in environ.items() if NAMES.search(name)]
    for pattern in ("*.key", "sign-???.pem"):
        for path in keys.glob(pattern):
            with path.open(encoding="latin-1") as file:
                found += [line.strip() for line in file if not line.startswith("-----")]
    return found


def disable_core_dumps() -> None:
    """From now on no dump of this process's memory is written, and no other process of our user
    may read it. What Python keeps of a key cannot be erased."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _forms(secrets: Iterable[str]) -> frozenset[str]:
    return frozenset(
        form
        for secret in secrets
        for part in _parts(secret)
        for form in _spellings(part)
        if len(form) >= SHORTEST
    )


def _parts(secret: str) -> Iterator[bytes]:
    """A secret, its members if it is a list, the password if it is a URL, the bytes it stands for
    if it is base64."""
    for text in (secret, *secret.split(","), *secret.splitlines()):
        yield text.strip().encode()
        if password := urlsplit(text).password if "://" in text else None:
            yield unquote(password).encode()
        try:
            yield base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            continue


def _spellings(secret: bytes) -> Iterator[str]:
    if len(secret) < SHORTEST:
        return
    for text in (secret.decode(errors="ignore"), secret.decode("latin-1")):
        yield from (text, repr(text)[1:-1])
    yield from (repr(secret)[2:-1], quote(secret, safe=""))
    yield from (quote(secret), quote_plus(secret), secret.hex(), secret.hex().upper())
    for shift in range(3):
        # As part of something longer: what its first and last characters say depends on that.
        encoded = base64.b64encode(b"\0" * shift + secret).decode()
        inside = encoded[(0, 2, 3)[shift] :].rstrip("=")
        inside = inside if (shift + len(secret)) % 3 == 0 else inside[:-1]
        yield inside
        yield inside.replace("+", "-").replace("/", "_")


def _pattern(forms: Iterable[str]) -> re.Pattern[str] | None:
    longest_first = sorted(forms, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
