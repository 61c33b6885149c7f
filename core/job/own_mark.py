"""Is a recording our own output? A clone of a clone would evade the original consent.

The search is thorough, because output that is played a little faster deceives a fast one. It takes
0.05 s for each second of speech. The verdict is kept with the voice (core/job/kept_voice.py), and
here for as long as the process runs, because one recording may be the reference of several voices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import watermark
from core.audio.waveform import Audio
from core.errors import Refused

_MOST = 1024
_verdicts: dict[bytes, bool] = {}
"""Digest of the keys and samples -> whether there is a mark."""


def refuse_own_output(speech: Audio, keys: Mapping[str, bytes], pointer: str) -> None:
    """Raises Refused REF_IS_SYNTHETIC. `keys`: watermark keys by key id."""
    digest = hashlib.sha256(b"\0".join(keys.values()) + speech.rate.to_bytes(4, "little"))
    digest.update(speech.samples.tobytes())
    name = digest.digest()
    is_marked = _verdicts.get(name)
    if is_marked is None:
        found = watermark.detect_any(speech.samples, speech.rate, keys, thorough=True)
        is_marked = found.payload is not None
        if len(_verdicts) >= _MOST:
            _verdicts.clear()
        _verdicts[name] = is_marked
    if is_marked:
        raise Refused("REF_IS_SYNTHETIC", pointer=pointer)
