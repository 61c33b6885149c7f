"""Where secret settings come from, so that they need not pass through whoever deploys.

A secret setting is a text, or several with commas between. Each is one of

    control:KEY   an object of the control bucket: a file that `voicedrop init` made, or a text
    kms:BLOB      base64 of a text that KMS encrypted for this variable (`voicedrop keys seal`)
    anything else the secret itself, which everybody sees who sees the variable

An object may contain `kms:BLOB`: then reading the bucket is not enough either.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from core.crypto.keys import KeyProvider, WrappedKey
from core.errors import Misconfigured, Refused
from core.storage.port import Store

CONTROL, KMS = "control:", "kms:"
LIMIT = 65_536
"""Largest object that is read for a secret, in bytes."""


def is_reference(text: str) -> bool:
    """Whether a setting says where its secrets are, and contains none itself. An empty one does."""
    return all(part.strip().startswith((CONTROL, KMS)) for part in text.split(",") if part.strip())


def describe_sources(variable: str, text: str) -> str:
    """Say where the secrets of a setting come from, without revealing them."""
    names = {CONTROL: "control:{}", KMS: f"{variable}, sealed by KMS"}
    found: list[str] = []
    for part in map(str.strip, text.split(",")):
        kind = next((kind for kind in names if part.startswith(kind)), "")
        name = names.get(kind, f"{variable}, as plain text").format(part.removeprefix(kind))
        if name not in found:
            found.append(name)
    return ", ".join(found)


def seal(variable: str, text: str, kms: KeyProvider) -> str:
    """Return a secret setting encrypted by KMS for this variable. Raises as `KeyProvider.wrap`."""
    return KMS + base64.b64encode(kms.wrap(text.encode(), _context(variable)).blob).decode()


@dataclass(frozen=True, slots=True)
class SecretReader:
    """Reads the secrets to which settings refer."""

    open_control: Callable[[], Store]
    open_kms: Callable[[], KeyProvider]
    learn: Callable[[str], None] = lambda _: None
    """Gets each secret that was read, so that it can be masked in logs."""

    def reveal(self, variable: str, text: str) -> str:
        """Return the setting with its secrets in place of references to them; a PEM file becomes
        base64.

        Raises Misconfigured KEY_NOT_FOUND, KEY_UNUSABLE, and what the bucket and KMS raise.
        """
        if not any(part.strip().startswith((CONTROL, KMS)) for part in text.split(",")):
            return text  # the URL of a Redis may contain a comma
        return ",".join(self._reveal_parts(variable, text))

    def _reveal_parts(self, variable: str, text: str) -> Iterator[str]:
        for part in map(str.strip, text.split(",")):
            secret = self._read(variable, part) if part.startswith(CONTROL) else part
            if secret.startswith(KMS):
                secret = self._decrypt(variable, secret)
            self.learn(secret)
            yield secret

    def _read(self, variable: str, reference: str) -> str:
        key = reference.removeprefix(CONTROL)
        control = self.open_control()
        try:
            text = control.get(key, limit=LIMIT).data.decode("ascii").strip()
        except Refused as exc:
            code = "KEY_NOT_FOUND" if exc.code == "OBJECT_MISSING" else "KEY_UNUSABLE"
            reason = f"{variable} names {key} in {control.name}: {exc}"
            raise Misconfigured(code, reason, advice="Put the key there.") from exc
        except UnicodeDecodeError:
            message = f"{variable} names {key} in {control.name}, which is not text."
            raise Misconfigured("KEY_UNUSABLE", message) from None
        if text.startswith("-----BEGIN"):
            return base64.b64encode(text.encode() + b"\n").decode()
        return text

    def _decrypt(self, variable: str, sealed: str) -> str:
        message = f"{variable} was not sealed for this variable, or was changed since."
        try:
            blob = base64.b64decode(sealed.removeprefix(KMS), validate=True)
            return self.open_kms().unwrap(WrappedKey(KMS, "", blob), _context(variable)).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise Misconfigured("KEY_UNUSABLE", message) from None
        except Refused as exc:
            raise Misconfigured("KEY_UNUSABLE", message) from exc


def _context(variable: str) -> bytes:
    return f"voicedrop/setting/1 {variable}".encode()
