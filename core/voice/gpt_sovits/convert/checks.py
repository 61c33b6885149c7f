"""Measures of how far a stage of a bundle is from golden results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.voice.gpt_sovits.bundle import Bundle

TOLERANCE = 1e-4
_MIN_AGREEMENT = 0.9
"""Minimum share of equal tokens for quantised bundles, even with random weights."""
_MIN_SNR = 20.0
"""Minimum in dB for quantised bundles, even with random weights."""


@dataclass(frozen=True, slots=True)
class Check:
    """A measured value and the bound that it must satisfy."""

    stage: str
    value: float
    bound: float
    at_least: bool = False
    """`bound` is a minimum, not a maximum."""

    @property
    def passed(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = "ok" if self.passed else "FAILED"
        return f"{self.stage:<28} {self.value:>12.3g} {sign} {self.bound:<8.3g} {verdict}"


def format_table(checks: list[Check]) -> str:
    """Format one line per check and a verdict, for people."""
    failed = sum(not check.passed for check in checks)
    verdict = f"{failed} of {len(checks)} checks FAILED" if failed else f"all {len(checks)} passed"
    return "\n".join([*map(str, checks), verdict])


def check_close(
    stage: str, got: NDArray[Any], want: NDArray[Any], bound: float = TOLERANCE
) -> Check:
    if got.shape != want.shape:
        return Check(f"{stage} {got.shape} not {want.shape}", np.inf, bound)
    return Check(stage, float(np.abs(got.astype(np.float64) - want).max(initial=0)), bound)


def check_equal(stage: str, got: Any, want: NDArray[Any]) -> Check:
    """Count the tokens that differ."""
    got = np.asarray(got, np.int64)
    same = min(len(got), len(want))
    different = int((got[:same] != want[:same]).sum()) + abs(len(got) - len(want))
    return Check(stage, different, 0)


def check_stage(
    stage: str, bundle: Bundle, got: NDArray[Any], want: NDArray[Any], bound: float = TOLERANCE
) -> Check:
    """Measure the largest error, or the signal-to-noise ratio if the bundle's weights are
    rounded."""
    if bundle.has_8bit_t2s and got.shape == want.shape:
        return _check_ratio(stage, got, want)
    return check_close(stage, got, want, bound)


def check_wave(
    stage: str, bundle: Bundle, got: NDArray[np.float32], want: NDArray[np.float32]
) -> Check:
    """Like `check_stage`; fp16 rounds the vocoder as well."""
    if bundle.spec.precision == "fp16" and got.shape == want.shape:
        return _check_ratio(stage, got, want)
    return check_stage(stage, bundle, got, want)


def check_codes(stage: str, bundle: Bundle, got: Any, want: NDArray[np.int64]) -> Check:
    """Count the tokens that differ, or measure the share of equal ones if the weights are
    rounded."""
    if not bundle.has_8bit_t2s or np.shape(got) != want.shape:
        return check_equal(stage, got, want)
    return Check(f"{stage}, equal", float((got == want).mean()), _MIN_AGREEMENT, at_least=True)


def _check_ratio(stage: str, got: NDArray[Any], want: NDArray[Any]) -> Check:
    noise = np.square(got - want, dtype=np.float64).sum()
    ratio = 10 * np.log10(np.square(want, dtype=np.float64).sum() / max(noise, 1e-30))
    return Check(f"{stage}, SNR in dB", float(ratio), _MIN_SNR, at_least=True)
