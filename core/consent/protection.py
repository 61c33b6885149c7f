"""Protected voices: people whose voice is not to be cloned unless they allow it here.

    control  protected/<recording>.json    a `Protection`; named by the SHA-256 of the recording

A protection keeps speaker embeddings of the person (core/speech/speaker.py), sealed under the
key-encryption key, and nothing else that describes a voice: the recording is not kept. A recording
or an output in which the same person seems to speak is refused (core/job/protected.py), unless its
consent record names the owner of the protection in `protection_owner`.

The documents are signed and state their recording, so one that somebody else wrote or moved is not
believed; a sweep and `voicedrop protect list` report it. Whoever may delete objects there (the
policy `protector.json`, not the worker) can remove a protection.

Source of the aim: a voice is protected like a portrait (China, Civil Code, Art. 1023).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
import numpy as np

from core.consent.records import Digest, Text, Timestamp
from core.crypto import sealing
from core.crypto.keys import Keyring
from core.crypto.sealing import Base64Url, Context, Envelope
from core.documents import base64url, signed
from core.documents.signed import Signature
from core.errors import Refused, raising
from core.speech import speaker
from core.speech.encoders import Embedding
from core.speech.speaker import Speaker
from core.storage.object_keys import PROTECTED, protection_key
from core.storage.port import Info, Store, put_unless_genuine

_MAX_BYTES: Final = 64 * 1024

log = logging.getLogger("voicedrop.protection")


class Protection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The voice in one recording is protected."""

    schema: Literal["voicedrop/protection/1"] = "voicedrop/protection/1"
    recording: Digest
    label: Text
    """What people call it."""
    owner: Text
    """What a consent record must name as `protection_owner` to use the voice."""
    created: Timestamp
    sealed: Base64Url
    """Embeddings by GE2E and CAM++ (msgpack; little-endian 32-bit floats), sealed."""
    envelope: Envelope
    signature: Signature | None = None


@dataclass(frozen=True, slots=True)
class ProtectedVoice:
    """A protection that was verified and opened."""

    recording: str
    owner: str
    speaker: list[Speaker] = field(repr=False)
    """As `speaker.describe_known` describes it."""


@dataclass(frozen=True, slots=True)
class ProtectedVoices:
    """All protections that are in force."""

    voices: tuple[ProtectedVoice, ...]

    @property
    def digest(self) -> str:
        """Equal digests give equal matches; empty if nothing is protected."""
        if not self.voices:
            return ""
        names = [speaker.MATCHER, *sorted(voice.recording for voice in self.voices)]
        return hashlib.sha256("\n".join(names).encode()).hexdigest()

    def find_matches(self, who: Speaker) -> list[str]:
        """Return the recordings of the protected voices that seem to be this speaker's."""
        return [v.recording for v in self.voices if speaker.is_known(v.speaker, who)]

    def without_permission(self, recordings: list[str], owner: str) -> list[str]:
        """Return those of the recordings that are protected for somebody else than `owner`."""
        return [v.recording for v in self.voices if v.recording in recordings and v.owner != owner]


def protect(
    recording: Digest, who: list[Speaker], control: Store, keys: Keyring, *, label: str, owner: str
) -> Protection:
    """Store a protection. `who`: as `speaker.describe_known` returns it.

    Raises Refused FILE_EXISTS if there is one for the recording, VALUE_RANGE for a label or owner
    that is empty or too long; what wrapping a key raises.
    """
    content = [(_to_bytes(one.ge2e), _to_bytes(one.campplus)) for one in who]
    sealed = sealing.seal(msgspec.msgpack.encode(content), _context(recording), keys.wrapping)
    made = Protection(
        recording=recording,
        label=label,
        owner=owner,
        created=datetime.fromtimestamp(control.now(), UTC),
        sealed=base64url.encode(sealed.body),
        envelope=sealed.envelope,
    )
    key = protection_key(recording)
    unusable = Refused("VALUE_RANGE", "A label and an owner are 1 to 4,000 characters long.")
    with raising(unusable, on=ValueError):
        data = signed.sign(made, keys.signing)
    if _parse(key, data, keys) is None:
        raise unusable

    def is_genuine(stored: bytes) -> bool:
        return _parse(key, stored, keys) is not None

    if put_unless_genuine(control, key, data, limit=_MAX_BYTES, is_genuine=is_genuine) != data:
        message = "The recording is protected already: `voicedrop protect list` shows it."
        raise Refused("FILE_EXISTS", message, pointer=key)
    return made


def list_protections(control: Store, keys: Keyring) -> Iterator[tuple[str, Protection | None]]:
    """Yield the key of every object in place of a protection, with the protection; None if it is
    not signed by us for this place."""
    for info in control.list(PROTECTED):
        yield info.key, _read(info.key, control, keys)


def read_protected_voices(control: Store, keys: Keyring) -> ProtectedVoices:
    """Return the protections that are in force now.

    The bucket is listed each time. Objects that are as they were are not read again, and what is
    removed is forgotten. Raises what unwrapping a key raises, because a protection that cannot be
    opened must not be passed over.
    """
    global _opened
    known = _opened  # another thread may replace it meanwhile
    found = {
        place: known[place] if place in known else _open(info.key, control, keys)
        for info in control.list(PROTECTED)
        for place in [_place(info, control, keys)]
    }
    _opened = found
    return ProtectedVoices(tuple(voice for voice in found.values() if voice))


_Place = tuple[str, str, str, frozenset[str]]
_opened: dict[_Place, ProtectedVoice | None] = {}
"""The protections that were last listed; None for what is not to be believed."""


def _place(info: Info, control: Store, keys: Keyring) -> _Place:
    return control.name, info.key, info.etag, frozenset(keys.verifying)


def _open(key: str, control: Store, keys: Keyring) -> ProtectedVoice | None:
    stored = _read(key, control, keys)
    if stored is None:
        log.warning("%s is not a protection that we signed: it is ignored", key)
        return None
    body = base64url.decode(stored.sealed)
    content = sealing.open_sealed(body, stored.envelope, keys.wrapping)
    pairs = msgspec.msgpack.decode(content, type=list[tuple[bytes, bytes]])
    who = [Speaker(_from_bytes(ge2e), _from_bytes(campplus)) for ge2e, campplus in pairs]
    return ProtectedVoice(stored.recording, stored.owner, who)


def _read(key: str, control: Store, keys: Keyring) -> Protection | None:
    try:
        return _parse(key, control.get(key, limit=_MAX_BYTES).data, keys)
    except Refused:
        return None


def _parse(key: str, data: bytes, keys: Keyring) -> Protection | None:
    try:
        found = signed.read(data, Protection, keys.verifying)
    except Refused:
        return None
    is_own = key == protection_key(found.recording)
    return found if is_own and found.envelope.ctx == _context(found.recording) else None


def _context(recording: str) -> Context:
    return Context(job="protected", item=recording, mt="application/msgpack")


def _to_bytes(embedding: Embedding) -> bytes:
    return np.asarray(embedding, "<f4").tobytes()


def _from_bytes(data: bytes) -> Embedding:
    return np.frombuffer(data, "<f4")
