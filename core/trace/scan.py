"""Search a recording of any length for marked stretches.

The recording is streamed once in windows, which separates and locates several jobs joined in one
clip. The parts without a mark are then searched for changed speed, tempo or pitch: completely in a
recording of up to a minute, in eight excerpts of a longer one. A search stops when its time is used
up, and says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import numpy as np

import watermark
from core.audio.sandbox import Limits
from core.audio.stream import LIMITS, Facts, Recording
from core.audio.waveform import Samples
from core.errors import Refused
from watermark import Detection
from watermark.embed import SAMPLE_RATES

THOROUGH_S = 60.0
"""Longer recordings, in seconds, are searched for changed speed, tempo and pitch in excerpts."""
_EXCERPTS, _EXCERPT_S = 8, 8.0
_MAX_CHANNEL_DIFFERENCE = 0.01
"""Channels that differ by more than this share of their power are searched one by one."""
_WINDOW_S = 3.0
"""Seconds between the windows of `watermark.scan`, each of which may be a false positive."""
_GAP_S = 6.0
"""Stretches of one item that are closer than this, in seconds, are merged."""

_BLOCK_S = 1.0
"""Length in seconds of the blocks between which a search in memory looks at the clock."""

Keys = Mapping[str, bytes]


@dataclass(slots=True)
class Budget:
    """The time that a search may take. It begins when this is created."""

    seconds: float = math.inf
    was_used_up: bool = False
    """True once something was left out for lack of time."""
    _start: float = field(default_factory=time.monotonic)

    def is_used_up(self) -> bool:
        """Return whether the time is used up. If so, the caller leaves out what it was to do."""
        self.was_used_up |= time.monotonic() - self._start >= self.seconds
        return self.was_used_up

    def limit(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Yield blocks as long as there is time."""
        for block in blocks:
            if self.is_used_up():
                return
            yield block

    def decoder_limits(self) -> Limits:
        """Return the limits of a decoder, which must not outlast the search by much either."""
        if math.isinf(self.seconds):
            return LIMITS
        seconds = math.ceil(self.seconds) + 1
        return replace(LIMITS, cpu_s=seconds, wall_s=2.0 * seconds)


def search_recording(
    file: BinaryIO, name: str, keys: Keys, budget: Budget
) -> tuple[Facts, list[Detection]]:
    """Return the marked stretches of a recording; their scores account for the number of windows
    searched. `budget.was_used_up` says whether the search is incomplete; `seconds` of the facts is
    then what was searched at least once. Raises Refused and Failed like `Recording`."""
    head: list[Samples] = []
    rate, facts, found = _scan_once(file, name, keys, budget, head=head)
    if facts.channels > 1 and facts.channel_difference > _MAX_CHANNEL_DIFFERENCE:
        for channel in range(facts.channels):
            if not budget.is_used_up():
                found += _scan_once(file, name, keys, budget, channel=channel)[2]
    if facts.seconds <= THOROUGH_S:
        found += _search_gaps(_join(head), rate, keys, budget, found)
    elif not found:
        found += _search_excerpts(file, name, keys, budget, facts)
    penalty = _log10_trials(facts)
    found = [replace(hit, score=hit.score - penalty) for hit in found]
    found = [hit for hit in found if hit.score >= watermark.DETECTION_THRESHOLD]
    if facts.damaged and not found:
        raise Refused("AUDIO_CORRUPT", f"Damaged after {facts.seconds:.1f} s.", pointer=name)
    return facts, found


def _scan_once(
    file: BinaryIO,
    name: str,
    keys: Keys,
    budget: Budget,
    *,
    channel: int | None = None,
    tempo: float = 1.0,
    head: list[Samples] | None = None,
) -> tuple[int, Facts, list[Detection]]:
    """Scan the recording once and return its sample rate, facts and detections. tempo: factor by
    which it is too fast. head: a list that receives the blocks of the first minute."""
    recording = Recording(file, name=name, channel=channel, limits=budget.decoder_limits())
    rate = recording.rate
    blocks = budget.limit(recording)
    if head is not None:
        blocks = _keep_start(blocks, head, rate)
    found = [
        replace(run, start=run.start / tempo, end=run.end / tempo, tempo=run.tempo * tempo)
        for _, _, run in watermark.scan(blocks, round(rate / tempo), keys)
    ]
    return rate, recording.facts, found


def _join(blocks: list[Samples]) -> Samples:
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _keep_start(blocks: Iterable[Samples], head: list[Samples], rate: int) -> Iterator[Samples]:
    samples_left = int(THOROUGH_S * rate) + 1
    for block in blocks:
        if samples_left > 0:
            head.append(block[:samples_left])
            samples_left -= len(block)
        yield block


def _search_gaps(
    whole: Samples, rate: int, keys: Keys, budget: Budget, found: list[Detection]
) -> list[Detection]:
    """Search the unmarked parts of a short recording for changes of speed, tempo and pitch."""
    more = []
    size = int(_BLOCK_S * rate)
    for start, end in _find_gaps(found, len(whole) / rate):
        part = whole[int(start * rate) : int(end * rate)]
        blocks = budget.limit(part[at : at + size] for at in range(0, len(part), size))
        runs = [run for _, _, run in watermark.scan(blocks, rate, keys, thorough=True)]
        more += [replace(run, start=run.start + start, end=run.end + start) for run in runs]
    if found or more or budget.is_used_up():
        return more
    # Longer windows reveal weaker marks.
    best = watermark.detect_any(whole, rate, keys, thorough=True)
    return [best] if best.marked else []


def _find_gaps(found: list[Detection], seconds: float) -> Iterator[tuple[float, float]]:
    """Yield the unmarked parts that are long enough for a mark to be read: (start, end)."""
    at = 0.0
    for hit in sorted(found, key=lambda hit: hit.start):
        if hit.start - at >= _WINDOW_S:
            yield at, hit.start
        at = max(at, hit.end)
    if seconds - at >= _WINDOW_S or at == 0.0:
        yield at, seconds


def _search_excerpts(
    file: BinaryIO, name: str, keys: Keys, budget: Budget, facts: Facts
) -> list[Detection]:
    """Search excerpts of a long recording for a change of speed, tempo or pitch of all of it."""
    for start, part, rate in _cut_excerpts(file, name, budget, facts):
        if budget.is_used_up():
            break
        best = watermark.detect_any(part, rate, keys, thorough=True)
        if best.marked:
            readable = round(rate / best.tempo) in SAMPLE_RATES
            if abs(best.tempo - best.pitch) < 0.003 and readable:
                # The whole recording can be read once the change of speed is undone.
                return _scan_once(file, name, keys, budget, tempo=best.tempo)[2]
            return [replace(best, start=best.start + start, end=best.end + start)]
    return []


def _cut_excerpts(
    file: BinaryIO, name: str, budget: Budget, facts: Facts
) -> list[tuple[float, Samples, int]]:
    """Return eight excerpts of 8 s, evenly spaced: (start, samples, rate)."""
    if budget.is_used_up():
        return []
    recording = Recording(file, name=name, limits=budget.decoder_limits())
    rate = recording.rate
    starts = np.linspace(0, facts.seconds - _EXCERPT_S, _EXCERPTS)
    parts: list[list[Samples]] = [[] for _ in starts]
    at = 0
    for block in budget.limit(recording):
        for start, part in zip(starts, parts, strict=True):
            first = int(start * rate) - at
            cut = block[max(first, 0) : max(first + int(_EXCERPT_S * rate), 0)]
            part.append(cut.copy())
        at += len(block)
    joined = (_join(part) for part in parts)
    return [(float(start), part, rate) for start, part in zip(starts, joined, strict=True)]


def merge_detections(found: list[Detection]) -> list[Detection]:
    """Merge the detections of each stretch of one item."""
    merged: list[Detection] = []
    for hit in sorted((f for f in found if f.payload is not None), key=lambda f: f.start):
        index = next((i for i, m in enumerate(merged) if _continues(m, hit)), None)
        if index is None:
            merged.append(hit)
        else:
            strongest = max(merged[index], hit, key=lambda f: f.score)
            start, end = merged[index].start, max(merged[index].end, hit.end)
            merged[index] = replace(strongest, start=start, end=end)
    return merged


def _continues(first: Detection, second: Detection) -> bool:
    is_same_item = (first.key_id, first.payload) == (second.key_id, second.payload)
    return is_same_item and second.start - first.end < _GAP_S


def _log10_trials(facts: Facts) -> float:
    """Return log10 of the number of independent tests, for which single scores do not account."""
    views = 1 + (facts.channels if facts.channel_difference > _MAX_CHANNEL_DIFFERENCE else 0)
    return math.log10(max(1.0, facts.seconds / _WINDOW_S) * views)
