"""`voicedrop abx`: make a blinded listening test of the watermark from recordings."""

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
from handlers.cli.files import reading, replace_file
from handlers.cli.screen import CommandOutput, Progress

SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus"})
_READ_S = 120
"""Seconds that are read of a recording; the loudest excerpt of them is used."""
_MIN_S = 1.0


def make_listening_test(
    sources: Sequence[Path],
    out: Path,
    *,
    trials: int,
    seconds: float,
    preset: MarkPreset,
    progress: Progress,
) -> CommandOutput:
    """Write the page. Raises Refused OBJECT_MISSING, FILE_UNUSABLE or
    AUDIO_..., Failed AUDIO_DECODER_CRASHED."""
    strength = watermark.STRENGTHS[preset]
    pairs = []
    for path in islice(_find_recordings(sources), trials):
        progress.update_status(f"marking {path.name}")
        audio = _read(path)
        if audio.seconds < _MIN_S:
            raise Refused("AUDIO_TOO_SHORT", "It is shorter than a second.", pointer=str(path))
        pairs.append(listening_test.make_pair(path.name, audio, strength=strength, seconds=seconds))
    text = listening_test.render_page(pairs, trials=trials, strength=strength)
    replace_file(out, text.encode())
    data = {"page": str(out), "clips": len(pairs), "trials": trials, "strength": strength}
    clips = "1 clip" if len(pairs) == 1 else f"{len(pairs)} clips"
    lines = [f"{out}: {trials} trials of {clips}, {len(text) / 2**20:.1f} MiB"]
    lines.append("Open it in a browser and listen with headphones. It needs no network.")
    return CommandOutput(data, lines)


def _find_recordings(sources: Sequence[Path]) -> list[Path]:
    """Return the files among `sources`, and all recordings in the folders."""
    paths: list[Path] = []
    for source in sources:
        if not source.exists():
            raise Refused("OBJECT_MISSING", "No such file or folder.", pointer=str(source))
        inside = sorted(source.rglob("*")) if source.is_dir() else [source]
        paths += [p for p in inside if p == source or p.suffix.lower() in SUFFIXES]
    if not paths:
        names = ", ".join(map(str, sources))
        raise Refused("OBJECT_MISSING", f"No recording (WAV, FLAC, MP3, Ogg, Opus) in {names}.")
    return paths


def _read(path: Path) -> Audio:
    with reading(path), path.open("rb") as file:
        recording = Recording(file, name=str(path))
        blocks, size = [], 0
        for block in recording:
            blocks.append(block)
            size += len(block)
            if size >= _READ_S * recording.rate:
                break
        return Audio(np.concatenate(blocks), recording.rate)
