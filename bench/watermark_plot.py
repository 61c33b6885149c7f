"""The figure of docs/watermark.md as SVG: payloads read per attack and clip length."""

from __future__ import annotations

from html import escape
from typing import Any

ROW, LEFT, WIDTH, TOP = 16, 210, 420, 46
COLOURS = ("#c2410c", "#0f766e", "#1d4ed8", "#7c3aed")


def draw(runs: list[dict[str, Any]]) -> str:
    """Draw one row per attack and one dot per run of `bench.watermark robust`, 0 to 100 %."""
    names = list(runs[0]["attacks"])
    height = TOP + ROW * len(names) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 30}" height="{height}" '
        f'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for number, run in enumerate(runs):
        text = f"{run['seconds']:g} s: mean {100 * run['mean']:.1f} %"
        parts.append(_dot(LEFT + 6 + 140 * number, 14, number))
        parts.append(f'<text x="{LEFT + 16 + 140 * number}" y="18">{text}</text>')
    for percent in (0, 25, 50, 75, 100):
        x = LEFT + WIDTH * percent / 100
        parts.append(f'<path d="M{x} {TOP - 6}V{height - 8}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{TOP - 10}" text-anchor="middle">{percent} %</text>')
    for row, name in enumerate(names):
        y = TOP + ROW * row + 8
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        for number, run in enumerate(runs):
            tally = run["attacks"][name]
            x = LEFT + WIDTH * tally["read"] / tally["clips"]
            parts.append(_dot(x, y + 3 * (number - (len(runs) - 1) / 2), number))
    return "\n".join([*parts, "</svg>", ""])


def _dot(x: float, y: float, number: int) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[number % len(COLOURS)]}"/>'
