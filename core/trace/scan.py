"""Which stretches of a recording carry a mark.

The whole recording is read in windows as it streams by, so that several jobs joined in one clip are
told apart, with their places. What that leaves unexplained is searched for changed speed, tempo or
pitch: all of it in a recording of up to a minute, eight samples of a longer one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import BinaryIO

import numpy as np

import watermark
from core.audio.stream import Recording, RecordingFacts
from core.audio.waveform import Samples
from core.errors import Refused
from watermark import Detection
from watermark.embed import SAMPLE_RATES

THOROUGH_S = 60.0
"""Seconds up to which a recording is searched everywhere for changed speed, tempo and pitch."""
_SAMPLE_COUNT, _SAMPLE_S = 8, 8.0
_MAX_CHANNEL_DIFFERENCE = 0.01
"""Channels that differ by more than this share of their power are listened to one by one."""
_WINDOW_S = 3.0
"""Every how many seconds `watermark.scan` looks: each look is one more chance to err."""
_GAP_S = 6.0
"""Two stretches of one job that are nearer than this are one."""

Keys = Mapping[str, bytes]


def search_recording(
    file: BinaryIO, name: str, keys: Keys
) -> tuple[RecordingFacts, list[Detection]]:
    """Every marked stretch; scores account for all that was looked at. Raises Refused, Failed."""
    held: list[Samples] = []
    rate, facts, found = _scan_once(file, name, keys, held=held)
    if facts.channels > 1 and facts.channel_difference > _MAX_CHANNEL_DIFFERENCE:
        for channel in range(facts.channels):
            found += _scan_once(file, name, keys, channel=channel)[2]
    if facts.seconds <= THOROUGH_S:
        found += _search_gaps(np.concatenate(held), rate, keys, found)
    elif not found:
        found += _search_samples(file, name, keys, facts)
    tries = _log10_trials(facts)
    found = [replace(one, score=one.score - tries) for one in found]
    found = [one for one in found if one.score >= watermark.DETECTION_THRESHOLD]
    if facts.damaged and not found:
        raise Refused("AUDIO_CORRUPT", f"Damaged after {facts.seconds:.1f} s.", pointer=name)
    return facts, found


def _scan_once(
    file: BinaryIO,
    name: str,
    keys: Keys,
    *,
    channel: int | None = None,
    tempo: float = 1.0,
    held: list[Samples] | None = None,
) -> tuple[int, RecordingFacts, list[Detection]]:
    """Read the recording once, in windows. `tempo`: how many times too fast it is played; `held`
    is given its first minute."""
    recording = Recording(file, name=name, channel=channel)
    rate = recording.rate
    blocks = recording if held is None else _keep_start(recording, held, int(THOROUGH_S * rate) + 1)
    found = [
        replace(run, start=run.start / tempo, end=run.end / tempo, tempo=run.tempo * tempo)
        for _, _, run in watermark.scan(blocks, round(rate / tempo), keys)
    ]
    return rate, recording.facts, found


def _keep_start(blocks: Iterable[Samples], held: list[Samples], most: int) -> Iterator[Samples]:
    for block in blocks:
        if most > 0:
            held.append(block[:most])
            most -= len(block)
        yield block


def _search_gaps(whole: Samples, rate: int, keys: Keys, found: list[Detection]) -> list[Detection]:
    """What is warped in the parts of a short recording in which nothing was found."""
    more = []
    for start, end in _find_gaps(found, len(whole) / rate):
        part = whole[int(start * rate) : int(end * rate)]
        runs = [run for _, _, run in watermark.scan([part], rate, keys, thorough=True)]
        more += [replace(run, start=run.start + start, end=run.end + start) for run in runs]
    if found or more:
        return more
    # Weaker marks show where longer windows are looked at.
    best = watermark.detect_any(whole, rate, keys, thorough=True)
    return [best] if best.marked else []


def _find_gaps(found: list[Detection], seconds: float) -> Iterator[tuple[float, float]]:
    """Parts long enough to carry a mark that can be read."""
    at = 0.0
    for one in sorted(found, key=lambda one: one.start):
        if one.start - at >= _WINDOW_S:
            yield at, one.start
        at = max(at, one.end)
    if seconds - at >= _WINDOW_S or at == 0.0:
        yield at, seconds


def _search_samples(
    file: BinaryIO, name: str, keys: Keys, facts: RecordingFacts
) -> list[Detection]:
    """A long recording in which nothing was found: is it warped as a whole?"""
    for start, part, rate in _cut_samples(file, name, facts):
        best = watermark.detect_any(part, rate, keys, thorough=True)
        if best.marked:
            readable = round(rate / best.tempo) in SAMPLE_RATES
            if abs(best.tempo - best.pitch) < 0.003 and readable:
                # Played too fast or too slowly: undone, all of it can be read.
                return _scan_once(file, name, keys, tempo=best.tempo)[2]
            return [replace(best, start=best.start + start, end=best.end + start)]
    return []


def _cut_samples(
    file: BinaryIO, name: str, facts: RecordingFacts
) -> list[tuple[float, Samples, int]]:
    """Eight parts of 8 s, evenly spread: (start, samples, rate)."""
    recording = Recording(file, name=name)
    rate = recording.rate
    starts = np.linspace(0, facts.seconds - _SAMPLE_S, _SAMPLE_COUNT)
    parts: list[list[Samples]] = [[] for _ in starts]
    at = 0
    for block in recording:
        for start, part in zip(starts, parts, strict=True):
            first = int(start * rate) - at
            cut = block[max(first, 0) : max(first + int(_SAMPLE_S * rate), 0)]
            part.append(cut.copy())
        at += len(block)
    joined = (np.concatenate(part) for part in parts)
    return [(float(start), part, rate) for start, part in zip(starts, joined, strict=True)]


def merge_detections(found: list[Detection]) -> list[Detection]:
    """One for each stretch of one item, however often it was found."""
    made: list[Detection] = []
    for one in sorted((f for f in found if f.payload is not None), key=lambda f: f.start):
        last = next((i for i, m in enumerate(made) if _continues(m, one)), None)
        if last is None:
            made.append(one)
        else:
            louder = max(made[last], one, key=lambda f: f.score)
            start, end = made[last].start, max(made[last].end, one.end)
            made[last] = replace(louder, start=start, end=end)
    return made


def _continues(one: Detection, other: Detection) -> bool:
    same = (one.key_id, one.payload) == (other.key_id, other.payload)
    return same and other.start - one.end < _GAP_S


def _log10_trials(facts: RecordingFacts) -> float:
    """log10 of how often chance could have misled us, beyond what each score accounts for."""
    views = 1 + (facts.channels if facts.channel_difference > _MAX_CHANNEL_DIFFERENCE else 0)
    return math.log10(max(1.0, facts.seconds / _WINDOW_S) * views)
