"""What a stage is held to: the largest error, tokens that differ, likeness where it is rounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.voice.gpt_sovits.bundle import Bundle

CLOSE = 1e-4
_SNR = 20.0
"""What a quantised bundle must keep, even of random weights."""


@dataclass(frozen=True, slots=True)
class Check:
    stage: str
    value: float
    """The largest error; or, where `at_least`, a measure of likeness."""
    bound: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = "ok" if self.passed else "FAILED"
        return f"{self.stage:<28} {self.value:>12.3g} {sign} {self.bound:<8.3g} {verdict}"


def table(checks: list[Check]) -> str:
    """For people: a line a check, and a verdict."""
    failed = sum(not check.passed for check in checks)
    verdict = f"{failed} of {len(checks)} checks FAILED" if failed else f"all {len(checks)} passed"
    return "\n".join([*map(str, checks), verdict])


def error(stage: str, got: NDArray[Any], want: NDArray[Any], bound: float = CLOSE) -> Check:
    if got.shape != want.shape:
        return Check(f"{stage} {got.shape} not {want.shape}", np.inf, bound)
    return Check(stage, float(np.abs(got.astype(np.float64) - want).max(initial=0)), bound)


def wrong(stage: str, got: Any, want: NDArray[Any]) -> Check:
    """How many of a list of tokens differ."""
    got = np.asarray(got, np.int64)
    same = min(len(got), len(want))
    wrong = int((got[:same] != want[:same]).sum()) + abs(len(got) - len(want))
    return Check(stage, wrong, 0)


def likeness(
    stage: str, bundle: Bundle, got: NDArray[np.float32], want: NDArray[np.float32]
) -> Check:
    """Of waves: the largest error, or the signal to noise ratio where rounding is wanted."""
    if bundle.spec.precision in ("fp32", "int8") or got.shape != want.shape:
        return error(stage, got, want)
    noise = np.square(got - want, dtype=np.float64).sum()
    ratio = 10 * np.log10(np.square(want, dtype=np.float64).sum() / max(noise, 1e-30))
    return Check(f"{stage}, SNR in dB", float(ratio), _SNR, at_least=True)
