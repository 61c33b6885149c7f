"""`voicedrop abx`: recordings in, a blinded listening test of the watermark out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

import watermark
from core import listening_test
from core.audio.stream import Recording
from core.audio.waveform import Audio
from core.errors import Refused
from core.settings import MarkPreset
from handlers.cli.screen import Progress, Report

SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus"})
_READ_S = 120
"""The loudest stretch is looked for in the first two minutes of a recording."""
_LEAST_S = 1.0


def make(
    sources: Sequence[Path],
    out: Path,
    *,
    trials: int,
    seconds: float,
    preset: MarkPreset,
    progress: Progress,
) -> Report:
    """Write the page. Raises Refused OBJECT_MISSING, AUDIO_..., Failed AUDIO_DECODER_CRASHED."""
    strength = watermark.STRENGTHS[preset]
    pairs = []
    for path in islice(_files(sources), trials):
        progress.doing(f"marking {path.name}")
        sound = _read(path)
        if sound.seconds < _LEAST_S:
            raise Refused("AUDIO_TOO_SHORT", "Less than a second.", pointer=str(path))
        pairs.append(listening_test.make_pair(path.name, sound, strength=strength, seconds=seconds))
    text = listening_test.render_page(pairs, trials=trials, strength=strength)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    data = {"page": str(out), "clips": len(pairs), "trials": trials, "strength": strength}
    lines = [f"{out}: {trials} trials of {len(pairs)} clips, {len(text) >> 20} MiB"]
    return Report(data, [*lines, "Open it in a browser; it needs no network. Headphones, please."])


def _files(sources: Sequence[Path]) -> list[Path]:
    """Every recording, folders searched through."""
    found: list[Path] = []
    for source in sources:
        if not source.exists():
            raise Refused("OBJECT_MISSING", "No such file or folder.", pointer=str(source))
        inside = sorted(source.rglob("*")) if source.is_dir() else [source]
        found += [p for p in inside if p == source or p.suffix.lower() in SUFFIXES]
    if not found:
        names = ", ".join(map(str, sources))
        raise Refused("OBJECT_MISSING", f"No recording (WAV, FLAC, MP3, Ogg, Opus) in {names}.")
    return found


def _read(path: Path) -> Audio:
    with path.open("rb") as file:
        recording = Recording(file, name=str(path))
        blocks, size = [], 0
        for block in recording:
            blocks.append(block)
            size += len(block)
            if size >= _READ_S * recording.rate:
                break
        return Audio(np.concatenate(blocks), recording.rate)
