"""Keep secrets inside the process: mask them in logs and answers, and write no core dumps.

voicedrop itself logs no secret. The mask is for the messages of libraries, whose exceptions may
quote a request.
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
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote, urlsplit

if TYPE_CHECKING:
    from pathlib import Path

    from core.storage.oss import Credentials

MASK = "***"
MIN_LENGTH = 8
"""Shorter values are not masked, because they are part of many words."""
MAX_CREDENTIALS = 64
"""Number of the latest credentials that are masked. The platform often issues new ones."""
NAMES = re.compile(
    r"_(KEK|SIGNING_KEY|WATERMARK_KEY|REDIS|WEBHOOK_SECRET|ACCESS_KEY_ID|ACCESS_KEY_SECRET|TOKEN)$"
)
"""Names of variables whose values are secret."""
PR_SET_DUMPABLE = 4


class Mask:
    """Replaces secrets in every usual encoding by three stars."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._fixed = self._texts = _encodings_of_all(secrets)
        self._recent: deque[frozenset[str]] = deque(maxlen=MAX_CREDENTIALS)

    def add(self, credentials: Credentials | None) -> None:
        """Mask the credentials of the current call, too."""
        if credentials is None:
            return
        fields = (credentials.access_key_id, credentials.access_key_secret)
        encodings = _encodings_of_all((*fields, credentials.security_token))
        if encodings not in self._recent:
            self._recent.append(encodings)
            self._texts = self._fixed.union(*self._recent)

    def add_secret(self, secret: str) -> None:
        """Mask a secret that was read after the start, too."""
        self._fixed |= _encodings_of_all([secret])
        self._texts = self._fixed.union(*self._recent)

    def __call__(self, text: str) -> str:
        return _pattern(self._texts).sub(MASK, text) if self._texts else text


def find_secrets(environ: Mapping[str, str], keys: Path) -> list[str]:
    """Return the secret values of variables and of the key files in a folder."""
    secrets = [value for name, value in environ.items() if NAMES.search(name)]
    for pattern in ("*.key", "sign-???.pem"):
        for path in keys.glob(pattern):
            with path.open(encoding="latin-1") as file:
                secrets += [line.strip() for line in file if not line.startswith("-----")]
    return secrets


def disable_core_dumps() -> None:
    """Prevent core dumps, and access to this process's memory by other processes of the user:
    Python cannot erase a key from memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _encodings_of_all(secrets: Iterable[str]) -> frozenset[str]:
    return frozenset(
        encoding
        for secret in secrets
        for part in _split(secret)
        for encoding in _encodings(part)
        if len(encoding) >= MIN_LENGTH
    )


def _split(secret: str) -> Iterator[bytes]:
    """Yield a secret, its members if it is a list, its lines, the password in it if it is a URL,
    and the decoded bytes if it is base64."""
    for text in (secret, *secret.split(","), *secret.splitlines()):
        yield text.strip().encode()
        if password := urlsplit(text).password if "://" in text else None:
            yield unquote(password).encode()
        try:
            yield base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            continue


def _encodings(secret: bytes) -> Iterator[str]:
    if len(secret) < MIN_LENGTH:
        return
    for text in (secret.decode(errors="ignore"), secret.decode("latin-1")):
        yield from (text, repr(text)[1:-1])
    yield from (repr(secret)[2:-1], quote(secret, safe=""))
    yield from (quote(secret), quote_plus(secret), secret.hex(), secret.hex().upper())
    for shift in range(3):
        # Base64 of a longer text that contains the secret, without the first and last characters,
        # which depend on the text around it.
        encoded = base64.b64encode(b"\0" * shift + secret).decode()
        inside = encoded[(0, 2, 3)[shift] :].rstrip("=")
        inside = inside if (shift + len(secret)) % 3 == 0 else inside[:-1]
        yield inside
        yield inside.replace("+", "-").replace("/", "_")


@lru_cache(maxsize=4)
def _pattern(texts: frozenset[str]) -> re.Pattern[str]:
    """Return what matches any of the texts. Compiling takes a tenth of a second when there are
    many credentials, so it is done for the next message and not for each credential."""
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)))
