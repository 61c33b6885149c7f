"""A short form of `tests.acceptance.fuzz`: every seed as it is, and with random damage."""

from __future__ import annotations

import random

import pytest

from tests.support.fuzz_targets import TARGETS, run_target

CRASHERS = {
    # All of these were found by the fuzzer.
    # A lone surrogate in a pointer, which no result can hold.
    "manifest": b'd{"schema": "voicedrop/job/1", '
    b'"voices": {"a": {"reference": "r", "language": "en"}}, '
    b'"items": [{"id": "a", "text": "b"}], "labels": {"' + b"n" * 65 + b'\\ud800": "a"}}',
    # A sample rate that the watermark detector does not support.
    "trace": b".snd\0\0\0\x18\xff\xff\xff\xff\0\0\0\x03\x3e\0\0\0\0\0\0\x01" + bytes(20_000),
}


@pytest.mark.repeats
@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_seeds_raise_nothing_but_job_errors(name: str) -> None:
    target, rng = TARGETS[name], random.Random(1)
    for seed in target.seeds():
        run_target(target, seed)
        for _ in range(0 if name == "trace" else 5):
            data = bytearray(seed)
            for _ in range(min(len(data), rng.randint(1, 6))):
                data[rng.randrange(len(data))] = rng.randrange(256)
            run_target(target, bytes(data[: rng.choice([len(data), rng.randrange(len(data) + 1)])]))


@pytest.mark.parametrize("name", CRASHERS)
def test_earlier_findings_stay_fixed(name: str) -> None:
    run_target(TARGETS[name], CRASHERS[name])
