"""Recordings that unusual tools or an attacker would write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from tests.support.recordings.containers import chunk, int16
from tests.support.recordings.files import speech, speech_as


@dataclass(frozen=True)
class Hostile:
    what: str
    make: Callable[[], bytes]
    outcome: str
    """An error code, or `ok` and the notices of an accepted recording."""
    name: str


def case(what: str, make: Callable[[], bytes], outcome: str, name: str = "refs/a.wav") -> Hostile:
    return Hostile(what, make, outcome, name)


@cache
def pcm() -> bytes:
    return int16(speech().samples)


def data() -> bytes:
    return chunk(b"data", pcm())


@cache
def ogg() -> bytes:
    return speech_as("OGG")


@cache
def opus() -> bytes:
    return speech_as("OGG", "OPUS")


@cache
def flac() -> bytes:
    return speech_as("FLAC")


@cache
def mp3(rate: int = 16_000) -> bytes:
    return speech_as("MP3", rate=rate)
