"""What is kept of a voice between jobs: voiceprints, sealed under the key of that voice.

A voiceprint takes half a minute of processor time and describes a person. It is kept beside the key
of the voice (core/crypto/voice_key.py), which is destroyed when consent is withdrawn.
"""

from __future__ import annotations

import msgspec

from core.consent.gate import Gate
from core.crypto import sealing, voice_key
from core.crypto.keys import KeyProvider
from core.crypto.sealing import Context
from core.errors import Misconfigured, Refused
from core.job.runtime import Runtime
from core.storage.object_keys import unbound_voiceprint_key, voiceprint_key
from core.voice import Voiceprint

LIMIT = 16 * 1024 * 1024
"""Largest sealed voiceprint, in bytes."""


def read(context: Context, gate: Gate, runtime: Runtime) -> Voiceprint | None:
    """Return the voiceprint with this context; None if none is kept that can be opened."""
    keys = _open_key(gate, runtime)
    if kept := _read(voiceprint_key(gate.reference_sha256, context.item), context, keys, runtime):
        return kept
    # Release 0.1.0 kept voiceprints without a key of their voice.
    former = unbound_voiceprint_key(context.item)
    if kept := _read(former, context, runtime.keys.wrapping, runtime):
        keep(kept, context, gate, runtime)
        runtime.control.delete(former)
    return kept


def keep(voiceprint: Voiceprint, context: Context, gate: Gate, runtime: Runtime) -> None:
    """Store a voiceprint. Raises Refused CONSENT_REVOKED if consent is withdrawn by now: nothing is
    kept then."""
    sealed = sealing.seal(voiceprint.dump(), context, _open_key(gate, runtime))
    key = voiceprint_key(gate.reference_sha256, context.item)
    runtime.control.put(key, sealed.body, metadata=sealing.envelope_metadata(sealed.envelope))
    # Looked up after it was stored, because a withdrawal is noted before it deletes what is kept:
    # one of the two sees the other.
    if runtime.consents.is_withdrawn(gate.claim):
        runtime.consents.forget_if_withdrawn(gate.reference_sha256)
        raise Refused("CONSENT_REVOKED", pointer=gate.pointer)


def _open_key(gate: Gate, runtime: Runtime) -> KeyProvider:
    return voice_key.open_voice_key(
        gate.reference_sha256, gate.valid_from, runtime.control, runtime.keys
    )


def _read(key: str, context: Context, keys: KeyProvider, runtime: Runtime) -> Voiceprint | None:
    try:
        stored = runtime.control.get(key, limit=LIMIT)
        envelope = sealing.envelope_from_metadata(stored.info.metadata)
        if envelope.ctx != context:
            return None
        return Voiceprint.parse(sealing.open_sealed(stored.data, envelope, keys))
    except (Refused, Misconfigured, msgspec.DecodeError):
        # Missing, damaged, or sealed with a key that was destroyed: computed again and replaced.
        return None
