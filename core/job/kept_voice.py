"""What is kept of a voice between jobs: its voiceprint, and what was found in its recording.

    control  voices/<recording>/<name>.sealed  msgpack: the fields of `Voiceprint`, `examination`

With VOICEDROP_VOICE_CACHE=redis it is in Redis instead (core/storage/redis_cache.py).

Learning a voice takes half a minute of processor time, preparing and examining its recording a
quarter of a second. The file describes a person. It is sealed under the key of the voice
(core/crypto/voice_key.py), which is destroyed when consent is withdrawn. The examination is signed,
for this voice and voiceprint only. Earlier versions kept voiceprints without one: they stay in use,
and the recording is examined again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import msgspec

from core.consent.gate import Gate
from core.crypto import sealing
from core.crypto.keys import KeyProvider
from core.crypto.sealing import Context
from core.crypto.voice_key import find_voice_key, open_voice_key
from core.documents import signed
from core.documents.signed import Signature
from core.errors import Misconfigured, Refused
from core.job.runtime import Runtime
from core.storage.cache import Entry, read_entry
from core.storage.object_keys import REVOKED_SUFFIX, unbound_voiceprint_key
from core.voice import Voiceprint


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The questions that an examination answered, apart from those that the version implies."""

    detector: str
    """Version and depth of the search for our own watermark."""
    mark_keys: list[str]
    """Ids of the watermark keys whose mark was searched."""
    extensions: list[str]
    """Extension of the recording's key, which is compared with the content."""
    words: bool
    """Whether the words were compared with the transcript, if there is one."""
    protected: str = ""
    """`ProtectedVoices.digest` of those with which it was compared; empty: with none."""

    def covers(self, other: Asked) -> bool:
        """Return whether these questions include all of `other`."""
        return (
            self.detector == other.detector
            and self.extensions == other.extensions
            and self.words >= other.words
            and other.protected in ("", self.protected)
            and set(self.mark_keys) >= set(other.mark_keys)
        )


class Examination(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was found in the recording of a voice. Our own mark is not in it."""

    asked: Asked
    notices: list[str]
    """Codes of the notices about the recording."""
    words_differ: bool = False
    """The words that were heard are not those of the transcript."""
    protected: list[str] = []
    """Ids of the protections whose voice seems to speak."""

    @property
    def is_trimmed(self) -> bool:
        return "TRIMMED" in self.notices


class SignedExamination(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["voicedrop/examination/1"] = "voicedrop/examination/1"
    voice: str
    """`Context.item` of the file: a digest of everything that the voice is learned from."""
    voiceprint: str
    """SHA-256 of its voiceprint."""
    examination: Examination
    signature: Signature | None = None


class _File(Voiceprint, frozen=True, kw_only=True):
    examination: bytes = b""
    """A `SignedExamination` in canonical JSON; empty in files of earlier versions."""


@dataclass(frozen=True, slots=True)
class KeptVoice:
    voiceprint: Voiceprint
    examination: Examination | None
    """None if an earlier version kept the voice."""


def read(context: Context, gate: Gate, runtime: Runtime) -> KeptVoice | None:
    """Return the voice with this context; None if none is kept that can be opened and believed.

    Raises Refused CONSENT_REVOKED if the record was withdrawn under which the voice was first used,
    and nobody has noticed because this job names another one.
    """
    recording = gate.claim.reference_sha256
    key = find_voice_key(recording, runtime.control, runtime.keys)
    if key and key.document.consent not in ("", gate.claim.key):
        revoked_key = key.document.consent + REVOKED_SUFFIX
        runtime.consents.withdraw_marked(revoked_key, used=[recording])
        _refuse_withdrawn(gate, runtime)
    entry = runtime.voiceprints.get(recording, context.item) if key else None
    if key and (kept := _open(entry, context, key.wrapping, runtime)):
        return kept
    # Release 0.1.0 kept voiceprints without a key of their voice.
    former = unbound_voiceprint_key(context.item)
    entry = read_entry(runtime.control, former)
    if kept := _open(entry, context, runtime.keys.wrapping, runtime):
        keep(kept, context, gate, runtime)
        runtime.control.delete(former)
    return kept


def keep(voice: KeptVoice, context: Context, gate: Gate, runtime: Runtime) -> None:
    """Store a voice, in place of what is stored. Raises Refused CONSENT_REVOKED if consent is
    withdrawn by now: nothing is kept then."""
    made_under = (gate.valid_from, gate.claim.key or "")
    voice_key = open_voice_key(
        gate.claim.reference_sha256, made_under, runtime.control, runtime.keys
    )
    data = msgspec.msgpack.encode(
        _File(
            fingerprint=voice.voiceprint.fingerprint,
            data=voice.voiceprint.data,
            match=voice.voiceprint.match,
            examination=_sign(voice, context.item, runtime),
        )
    )
    sealed = sealing.seal(data, context, voice_key.wrapping)
    entry = Entry(sealed.body, sealing.envelope_metadata(sealed.envelope))
    runtime.voiceprints.put(gate.claim.reference_sha256, context.item, entry)
    # Looked up after it was stored, because a withdrawal is noted before it deletes what is kept:
    # one of the two sees the other.
    _refuse_withdrawn(gate, runtime)


def _refuse_withdrawn(gate: Gate, runtime: Runtime) -> None:
    if runtime.consents.is_withdrawn(gate.claim):
        runtime.consents.forget_if_withdrawn(gate.claim.reference_sha256)
        raise Refused("CONSENT_REVOKED", pointer=gate.claim.pointer)


def _open(
    entry: Entry | None, context: Context, keys: KeyProvider, runtime: Runtime
) -> KeptVoice | None:
    if entry is None:
        return None
    try:
        data = sealing.open_object(entry.body, entry.metadata, context, keys)
        file = msgspec.msgpack.decode(data, type=_File)
        voiceprint = Voiceprint(fingerprint=file.fingerprint, data=file.data, match=file.match)
        examination = _verify(file.examination, context.item, voiceprint, runtime)
        return KeptVoice(voiceprint, examination)
    except (Refused, Misconfigured, msgspec.DecodeError):
        # Damaged, or sealed with a key that was destroyed: computed again and replaced.
        return None


def _sign(voice: KeptVoice, name: str, runtime: Runtime) -> bytes:
    if voice.examination is None:
        return b""
    document = SignedExamination(
        voice=name, voiceprint=_digest(voice.voiceprint), examination=voice.examination
    )
    return signed.sign(document, runtime.keys.signing)


def _verify(data: bytes, name: str, voiceprint: Voiceprint, runtime: Runtime) -> Examination | None:
    """Raises Refused SIGNATURE_INVALID unless we signed it for this name and voiceprint."""
    if not data:
        return None
    document = signed.read(data, SignedExamination, runtime.keys.verifying)
    if (document.voice, document.voiceprint) != (name, _digest(voiceprint)):
        raise Refused("SIGNATURE_INVALID", "The examination is of another voice.")
    return document.examination


def _digest(voiceprint: Voiceprint) -> str:
    return hashlib.sha256(voiceprint.dump()).hexdigest()
