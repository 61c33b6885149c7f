"""The labels that law asks for on synthetic speech.

Implicit, in the file's metadata: GB 45438-2025, Annex E; where it stands in each container:
TC260-PG-202510A. Audible: GB 45438-2025, 5.3, a rhythm of short-long, short-short, which is `AI`
in Morse code. What they fulfil and what not: docs/labels.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np

from core.audio.waveform import Audio, Samples
from core.errors import Explained, Failed, Notice, Refused
from core.label import tags

FIELD = "AIGC"
Cue = Literal["none", "morse-start", "morse-end", "morse-both"]

UNIT = 0.12
"""Seconds of a short tone; a long one takes three."""
PITCH = 800.0
"""Hz."""
PEAK = 0.25
FADE = 0.005
"""Seconds at both ends of a tone, so that it does not click."""
_RHYTHM = ((1, 1), (3, 3), (1, 1), (1, 0))
"""(units of tone, units of silence after it): . -   . ."""
_APART = 3
"""Units of silence between cue and speech."""

_WITH_GAP = UNIT * (sum(tone + gap for tone, gap in _RHYTHM) + _APART)

# Annex E j): 0x21, 0x23-0x5B, 0x5D-0x7E. The explicit end keeps a final line feed out.
Value = Annotated[str, msgspec.Meta(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]*\Z")]


class Aigc(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The implicit label. Field names are the standard's."""

    label: Literal["1", "2", "3"]
    """1: is, 2: may be, 3: is suspected to be synthetic."""
    content_producer: Value = ""
    """Code of the provider that made the content."""
    produce_id: Value = msgspec.field(name="ProduceID", default="")
    """The producer's own number of this content."""
    reserved_code1: Value = ""
    content_propagator: Value = ""
    propagate_id: Value = msgspec.field(name="PropagateID", default="")
    reserved_code2: Value = ""


def aigc(producer: str, produce_id: str) -> tuple[Aigc, list[Notice]]:
    """The label of a content when it is made: its propagator is its producer (Annex E, note 1).

    Without a producer code the label says only that the content is synthetic, and a notice says
    that it is incomplete: a code is never invented. Raises Refused LABEL_CHARSET.
    """
    made = Aigc(
        label="1",
        content_producer=producer,
        produce_id=produce_id,
        content_propagator=producer,
        propagate_id=produce_id,
    )
    try:
        msgspec.convert(msgspec.to_builtins(made), Aigc)
    except msgspec.ValidationError as exc:
        raise Refused("LABEL_CHARSET") from exc
    return made, [] if producer else [Notice("LABEL_INCOMPLETE")]


def write(container: bytes, label: Aigc) -> bytes:
    """The WAV, MP3, FLAC or Opus file with the label in it, read back.

    Raises Failed LABEL_VERIFY_FAILED if it does not read back as the only one.
    """
    if tags.read(container, FIELD):
        raise Failed("LABEL_VERIFY_FAILED", "The file carries a label already; we change none.")
    try:
        labelled = tags.add(container, FIELD, msgspec.json.encode(label).decode())
    except Explained as exc:
        raise Failed("LABEL_VERIFY_FAILED", f"The label was not written: {exc}.") from exc
    except ValueError as exc:
        raise Failed("LABEL_VERIFY_FAILED", "The label was not written: it is not ASCII.") from exc
    if read(labelled) != [label]:
        raise Failed("LABEL_VERIFY_FAILED")
    return labelled


def read(container: bytes) -> list[Aigc]:
    """Every implicit label of an audio file; one is right, none or more are not.

    Flat or inside `{"AIGC": ...}`, as both are in use. Raises Failed LABEL_VERIFY_FAILED for a
    field of this name that is no label.
    """
    try:
        return [_parse(value.rstrip(b"\0")) for value in tags.read(container, FIELD)]
    except (ValueError, RecursionError) as exc:
        raise Failed("LABEL_VERIFY_FAILED", "The label breaks the standard.") from exc


class _Wrapper(msgspec.Struct, rename="upper"):
    aigc: Aigc


def _parse(value: bytes) -> Aigc:
    document = msgspec.json.decode(value)
    if isinstance(document, dict) and FIELD in document:
        return msgspec.convert(document, _Wrapper).aigc
    return msgspec.convert(document, Aigc)


def cue(rate: int) -> Audio:
    """`AI` in Morse code: 1.32 s, 800 Hz, -12 dBFS."""
    unit = round(rate * UNIT)
    parts = [
        part for tone, gap in _RHYTHM for part in (_tone(tone * unit, rate), _rest(gap * unit))
    ]
    return Audio(np.concatenate(parts), rate)


def with_cue(audio: Audio, where: Cue) -> Audio:
    """The audio with the cue before it, after it, or both."""
    signal, gap = cue(audio.rate).samples, _rest(_APART * round(audio.rate * UNIT))
    before = [signal, gap] if where in ("morse-start", "morse-both") else []
    after = [gap, signal] if where in ("morse-end", "morse-both") else []
    return Audio(np.concatenate([*before, audio.samples, *after]), audio.rate)


def lead(where: Cue) -> float:
    """Seconds from the beginning of `with_cue`'s audio to that of the speech."""
    return _WITH_GAP if where in ("morse-start", "morse-both") else 0.0


def trail(where: Cue) -> float:
    """Seconds from the end of the speech to that of `with_cue`'s audio."""
    return _WITH_GAP if where in ("morse-end", "morse-both") else 0.0


def _tone(length: int, rate: int) -> Samples:
    time = np.arange(length) / rate
    envelope = np.minimum(1.0, np.minimum(time, time[::-1]) / FADE)
    return (PEAK * envelope * np.sin(2 * np.pi * PITCH * time)).astype(np.float32)


def _rest(length: int) -> Samples:
    return np.zeros(length, np.float32)
