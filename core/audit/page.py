"""`report.html`: one file that needs nothing else, drawn from `report.json` alone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from core.audit.report import Check, Finding, Histogram, Period, Report

MAX_FINDINGS = 200
"""Findings on the page; report.json has them all."""
STATUSES = ("succeeded", "partial", "failed", "rejected")
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --line: #d9dee7; --card: #fff;
  --page: #f5f6f8; --succeeded: #2f7d5b; --partial: #c58a1b; --failed: #b6423c;
  --rejected: #7a6aa8; --bar: #3c6e9f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaf0; --soft: #98a2b3; --line: #343b48;
  --card: #1d222b; --page: #14181f; --succeeded: #57b48a; --partial: #e0ad4a; --failed: #e0746e;
  --rejected: #a99adb; --bar: #7fb0de; } }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1rem 4rem; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; } .soft { color: var(--soft); } code { font-size: .86em; }
.verdict { display: inline-block; padding: .2rem .8rem; border-radius: 1rem; color: #fff;
  background: var(--succeeded); font-weight: 600; }
.verdict.findings { background: var(--failed); }
.figures { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0; }
.figure, figure { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
.figure { padding: .5rem .9rem; } .figure b { display: block; font-size: 1.3rem; }
figure { margin: .75rem 0; padding: .75rem; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 11px; }
table { border-collapse: collapse; width: 100%; background: var(--card); }
th, td { border: 1px solid var(--line); padding: .35rem .5rem; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
th, td.n { overflow-wrap: normal; white-space: nowrap; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
td.bad { color: var(--failed); font-weight: 600; }
pre { background: var(--card); border: 1px solid var(--line); padding: .75rem; overflow: auto; }
"""
_WIDTH, _HEIGHT, _LEFT, _BASE, _TOP = 720, 202, 10, 180, 24


def render(report: Report) -> str:
    """The whole page. It holds no number that `report` does not hold."""
    title = f"Audit of {escape(report.bucket)}"
    since = f", results since {escape(report.since)}" if report.since else ""
    words = "Nothing was found." if report.verdict == "clean" else "Something was found."
    body = [
        f"<h1>{title}</h1>",
        f'<p class="soft">Finished {escape(report.finished)}, by voicedrop '
        f"{escape(report.processor)}{since}.</p>",
        f'<p><span class="verdict {report.verdict}">{words}</span></p>',
        _render_totals(report),
        "<h2>What became of the jobs</h2>",
        _render_outcomes(report.outcomes),
        "<h2>The audio</h2>",
        _render_histogram("Scores of the marks", report.scores, "score"),
        _render_histogram("Durations in seconds", report.durations, "duration"),
        "<h2>Checks</h2>",
        _render_checks(report.checks),
        "<h2>Findings</h2>",
        _render_findings(report),
        _render_codes(report),
        "<h2>Log</h2>",
        _render_log(report),
    ]
    head = (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n"
    )
    return head + "\n".join(body) + "\n</html>\n"


def _render_totals(report: Report) -> str:
    totals = report.totals
    shown = {
        "jobs": totals.jobs,
        "items": totals.items,
        "outputs": totals.outputs,
        "seconds of speech": totals.audio_s,
        "objects in the bucket": totals.objects,
        "bytes in the bucket": totals.bytes,
        "jobs left out as too old": totals.left_out,
        "findings": totals.findings,
    }
    cells = (f'<div class="figure"><b>{number}</b>{name}</div>' for name, number in shown.items())
    return f'<div class="figures">{"".join(cells)}</div>'


def _render_outcomes(periods: Sequence[Period]) -> str:
    if not periods:
        return '<p class="soft">No genuine result.</p>'
    stacks = [[getattr(period, status) for status in STATUSES] for period in periods]
    labels = [period.period for period in periods]
    colours = [f"var(--{status})" for status in STATUSES]
    key = " ".join(
        f'<span style="color:{colour}">&#9632; {status}</span>'
        for status, colour in zip(STATUSES, colours, strict=True)
    )
    picture = _render_bars("outcomes", labels, stacks, colours)
    return f"<figure><figcaption>Jobs by outcome {key}</figcaption>{picture}</figure>"


def _render_histogram(title: str, made: Histogram, name: str) -> str:
    if not made.counts:
        return f'<p class="soft">{title}: none.</p>'
    labels = [f"from {_format_number(edge)}" for edge in made.edges[:-1]]
    picture = _render_bars(name, labels, [[count] for count in made.counts], ["var(--bar)"])
    return f"<figure><figcaption>{title}</figcaption>{picture}</figure>"


def _render_bars(
    name: str, labels: Sequence[str], stacks: Sequence[Sequence[int]], colours: Sequence[str]
) -> str:
    """Stacked bars; where there is room, each part says how many it stands for."""
    step = (_WIDTH - 2 * _LEFT) / len(labels)
    width = min(step * 0.8, 80.0)
    highest = max(sum(stack) for stack in stacks) or 1
    every = -(-len(labels) // 12)
    parts = [f'<line x1="0" y1="{_BASE}" x2="{_WIDTH}" y2="{_BASE}" stroke="var(--line)"/>']
    for i, (label, stack) in enumerate(zip(labels, stacks, strict=True)):
        middle, y = _LEFT + (i + 0.5) * step, float(_BASE)
        for count, colour in zip(stack, colours, strict=True):
            height = count / highest * (_BASE - _TOP)
            y -= height
            if count:
                parts.append(
                    f'<rect x="{middle - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}" '
                    f'height="{height:.1f}" fill="{colour}"><title>{escape(label)}: {count}'
                    "</title></rect>"
                )
        if i % every == 0:
            said = " + ".join(str(count) for count in stack if count)
            parts += [_render_label(middle, y - 5, said), _render_label(middle, _BASE + 16, label)]
    return (
        f'<svg id="plot-{name}" role="img" aria-label="{name}" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        f"{''.join(parts)}</svg>"
    )


def _render_label(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(text)}</text>'


def _render_checks(checks: Sequence[Check]) -> str:
    rows = []
    for one in checks:
        why = "<br>".join(f"<code>{escape(c)}</code> {n}" for c, n in one.reasons.items())
        bad = "n bad" if one.failed else "n"
        rows.append(
            f'<tr><td class="n">{one.number}<td>{escape(one.meaning)}<td class="n">{one.passed}'
            f'<td class="{bad}">{one.failed}<td class="n">{one.skipped}<td>{why}'
        )
    head = "<tr><th><th>passed means<th>passed<th>failed<th>skipped<th>why not passed"
    return f"<table>{head}{''.join(rows)}</table>"


def _render_findings(report: Report) -> str:
    if not report.findings:
        return '<p class="soft">None.</p>'
    rows = [_render_finding(found) for found in report.findings[:MAX_FINDINGS]]
    more = (
        ""
        if len(report.findings) <= MAX_FINDINGS
        else "<p>The first ones; report.json has all.</p>"
    )
    head = "<tr><th>check<th>code<th>where<th>what"
    return f"<table>{head}{''.join(rows)}</table>{more}"


def _render_finding(found: Finding) -> str:
    where = found.key or "/".join(filter(None, (found.job, found.item))) or "the bucket"
    return (
        f'<tr><td class="n">{found.check}<td><code>{escape(found.code)}</code>'
        f"<td><code>{escape(where)}</code><td>{escape(found.message)}"
    )


def _render_codes(report: Report) -> str:
    if not report.codes:
        return ""
    rows = (
        f"<tr><td><code>{escape(code)}</code><td>{escape(meaning)}"
        for code, meaning in report.codes.items()
    )
    return f"<h2>What the codes mean</h2><table>{''.join(rows)}</table>"


def _render_log(report: Report) -> str:
    if report.log is None:
        return '<p class="soft">This bucket has no log.</p>'
    return (
        f"<p>{report.log.size} entries. Keep this checkpoint where the operator cannot reach it, "
        "and give it to the next audit:</p>"
        f"<pre>{escape(report.log.checkpoint)}</pre>"
    )


def _format_number(value: float) -> str:
    return f"{value:g}"
