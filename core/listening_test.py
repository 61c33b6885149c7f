"""A page for the ear: can you tell marked sound from unmarked? One HTML file that works from disk.

An ABX test (Munson and Gardner, 1950): X is A or B, drawn anew for each listener, and the number of
right answers is held against guessing.
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
    """The same excerpt twice, as `data:` addresses of WAV files."""

    name: str
    plain: str
    marked: str


def make_pair(name: str, sound: Audio, *, strength: float, seconds: float) -> Pair:
    """The loudest stretch of a recording, unmarked and marked.

    The key is drawn here and forgotten: whoever holds a sound both marked and unmarked learns
    signs of its key, so that must never be one in use.
    """
    sound = _cut_loudest(sound, seconds)
    payload = secrets.randbits(32)
    key = secrets.token_bytes(32)
    marked = watermark.embed(sound.samples, sound.rate, payload, key, strength=strength)
    return Pair(name=name, plain=_data_url(sound), marked=_data_url(Audio(marked, sound.rate)))


def render_page(pairs: Sequence[Pair], *, trials: int, strength: float) -> str:
    """The whole page. Clips take turns until there are `trials` of them."""
    held = {
        "id": secrets.token_hex(8),
        "version": VERSION,
        "strength": strength,
        "trials": trials,
        "clips": msgspec.to_builtins(list(pairs)),
    }
    # No name of a file may end the script.
    text = json.dumps(held).replace("<", "\\u003c")
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
