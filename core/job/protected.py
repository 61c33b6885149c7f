"""Refuse recordings and outputs in which a protected voice speaks (core/consent/protection.py).

Where nothing is protected, no encoder is loaded. What matches is part of the examination that is
kept with a voice (core/job/kept_voice.py); whether the record names the owner is decided each time.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.audio import waveform
from core.audio.waveform import Audio
from core.consent.gate import Gate
from core.consent.protection import ProtectedVoices
from core.errors import Notice, Refused
from core.speech.speaker import describe_speaker
from core.voice import SpeechChunk

_SHOWN = 8
"""Digits of a protection's id in a message."""


def find_matches(audio: Audio, protected: ProtectedVoices) -> list[str]:
    """Return the ids of the protections whose voice seems to speak."""
    return protected.find_matches(describe_speaker(audio)) if protected.voices else []


def admit(matches: list[str], protected: ProtectedVoices, gate: Gate, key: str) -> list[Notice]:
    """Return a notice if the voice of a recording is protected and its record names the owner.

    `matches`: ids of protections, which may have been removed since. `key`: of the recording.
    Raises Refused VOICE_PROTECTED if the record names no owner, or another one.
    """
    if others := protected.without_permission(matches, gate.protection_owner):
        message = (
            f"{key}: the voice is protected ({_short(others)}). Only a consent record that names "
            "the owner of that protection (`voicedrop consent new --protection-owner`) admits it."
        )
        raise Refused("VOICE_PROTECTED", message, pointer=gate.claim.pointer)
    is_waived = any(voice.recording in matches for voice in protected.voices)
    return [Notice("PROTECTION_WAIVED", pointer=gate.claim.pointer)] if is_waived else []


def withhold(
    spoken: Sequence[SpeechChunk], protected: ProtectedVoices, gate: Gate, pointer: str
) -> None:
    """Raises Refused VOICE_PROTECTED if the speech is in a protected voice whose owner the consent
    record does not name."""
    matches = find_matches(waveform.join(spoken), protected)
    if others := protected.without_permission(matches, gate.protection_owner):
        message = f"The speech resembles a protected voice ({_short(others)}): not released."
        raise Refused("VOICE_PROTECTED", message, pointer=pointer)


def _short(ids: Sequence[str]) -> str:
    return ", ".join(one[:_SHOWN] for one in ids)
