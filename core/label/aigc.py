"""The implicit label and the audible cue of GB 45438-2025.

The implicit label is metadata of the file (Annex E), placed in each container according to
TC260-PG-202510A. The audible cue (5.3) is the rhythm short-long, short-short, `AI` in Morse code.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np

from core.audio.waveform import Audio, Samples
from core.errors import ExplainedError, Failed, Notice, Refused
from core.label import tags

FIELD = "AIGC"
Cue = Literal["none", "morse-start", "morse-end", "morse-both"]

UNIT_S = 0.12
"""Length of a short tone in seconds; a long one takes three units."""
TONE_HZ = 800.0
"""Frequency of the tones in Hz."""
TONE_PEAK = 0.25
FADE_S = 0.005
"""Seconds of the fades at both ends of a tone, which avoid clicks."""
_RHYTHM = ((1, 1), (3, 3), (1, 1), (1, 0))
"""(units of tone, units of silence after it): . -   . ."""
_GAP_UNITS = 3
"""Units of silence between cue and speech."""

_CUE_AND_GAP_S = UNIT_S * (sum(tone + gap for tone, gap in _RHYTHM) + _GAP_UNITS)

# Annex E j): 0x21, 0x23-0x5B, 0x5D-0x7E. `\Z` instead of `$` excludes a final line feed.
Value = Annotated[str, msgspec.Meta(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]*\Z")]


class Aigc(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The implicit label, with the field names of the standard."""

    label: Literal["1", "2", "3"]
    """1: is synthetic, 2: may be synthetic, 3: is suspected to be synthetic."""
    content_producer: Value = ""
    """Code of the provider that generated the content."""
    produce_id: Value = msgspec.field(name="ProduceID", default="")
    """Identifier of this content, assigned by the producer."""
    reserved_code1: Value = ""
    content_propagator: Value = ""
    propagate_id: Value = msgspec.field(name="PropagateID", default="")
    reserved_code2: Value = ""


def make_label(producer: str, produce_id: str) -> tuple[Aigc, list[Notice]]:
    """Create the label of new content, whose propagator is its producer (Annex E, note 1).

    Without a producer code the label says only that the content is synthetic, and a notice says
    that it is incomplete: no code is invented. Raises Refused LABEL_CHARSET.
    """
    label = Aigc(
        label="1",
        content_producer=producer,
        produce_id=produce_id,
        content_propagator=producer,
        propagate_id=produce_id,
    )
    try:
        msgspec.convert(msgspec.to_builtins(label), Aigc)
    except msgspec.ValidationError as exc:
        raise Refused("LABEL_CHARSET") from exc
    return label, [] if producer else [Notice("LABEL_INCOMPLETE")]


def add_label(container: bytes, label: Aigc) -> bytes:
    """Add the label to a WAV, MP3, FLAC or Opus file and verify it by reading it back.

    Raises Failed LABEL_VERIFY_FAILED if the file already has a label or cannot take one.
    """
    if tags.read_field(container, FIELD):
        raise Failed("LABEL_VERIFY_FAILED", "The file already has a label, which is not changed.")
    try:
        labelled = tags.add_field(container, FIELD, msgspec.json.encode(label).decode())
    except ExplainedError as exc:
        raise Failed("LABEL_VERIFY_FAILED", f"The label was not written: {exc}.") from exc
    except ValueError as exc:
        raise Failed("LABEL_VERIFY_FAILED", "The label was not written: it is not ASCII.") from exc
    if read_labels(labelled) != [label]:
        raise Failed("LABEL_VERIFY_FAILED")
    return labelled


def read_labels(container: bytes) -> list[Aigc]:
    """Return every implicit label of an audio file; a correctly labelled file has exactly one.

    A label is the object itself or wrapped in `{"AIGC": ...}`: both are in use. Raises Failed
    LABEL_VERIFY_FAILED for a field of this name that is not a label.
    """
    try:
        return [_parse(value.rstrip(b"\0")) for value in tags.read_field(container, FIELD)]
    except (ValueError, RecursionError) as exc:
        raise Failed("LABEL_VERIFY_FAILED", "The label violates GB 45438-2025.") from exc


class _Wrapper(msgspec.Struct, rename="upper"):
    aigc: Aigc


def _parse(value: bytes) -> Aigc:
    document = msgspec.json.decode(value)
    if isinstance(document, dict) and FIELD in document:
        return msgspec.convert(document, _Wrapper).aigc
    return msgspec.convert(document, Aigc)


def make_cue(rate: int) -> Audio:
    """Create the cue, `AI` in Morse code: 1.32 s, 800 Hz, -12 dBFS."""
    unit = round(rate * UNIT_S)
    parts = [
        part
        for tone, gap in _RHYTHM
        for part in (_make_tone(tone * unit, rate), _make_silence(gap * unit))
    ]
    return Audio(np.concatenate(parts), rate)


def add_cue(audio: Audio, where: Cue) -> Audio:
    """Return the audio with the cue before it, after it, or both."""
    signal, gap = (
        make_cue(audio.rate).samples,
        _make_silence(_GAP_UNITS * round(audio.rate * UNIT_S)),
    )
    before = [signal, gap] if where in ("morse-start", "morse-both") else []
    after = [gap, signal] if where in ("morse-end", "morse-both") else []
    return Audio(np.concatenate([*before, audio.samples, *after]), audio.rate)


def lead_seconds(where: Cue) -> float:
    """Return the seconds that `add_cue` inserts before the speech."""
    return _CUE_AND_GAP_S if where in ("morse-start", "morse-both") else 0.0


def trail_seconds(where: Cue) -> float:
    """Return the seconds that `add_cue` appends after the speech."""
    return _CUE_AND_GAP_S if where in ("morse-end", "morse-both") else 0.0


def _make_tone(length: int, rate: int) -> Samples:
    time = np.arange(length) / rate
    envelope = np.minimum(1.0, np.minimum(time, time[::-1]) / FADE_S)
    return (TONE_PEAK * envelope * np.sin(2 * np.pi * TONE_HZ * time)).astype(np.float32)


def _make_silence(length: int) -> Samples:
    return np.zeros(length, np.float32)
