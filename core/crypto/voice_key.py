"""The key of a voice: what is kept of a person's voice is sealed under it, and goes with it.

    control  voices/<recording>/key.json       the key, wrapped by the key-encryption key; signed
             voices/<recording>/<name>.sealed  voiceprints and spoken items, whose data keys it
                                               wraps; some may be in a Redis (core/storage/cache.py)

`recording` is the SHA-256 of the recording. When key.json is deleted, none of these files can be
opened any more, not even in a copy of the bucket that lacks key.json.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import msgspec

from core.crypto.keys import KeyProvider, Keyring, LocalKeys, WrappedKey, secret_id
from core.crypto.sealing import Base64Url, Digest
from core.documents import base64url, signed
from core.documents.signed import Signature
from core.errors import Misconfigured, Refused
from core.storage.object_keys import voice_key_key
from core.storage.port import Store

_MAX_BYTES = 16 * 1024


class VoiceKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["voicedrop/voice-key/1"] = "voicedrop/voice-key/1"
    recording: Digest
    valid_from: datetime | None
    """When the consent begins under which the key was made; None if there was no record."""
    consent: str
    """Key of that record in the inbox; empty if there was none."""
    kek: str
    kek_ver: str
    wrapped: Base64Url
    signature: Signature | None = None


@dataclass(frozen=True, slots=True)
class OpenVoiceKey:
    document: VoiceKey
    secret: bytes = field(repr=False)
    """32 bytes."""

    @property
    def wrapping(self) -> KeyProvider:
        """Wraps the data keys of what is kept of the voice."""
        return LocalKeys({secret_id(self.secret): self.secret})

    def name(self, content: bytes) -> str:
        """Return a digest with which nobody can confirm a guess at the content who lacks the key:
        HMAC-SHA256, 64 hexadecimal digits."""
        return hmac.digest(self.secret, b"voicedrop/name/1\0" + content, hashlib.sha256).hex()


def open_voice_key(
    recording: str, made_under: tuple[datetime | None, str], control: Store, keys: Keyring
) -> OpenVoiceKey:
    """Return the key of a voice, which is made if there is none that can be opened.

    `made_under`: `valid_from` and `consent` of a new key. Raises what wrapping and unwrapping raise
    if the key service does not answer.
    """
    if opened := find_voice_key(recording, control, keys):
        return opened
    key, (valid_from, consent) = os.urandom(32), made_under
    wrapped = keys.wrapping.wrap(key, _context(recording))
    made = VoiceKey(
        recording=recording,
        valid_from=valid_from,
        consent=consent,
        kek=wrapped.kek,
        kek_ver=wrapped.version,
        wrapped=base64url.encode(wrapped.blob),
    )
    data = signed.sign(made, keys.signing)
    if not control.put_once(voice_key_key(recording), data):
        if opened := find_voice_key(recording, control, keys):
            return opened  # another worker made it at the same time
        control.put(voice_key_key(recording), data)
    return OpenVoiceKey(made, key)


def read_voice_key(recording: str, control: Store, keys: Keyring) -> VoiceKey | None:
    """Return the document if it is stored and signed by us for this recording."""
    with suppress(Refused):
        data = control.get(voice_key_key(recording), limit=_MAX_BYTES).data
        found = signed.read(data, VoiceKey, keys.verifying)
        return found if found.recording == recording else None
    return None


def find_voice_key(recording: str, control: Store, keys: Keyring) -> OpenVoiceKey | None:
    """Return the key of a voice, or None if there is none that can be opened."""
    stored = read_voice_key(recording, control, keys)
    # Sealed with a key that was destroyed, or that this role cannot use: another one is made.
    with suppress(Refused, Misconfigured, ValueError):
        if stored:
            wrapped = WrappedKey(stored.kek, stored.kek_ver, base64url.decode(stored.wrapped))
            key = keys.wrapping.unwrap(wrapped, _context(recording))
            return OpenVoiceKey(stored, key)
    return None


def _context(recording: str) -> bytes:
    return f"voicedrop/voice-key/1\n{recording}".encode()
