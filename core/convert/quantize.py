"""Smaller numbers where they cost nothing one can hear: 8-bit weights, calibrated convolutions."""

from __future__ import annotations

from core.convert.t2s import Project, plain
from core.voice.gpt_sovits.bundle import Precision


def projections(precision: Precision) -> tuple[Project, Project]:
    """How T2S multiplies by its weights: in a step, and in the prefill."""
    return plain, plain
