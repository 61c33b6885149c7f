"""`report.html`: one self-contained file, rendered from `report.json` alone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from core.audit.report import Check, Finding, Histogram, Period, Report
from core.result.document import format_timestamp

MAX_FINDINGS = 200
"""Most rows of a table on the page; report.json has all of them."""
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
    """Return the page. Every number on it is in `report`."""
    title = f"Audit of {escape(report.bucket)}"
    since = f", results since {escape(report.since)}" if report.since else ""
    verdict = "No problems found" if report.verdict == "clean" else "Problems found"
    body = [
        f"<h1>{title}</h1>",
        f'<p class="soft">Finished {escape(report.finished)}, by voicedrop '
        f"{escape(report.processor)}{since}.</p>",
        f'<p><span class="verdict {report.verdict}">{verdict}</span></p>',
        _render_totals(report),
        "<h2>Jobs</h2>",
        _render_outcomes(report.outcomes),
        "<h2>Audio</h2>",
        _render_histogram("Watermark scores", report.scores, "score"),
        _render_histogram("Durations in seconds", report.durations, "duration"),
        "<h2>Checks</h2>",
        _render_checks(report.checks),
        "<h2>Findings</h2>",
        _render_findings(report),
        _render_codes(report),
        "<h2>Erasures, withdrawals and replaced records</h2>",
        _render_erasures(report),
        _render_withdrawals(report),
        _render_replaced(report),
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
    totals_by_name = {
        "jobs": totals.jobs,
        "items": totals.items,
        "outputs": totals.outputs,
        "seconds of speech": totals.audio_s,
        "objects in the bucket": totals.objects,
        "bytes in the bucket": totals.bytes,
        "earlier jobs, not checked": totals.left_out,
        "findings": totals.findings,
    }
    cells = [f'<div class="figure"><b>{n}</b>{name}</div>' for name, n in totals_by_name.items()]
    return f'<div class="figures">{"".join(cells)}</div>'


def _render_outcomes(periods: Sequence[Period]) -> str:
    if not periods:
        return '<p class="soft">No genuine results.</p>'
    stacks = [[getattr(period, status) for status in STATUSES] for period in periods]
    labels = [period.period for period in periods]
    colours = [f"var(--{status})" for status in STATUSES]
    legend = " ".join(
        f'<span style="color:{colour}">&#9632; {status}</span>'
        for status, colour in zip(STATUSES, colours, strict=True)
    )
    plot = _render_bars("outcomes", labels, stacks, colours)
    return f"<figure><figcaption>Jobs by outcome {legend}</figcaption>{plot}</figure>"


def _render_histogram(title: str, histogram: Histogram, name: str) -> str:
    if not histogram.counts:
        return f'<p class="soft">{title}: none.</p>'
    labels = [f"from {edge:g}" for edge in histogram.edges[:-1]]
    plot = _render_bars(name, labels, [[count] for count in histogram.counts], ["var(--bar)"])
    return f"<figure><figcaption>{title}</figcaption>{plot}</figure>"


def _render_bars(
    name: str, labels: Sequence[str], stacks: Sequence[Sequence[int]], colours: Sequence[str]
) -> str:
    """Return an SVG of stacked bars. Every part has a tooltip with its count; at most about twelve
    bars are labelled, so that labels do not overlap."""
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
            sums = " + ".join(str(count) for count in stack if count)
            parts += [_render_label(middle, y - 5, sums), _render_label(middle, _BASE + 16, label)]
    return (
        f'<svg id="plot-{name}" role="img" aria-label="{name}" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        f"{''.join(parts)}</svg>"
    )


def _render_label(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(text)}</text>'


def _render_checks(checks: Sequence[Check]) -> str:
    rows = []
    for check in checks:
        reasons = "<br>".join(f"<code>{escape(c)}</code> {n}" for c, n in check.reasons.items())
        style = "n bad" if check.failed else "n"
        rows.append(
            f'<tr><td class="n">{check.number}<td>{escape(check.meaning)}'
            f'<td class="n">{check.passed}<td class="{style}">{check.failed}'
            f'<td class="n">{check.skipped}<td>{reasons}'
        )
    head = "<tr><th><th>meaning of passed<th>passed<th>failed<th>skipped<th>reasons"
    return f"<table>{head}{''.join(rows)}</table>"


def _render_findings(report: Report) -> str:
    rows = [_render_finding(finding) for finding in report.findings[:MAX_FINDINGS]]
    head = "<tr><th>check<th>code<th>object or job<th>message"
    return _render_rows("None.", head, rows, len(report.findings))


def _render_finding(finding: Finding) -> str:
    return (
        f'<tr><td class="n">{finding.check}<td><code>{escape(finding.code)}</code>'
        f"<td><code>{escape(finding.place)}</code><td>{escape(finding.message)}"
    )


def _render_erasures(report: Report) -> str:
    rows = [
        f"<tr><td><code>{escape(one.job_id)}</code><td>{escape(', '.join(one.items))}"
        f"<td>{escape(one.erased)}<td>{escape(one.why)}"
        for one in report.erasures[:MAX_FINDINGS]
    ]
    head = "<tr><th>job<th>erased outputs<th>when<th>why"
    return _render_rows("Nothing was erased.", head, rows, len(report.erasures))


def _render_withdrawals(report: Report) -> str:
    rows = [
        f"<tr><td><code>{escape(note.recording)}</code><td><code>{escape(note.record)}</code>"
        f"<td>{format_timestamp(note.at.timestamp())}"
        for note in report.withdrawals[:MAX_FINDINGS]
    ]
    head = "<tr><th>recording, SHA-256<th>record, SHA-256<th>consent withdrawn"
    return _render_rows("No consent was withdrawn.", head, rows, len(report.withdrawals))


def _render_replaced(report: Report) -> str:
    rows = [
        f"<tr><td><code>{escape(one.key)}</code><td><code>{escape(one.job)}</code>"
        f"<td>{escape(one.message)}"
        for one in report.replaced[:MAX_FINDINGS]
    ]
    head = "<tr><th>consent record<th>job that cites another one<th>what it cites"
    return _render_rows("No consent record was replaced.", head, rows, len(report.replaced))


def _render_rows(none: str, head: str, rows: Sequence[str], count: int) -> str:
    if not rows:
        return f'<p class="soft">{none}</p>'
    more = "<p>More are in report.json.</p>" if count > len(rows) else ""
    return f"<table>{head}{''.join(rows)}</table>{more}"


def _render_codes(report: Report) -> str:
    if not report.codes:
        return ""
    rows = (
        f"<tr><td><code>{escape(code)}</code><td>{escape(meaning)}"
        for code, meaning in report.codes.items()
    )
    return f"<h2>Codes</h2><table>{''.join(rows)}</table>"


def _render_log(report: Report) -> str:
    if report.log is None:
        return '<p class="soft">This bucket has no log.</p>'
    return (
        f"<p>{report.log.size} entries. Keep this checkpoint where the operator cannot change it, "
        "and give it to the next audit:</p>"
        f"<pre>{escape(report.log.checkpoint)}</pre>"
    )
