"""A short form of `tests.acceptance.fuzz`: every seed as it is, and with random damage."""

from __future__ import annotations

import random

import pytest

from tests.support.fuzz_targets import TARGETS, attempt

CRASHERS = {
    # Found by the fuzzer: half a character in a pointer, which no result could hold.
    "manifest": b'd{"schema": "voicedrop/job/1", '
    b'"voices": {"a": {"reference": "r", "language": "en"}}, '
    b'"items": [{"id": "a", "text": "b"}], "labels": {"' + b"n" * 65 + b'\\ud800": "a"}}',
    # Found by the fuzzer: a rate that the search for marks does not know.
    "trace": b".snd\0\0\0\x18\xff\xff\xff\xff\0\0\0\x03\x3e\0\0\0\0\0\0\x01" + bytes(20_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_no_door_ends_in_an_error_that_is_not_ours(name: str) -> None:
    target, dice = TARGETS[name], random.Random(1)
    for seed in target.seeds():
        attempt(target, seed)
        for _ in range(0 if name == "trace" else 5):
            data = bytearray(seed)
            for _ in range(min(len(data), dice.randint(1, 6))):
                data[dice.randrange(len(data))] = dice.randrange(256)
            attempt(target, bytes(data[: dice.choice([len(data), dice.randrange(len(data) + 1)])]))


@pytest.mark.parametrize("name", CRASHERS)
def test_what_was_found_once_is_not_found_again(name: str) -> None:
    attempt(TARGETS[name], CRASHERS[name])
