"""`voicedrop audit`, `log` and `trace --index`: files, exit codes, resuming."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree as ET

import msgspec
import pytest
from typer.testing import CliRunner

from core import audit
from core.audit import page, report
from core.audit.model import explain
from core.crypto import keys, sealing
from core.errors import Misconfigured
from core.job.erasure import erase_outputs
from core.result.document import parse_result
from core.settings import Settings
from core.tlog import log
from handlers.cli import app as cli
from handlers.cli import audit as audit_command
from handlers.cli.screen import Progress
from tests.audit.conftest import JOB_COUNT, open_runtime, open_sources
from tests.audit.test_findings import (
    flip_a_bit,
    note_withdrawal,
    release_without_a_mark,
    result_paths,
    sealed_path,
)
from tests.support.audited_bucket import add_job, fill_bucket


class Voicedrop(Protocol):
    def __call__(self, root: Path, *arguments: str) -> tuple[int, str]:
        """Return the exit code and the output."""
        ...


@pytest.fixture
def voicedrop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Voicedrop:
    """Return a function that runs a command on a folder of buckets."""
    monkeypatch.chdir(tmp_path)
    for name in ("VOICEDROP_BUCKET", "VOICEDROP_RESULTS", "VOICEDROP_INBOX", "VOICEDROP_CONTROL"):
        monkeypatch.delenv(name, raising=False)

    def run(root: Path, *arguments: str) -> tuple[int, str]:
        monkeypatch.setenv("VOICEDROP_KEYS", str(root / "keys"))
        ran = CliRunner().invoke(cli.app, [*arguments, "--bucket", str(root)])
        if ran.exception and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        return ran.exit_code, ran.output

    return run


@pytest.mark.slow
def test_a_clean_bucket_exits_with_0(voicedrop: Voicedrop, clean: Path, tmp_path: Path) -> None:
    code, output = voicedrop(clean, "audit")
    assert code == 0, output
    assert output.rstrip().splitlines()[-2:] == ["clean", "report: audit/report.html"]
    names = {path.name for path in (tmp_path / "audit").iterdir()}
    assert names == {"report.html", "report.json", "items.csv", "index.json"}


def test_an_audit_without_a_job_says_so(voicedrop: Voicedrop, clean: Path, tmp_path: Path) -> None:
    code, output = voicedrop(clean, "audit", "--since", "9999-01-01")
    assert (code, output.splitlines()[0]) == (0, "0 jobs, 0 outputs, 0 s of speech")
    assert "nothing to check: there are no results from 9999-01-01 on" in output.splitlines()
    assert json.loads((tmp_path / "audit/report.json").read_text())["verdict"] == "clean"


def test_findings_are_printed_and_exit_with_1(voicedrop: Voicedrop, copy: Path) -> None:
    flip_a_bit(copy)
    code, output = voicedrop(copy, "audit")
    assert code == 1
    assert f"OBJECT_CHANGED  out/{sealed_path(copy).parent.name}/hello.wav.sealed" in output


def test_a_replaced_consent_record_is_listed_with_its_jobs(
    voicedrop: Voicedrop, copy: Path, tmp_path: Path
) -> None:
    """And is no finding: the record may have been renewed lawfully."""
    path = copy / "inbox/consent/alice.json"
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    code, output = voicedrop(copy, "audit")
    assert (code, output.rstrip().splitlines()[-2]) == (0, "clean")
    document = json.loads((tmp_path / "audit/report.json").read_text())
    listed = {one["job"] for one in document["replaced"]}
    assert len(listed) == JOB_COUNT - 1  # the rejected job used no voice
    text = (tmp_path / "audit/report.html").read_text()
    for job in listed:
        assert f"replaced  consent/alice.json  job {job}  voice" in output
        assert job in text
    assert hashlib.sha256(before).hexdigest() in output


def test_a_line_of_a_finding_names_the_job_and_says_what_the_code_means(
    voicedrop: Voicedrop, copy: Path
) -> None:
    (copy / "inbox/consent/alice.json").unlink()
    code, output = voicedrop(copy, "audit")
    lines = [line for line in output.splitlines() if line.startswith("  CONSENT_MISSING")]
    assert (code, len(lines)) == (1, JOB_COUNT - 1)
    job = result_paths(copy)[0].parent.name
    (line,) = (line for line in lines if job in line)
    assert f"consent/alice.json job {job}" in line
    assert line.endswith(explain("CONSENT_MISSING"))


@pytest.mark.slow
def test_findings_beyond_the_limit_are_counted(voicedrop: Voicedrop, copy: Path) -> None:
    for number in range(25):
        (copy / "results" / f"foreign-{number}").write_bytes(b"")
    assert "  and 5 more" in voicedrop(copy, "audit")[1]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda root: shutil.rmtree(root / "results"), id="no-bucket"),
        pytest.param(lambda root: shutil.rmtree(root / "keys"), id="no-public-keys"),
    ],
)
def test_an_audit_that_cannot_run_exits_with_2(
    voicedrop: Voicedrop, copy: Path, damage: Callable[[Path], None]
) -> None:
    damage(copy)
    code, output = voicedrop(copy, "audit")
    assert code == 2
    assert "could not be done" in output


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--since", "yesterday"], id="since"),
        pytest.param(["--checkpoint", "nowhere"], id="checkpoint"),
        pytest.param(["--out", "copy/results/audit"], id="out-in-the-bucket"),
    ],
)
def test_a_wrong_option_exits_with_2(
    voicedrop: Voicedrop, copy: Path, arguments: list[str]
) -> None:
    assert voicedrop(copy, "audit", *arguments)[0] == 2


def test_since_leaves_earlier_results_out(
    voicedrop: Voicedrop, clean: Path, tmp_path: Path
) -> None:
    voicedrop(clean, "audit", "--since", "2026-11-02")
    document = json.loads((tmp_path / "audit/report.json").read_text())
    assert (document["totals"]["jobs"], document["totals"]["left_out"]) == (2, JOB_COUNT - 2)
    assert {period["period"] for period in document["outcomes"]} == {"2026-11-02", "2026-11-03"}


@pytest.mark.slow
def test_the_next_audit_compares_the_log_with_the_last_checkpoint(
    voicedrop: Voicedrop, copy: Path
) -> None:
    runtime = open_runtime(copy)
    before = {info.key for info in runtime.results.list("")}
    add_job(runtime, 100)
    assert voicedrop(copy, "log", "integrate")[0] == 0
    assert voicedrop(copy, "audit")[0] == 0
    for info in list(runtime.results.list("")):
        if info.key not in before:
            runtime.results.delete(info.key)
    code, output = voicedrop(copy, "audit")
    assert (code, "LOG_INVALID" in output) == (1, True)


def test_an_interrupted_audit_is_resumed(copy: Path, tmp_path: Path) -> None:
    """The report is the same, and jobs that were checked are not checked again."""
    settings = Settings.from_environ(
        {"VOICEDROP_BUCKET": str(copy), "VOICEDROP_KEYS": str(copy / "keys")}
    )
    request = audit_command.AuditRequest(out=tmp_path / "out")

    class Interrupted(Progress):
        def update_status(self, text: str) -> None:
            if text.startswith("3 jobs"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit_command.audit_results(settings, request, Interrupted(quiet=True))
    journal = tmp_path / "out/progress.jsonl"
    kept = journal.read_bytes().splitlines()
    assert len(kept) == 1 + 3
    journal.write_bytes(b"\n".join(kept) + b'\n{"job":"cut')
    done = [json.loads(line)["job"] for line in kept[1:]]
    # A checked job is read from the journal, unless its folder has changed since.
    for path in copy.glob("results/marks/*/*.json"):
        path.unlink()
    (copy / f"results/out/{done[0]}/foreign").write_bytes(b"")
    outcome = audit_command.audit_results(settings, request, Progress(quiet=True))
    unmarked = {f["job"] for f in outcome.data["findings"] if f["code"] == "MARK_UNREGISTERED"}
    assert not set(done[1:]) & unmarked
    assert done[0] in unmarked
    assert not journal.exists()


def test_a_different_request_does_not_use_the_journal(copy: Path, tmp_path: Path) -> None:
    journal = tmp_path / "progress.jsonl"
    journal.write_bytes(b'"another"\n{"job":"x","seen":"y"}\n')
    assert list(audit_command._read_journal(journal, "this")) == []


@pytest.fixture(scope="module")
def damaged(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> report.Report:
    root = shutil.copytree(clean, tmp_path_factory.mktemp("damaged") / "<b>damaged & so")
    flip_a_bit(root)
    release_without_a_mark(root)
    (root / "results" / "<script>").write_bytes(b"")
    sources = open_sources(root)
    return audit.build_report(audit.audit_bucket(sources, workers=2), sources, "")


class PageText(HTMLParser):
    """The visible text of a page, its elements and its links."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] != "style":
            self.words.append(data)


def read_page(result: report.Report) -> PageText:
    text = PageText()
    text.feed(page.render(result))
    return text


def all_numbers(value: Any) -> Iterator[str]:
    """Yield every number in a JSON document, including those in its strings and names."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from all_numbers(name)
            yield from all_numbers(part)
    elif isinstance(value, list):
        for part in value:
            yield from all_numbers(part)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, str):
        yield from re.findall(r"\d+(?:\.\d+)?", value)
    else:
        yield f"{value:g}" if isinstance(value, float) else str(value)
        yield str(value)


def test_every_number_on_the_page_is_in_the_report(damaged: report.Report) -> None:
    known = set(all_numbers(msgspec.to_builtins(damaged)))
    shown = set(re.findall(r"\d+(?:\.\d+)?", " ".join(read_page(damaged).words)))
    assert len(shown) > 30
    assert shown <= known


def test_the_page_is_self_contained_and_has_no_scripts(damaged: report.Report) -> None:
    text = read_page(damaged)
    assert text.links == []
    assert not {"script", "link", "img", "iframe", "b>damaged"} & set(text.tags)
    assert "url(" not in page.render(damaged)
    assert "<script>" in " ".join(text.words)  # the name of the foreign object, as text


def test_the_plots_draw_what_the_report_counts(damaged: report.Report) -> None:
    plots = [
        ET.fromstring(svg)  # noqa: S314 - our own
        for svg in re.findall(r"<svg.*?</svg>", page.render(damaged), flags=re.DOTALL)
    ]
    assert [plot.get("id") for plot in plots] == ["plot-outcomes", "plot-score", "plot-duration"]
    for plot, counts in zip(
        plots, (None, damaged.scores.counts, damaged.durations.counts), strict=True
    ):
        bars = [bar for bar in plot.iter("rect") if float(bar.get("height", "0")) > 0]
        drawn = sum(int((bar[0].text or "").rpartition(": ")[2]) for bar in bars)
        assert drawn == (damaged.totals.jobs if counts is None else sum(counts))
        assert all(0 <= float(bar.attrib["x"]) <= 720 for bar in bars)
    assert sum(damaged.scores.counts) == damaged.totals.outputs


def test_an_unmarked_output_shows_in_the_first_bar(damaged: report.Report) -> None:
    assert damaged.scores.edges[0] == 0
    assert damaged.scores.counts[0] == 1


def test_an_empty_report_is_rendered(tmp_path: Path) -> None:
    fill_bucket(tmp_path, [], integrate=False)
    sources = open_sources(tmp_path)
    text = " ".join(
        read_page(audit.build_report(audit.audit_bucket(sources), sources, "2026-01-01")).words
    )
    assert "No genuine results." in text
    assert "This bucket has no log." in text
    assert ("Nothing was erased." in text, "No consent was withdrawn." in text) == (True, True)


def test_only_the_page_limits_the_number_of_findings(damaged: report.Report) -> None:
    many = msgspec.structs.replace(damaged, findings=damaged.findings * 100)
    assert page.render(many).count("OBJECT_CHANGED</code><td>") <= page.MAX_FINDINGS
    assert "More are in report.json." in page.render(many)


def test_the_page_says_what_was_erased_and_withdrawn(copy: Path) -> None:
    job, runtime = result_paths(copy)[0].parent.name, open_runtime(copy)
    erase_outputs(job, runtime, reason="<b>asked</b> to")
    note_withdrawal(copy, 4e9)
    sources = open_sources(copy)
    made = audit.build_report(audit.audit_bucket(sources), sources, "")
    text = " ".join(read_page(made).words)
    (note,) = made.withdrawals
    for said in (job, "hello", "<b>asked</b> to", note.recording, note.record, "2096-10-02T07:06"):
        assert said in text


def test_long_periods_are_counted_by_month() -> None:
    jobs = [
        audit.CheckedJob(
            job="j", seen="s", finished=f"2026-{1 + n // 28:02}-{1 + n % 28:02}T", status="failed"
        )
        for n in range(120)
    ]
    assert [p.period for p in report._count_periods(jobs)] == [f"2026-0{n}" for n in range(1, 6)]
    assert sum(p.failed for p in report._count_periods(jobs)) == 120


@pytest.mark.parametrize(
    ("values", "edges", "counts"),
    [
        pytest.param([], [], [], id="none"),
        pytest.param([0.0], [0, 0.001], [1], id="zero"),
        pytest.param([1.0, 12.0], list(range(14)), [0, 1, *[0] * 10, 1], id="units"),
        pytest.param([-3.0, 3.0], [-3, -2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5],
                     [1, *[0] * 11, 1], id="below"),
    ],
)  # fmt: skip
def test_bins_are_round_and_hold_every_value(
    values: list[float], edges: list[float], counts: list[int]
) -> None:
    histogram = report.build_histogram(values)
    assert (histogram.edges, histogram.counts) == (edges, counts)


def test_the_table_has_a_row_per_item_and_a_column_per_check(
    voicedrop: Voicedrop, copy: Path, tmp_path: Path
) -> None:
    flip_a_bit(copy)
    voicedrop(copy, "audit")
    rows = list(csv.DictReader((tmp_path / "audit/items.csv").read_text().splitlines()))
    assert len(rows) == JOB_COUNT + 1  # the partial job has two items, the rejected one none
    bad = next(row for row in rows if row["job"] == sealed_path(copy).parent.name)
    assert (bad["signature"], bad["object"]) == ("pass", "fail OBJECT_CHANGED")
    assert (bad["plaintext"], bad["watermark"]) == ("fail SEAL_INVALID", "skip NOT_OPENED")
    names = [name for name, _ in audit.CHECKS.values()]
    assert list(rows[0])[-len(names) :] == names


def test_with_json_the_report_is_on_standard_output(
    voicedrop: Voicedrop, clean: Path, tmp_path: Path
) -> None:
    code, output = voicedrop(clean, "audit", "--json")
    assert code == 0
    assert json.loads(output) == json.loads((tmp_path / "audit/report.json").read_text())


@pytest.mark.slow
def test_a_clip_is_traced_with_an_index_and_the_watermark_key_alone(
    voicedrop: Voicedrop, copy: Path, tmp_path: Path
) -> None:
    voicedrop(copy, "audit")
    runtime = open_runtime(copy)
    done = parse_result(result_paths(copy)[0].read_bytes())
    clip = tmp_path / "clip.wav"
    envelope = done.items[0].envelope
    assert envelope
    body = sealing.open_sealed(sealed_path(copy).read_bytes(), envelope, runtime.keys.wrapping)
    clip.write_bytes(body)
    for name in ("results", "control", "inbox"):
        shutil.rmtree(copy / name)
    for other in (*copy.glob("keys/kek*"), *copy.glob("keys/sign*")):
        other.unlink()
    index = str(tmp_path / "audit/index.json")
    code, output = voicedrop(copy, "trace", str(clip), "--index", index)
    assert code == 0
    assert f"item hello of job {done.job_id}" in output.replace("\n", "")
    code, output = voicedrop(copy, "trace", str(clip), "--json", "--index", index)
    assert json.loads(output)["traces"][0]["findings"][0]["job"] == done.job_id


def test_tracing_needs_a_watermark_key_and_a_clip(
    voicedrop: Voicedrop, copy: Path, tmp_path: Path
) -> None:
    code, output = voicedrop(copy, "trace", str(tmp_path / "nowhere.wav"))
    assert (code, "OBJECT_MISSING" in output) == (1, True)
    (tmp_path / "page.wav").write_bytes(b"<html>")
    assert voicedrop(copy, "trace", str(tmp_path / "page.wav"))[0] == 1
    (copy / "keys/watermark-001.key").unlink()
    with pytest.raises(Misconfigured, match="KEY_NOT_FOUND"):
        voicedrop(copy, "trace", str(tmp_path / "page.wav"))


def test_the_log_verifies_with_public_keys_alone(
    voicedrop: Voicedrop, copy: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.write_text(log.read_latest_checkpoint(open_runtime(copy).results) or "")
    add_job(open_runtime(copy), 100)
    code, output = voicedrop(copy, "log", "integrate")
    assert (code, f"{JOB_COUNT + 1} entries are in the log" in output) == (0, True)
    for secret in (*copy.glob("keys/*.key"), copy / "keys/sign-001.pem"):
        secret.unlink()
    code, output = voicedrop(copy, "log", "verify", "--checkpoint", str(kept))
    assert (code, "It continues the checkpoint" in output.replace("\n", " ")) == (0, True)
    assert "keep a checkpoint" in voicedrop(copy, "log", "verify")[1].replace("\n", " ")


@pytest.mark.slow
def test_the_log_continues_after_the_signing_key_changed(voicedrop: Voicedrop, copy: Path) -> None:
    (copy / "keys/sign-001.pem").unlink()
    keys.create_keys(copy / "keys")
    add_job(open_runtime(copy), 100)
    assert voicedrop(copy, "log", "integrate")[0] == 0
    assert voicedrop(copy, "log", "verify")[0] == 0
    assert voicedrop(copy, "audit")[0] == 0


def test_an_empty_log_is_reported_as_empty(voicedrop: Voicedrop, tmp_path: Path) -> None:
    fill_bucket(tmp_path / "empty", [], integrate=False)
    assert "Nothing is queued" in voicedrop(tmp_path / "empty", "log", "integrate")[1]
