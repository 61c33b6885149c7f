"""A listening test of the watermark as one HTML file that needs no server.

It is an ABX test (Munson and Gardner, 1950): X is A or B at random, separately for each listener,
and the number of correct answers is compared with guessing.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

import watermark
from core.audio import encoding
from core.audio.waveform import Audio
from core.version import VERSION

_TEMPLATE = Path(__file__).with_name("listening_test.html")


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """The same excerpt without and with the mark, as `data:` URLs of WAV files."""

    name: str
    plain: str
    marked: str


def make_pair(name: str, sound: Audio, *, strength: float, seconds: float) -> Pair:
    """Mark the loudest `seconds` of a recording.

    The key is random and discarded: a recording both marked and unmarked reveals chips of its key,
    so a key in use must never be used here.
    """
    sound = _cut_loudest(sound, seconds)
    payload = secrets.randbits(32)
    key = secrets.token_bytes(32)
    marked = watermark.embed(sound.samples, sound.rate, payload, key, strength=strength)
    return Pair(name=name, plain=_data_url(sound), marked=_data_url(Audio(marked, sound.rate)))


def render_page(pairs: Sequence[Pair], *, trials: int, strength: float) -> str:
    """Return the page as HTML. Clips are repeated in turn to make `trials` trials."""
    content = {
        "id": secrets.token_hex(8),
        "version": VERSION,
        "strength": strength,
        "trials": trials,
        "clips": msgspec.to_builtins(list(pairs)),
    }
    # Escaping keeps a file name from closing the script element.
    text = json.dumps(content).replace("<", "\\u003c")
    return _TEMPLATE.read_text(encoding="utf-8").replace('"PAGE"', text)


def _cut_loudest(sound: Audio, seconds: float) -> Audio:
    size = round(seconds * sound.rate)
    if len(sound.samples) <= size:
        return sound
    total = np.cumsum(np.append(0.0, sound.samples.astype(np.float64) ** 2))
    start = int(np.argmax(total[size:] - total[:-size]))
    return Audio(sound.samples[start : start + size], sound.rate)


def _data_url(sound: Audio) -> str:
    return "data:audio/wav;base64," + base64.b64encode(encoding.encode(sound, "wav").data).decode()
