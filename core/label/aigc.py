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

UNIT_S = 0.12
"""Seconds of a short tone; a long one takes three."""
TONE_HZ = 800.0
"""Hz."""
TONE_PEAK = 0.25
FADE_S = 0.005
"""Seconds at both ends of a tone, so that it does not click."""
_RHYTHM = ((1, 1), (3, 3), (1, 1), (1, 0))
"""(units of tone, units of silence after it): . -   . ."""
_GAP_UNITS = 3
"""Units of silence between cue and speech."""

_CUE_AND_GAP_S = UNIT_S * (sum(tone + gap for tone, gap in _RHYTHM) + _GAP_UNITS)

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


def make_label(producer: str, produce_id: str) -> tuple[Aigc, list[Notice]]:
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


def add_label(container: bytes, label: Aigc) -> bytes:
    """The WAV, MP3, FLAC or Opus file with the label in it, read back.

    Raises Failed LABEL_VERIFY_FAILED if it does not read back as the only one.
    """
    if tags.read_field(container, FIELD):
        raise Failed("LABEL_VERIFY_FAILED", "The file carries a label already; we change none.")
    try:
        labelled = tags.add_field(container, FIELD, msgspec.json.encode(label).decode())
    except Explained as exc:
        raise Failed("LABEL_VERIFY_FAILED", f"The label was not written: {exc}.") from exc
    except ValueError as exc:
        raise Failed("LABEL_VERIFY_FAILED", "The label was not written: it is not ASCII.") from exc
    if read_labels(labelled) != [label]:
        raise Failed("LABEL_VERIFY_FAILED")
    return labelled


def read_labels(container: bytes) -> list[Aigc]:
    """Every implicit label of an audio file; one is right, none or more are not.

    Flat or inside `{"AIGC": ...}`, as both are in use. Raises Failed LABEL_VERIFY_FAILED for a
    field of this name that is no label.
    """
    try:
        return [_parse(value.rstrip(b"\0")) for value in tags.read_field(container, FIELD)]
    except (ValueError, RecursionError) as exc:
        raise Failed("LABEL_VERIFY_FAILED", "The label breaks the standard.") from exc


class _Wrapper(msgspec.Struct, rename="upper"):
    aigc: Aigc


def _parse(value: bytes) -> Aigc:
    document = msgspec.json.decode(value)
    if isinstance(document, dict) and FIELD in document:
        return msgspec.convert(document, _Wrapper).aigc
    return msgspec.convert(document, Aigc)


def make_cue(rate: int) -> Audio:
    """`AI` in Morse code: 1.32 s, 800 Hz, -12 dBFS."""
    unit = round(rate * UNIT_S)
    parts = [
        part
        for tone, gap in _RHYTHM
        for part in (_make_tone(tone * unit, rate), _make_silence(gap * unit))
    ]
    return Audio(np.concatenate(parts), rate)


def add_cue(audio: Audio, where: Cue) -> Audio:
    """The audio with the cue before it, after it, or both."""
    signal, gap = (
        make_cue(audio.rate).samples,
        _make_silence(_GAP_UNITS * round(audio.rate * UNIT_S)),
    )
    before = [signal, gap] if where in ("morse-start", "morse-both") else []
    after = [gap, signal] if where in ("morse-end", "morse-both") else []
    return Audio(np.concatenate([*before, audio.samples, *after]), audio.rate)


def lead_seconds(where: Cue) -> float:
    """Seconds from the beginning of `add_cue`'s audio to that of the speech."""
    return _CUE_AND_GAP_S if where in ("morse-start", "morse-both") else 0.0


def trail_seconds(where: Cue) -> float:
    """Seconds from the end of the speech to that of `add_cue`'s audio."""
    return _CUE_AND_GAP_S if where in ("morse-end", "morse-both") else 0.0


def _make_tone(length: int, rate: int) -> Samples:
    time = np.arange(length) / rate
    envelope = np.minimum(1.0, np.minimum(time, time[::-1]) / FADE_S)
    return (TONE_PEAK * envelope * np.sin(2 * np.pi * TONE_HZ * time)).astype(np.float32)


def _make_silence(length: int) -> Samples:
    return np.zeros(length, np.float32)
