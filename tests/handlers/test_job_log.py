"""One line a finished job; the index and the queries of the log name fields that lines have."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.job.runtime import Runtime
from core.result.cost import parse_prices
from core.voice import Voice
from handlers import job_log, oss
from handlers.server.app import _failure
from handlers.server.jsonlog import JsonLines, current_request
from handlers.server.secrecy import Mask
from handlers.wiring import _log_step
from tests.support.events import notification
from tests.support.log_service import entry, flat, run_query
from tests.support.runtime import local_runtime, put_job

MONITORING = Path(__file__).parents[2] / "cloud" / "monitoring"
QUERIES = json.loads((MONITORING / "queries.json").read_text(encoding="utf-8"))
LOGS = json.loads((MONITORING / "logs.tf.json").read_text(encoding="utf-8"))["resource"]
PRICES = "currency=USD unit=0.000020 cpu=4*1 memory=8*0.15 call=0.0075"


@contextmanager
def lines() -> Iterator[list[dict[str, Any]]]:
    """Collect what the server would print, as parsed lines."""
    stream = io.StringIO()
    found: list[dict[str, Any]] = []
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(Mask()))
    logger = logging.getLogger("voicedrop")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield found
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        found += [json.loads(line) for line in stream.getvalue().splitlines()]


def finished(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in found if line["message"] == job_log.FINISHED]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    runtime = local_runtime(tmp_path_factory.mktemp("logged"))
    return replace(runtime, prices=parse_prices(PRICES), observe=_log_step)


@pytest.fixture(scope="module")
def logged(runtime: Runtime) -> list[dict[str, Any]]:
    """The lines of a request that carries out a job, of the same request again, of one that names
    a manifest which does not exist, and of one that crashes."""
    with lines() as found:
        token = current_request.set("r-1")
        try:
            body = notification(put_job(runtime))
            oss.handle(body, runtime)
            oss.handle(body, runtime)
            oss.handle(notification("jobs/none.manifest.json"), runtime)
            try:
                broken = replace(runtime, load_voice=crash, identify_voice=None)
                oss.handle(notification(put_job(runtime, name="two")), broken)
            except RuntimeError as error:
                _failure(error, "r-1", Mask())
        finally:
            current_request.reset(token)
    return found


def test_a_finished_job_is_one_line_however_often_its_notification_arrives(
    logged: list[dict[str, Any]], runtime: Runtime
) -> None:
    assert {line["request_id"] for line in logged} == {"r-1"}
    (line,) = finished(logged)
    assert (line["status"], line["items"], line["failed"]) == ("succeeded", 1, 0)
    assert line["code"] == ""
    assert {"fetch", "consent", "prepare", "enrol", "speak", "watermark"} <= set(line["stages"])
    assert line["elapsed_s"] >= 0
    assert line["audio_s"] > 0
    assert line["memory_peak_mb"] > 10
    prices = runtime.prices
    assert prices
    assert line["calls"] == 1
    assert line["billed_s"] > 0
    assert line["cost"] == prices.cost(line["billed_s"], line["calls"]).amount
    assert line["currency"] == "USD"


def test_a_rejected_job_is_a_line_with_its_code_and_without_cost(runtime: Runtime) -> None:
    runtime.inbox.put("jobs/bad.manifest.json", b"{}")
    with lines() as found:
        oss.handle(notification("jobs/bad.manifest.json"), replace(runtime, prices=None))
    (line,) = finished(found)
    assert (line["status"], line["code"]) == ("rejected", "SCHEMA_UNSUPPORTED")
    assert (line["billed_s"], line["calls"], line["cost"]) == (None, None, None)
    assert "request_id" not in line


def paths(line: dict[str, Any]) -> set[str]:
    return {path for path, _ in flat(line)}


def crash() -> Voice:
    raise RuntimeError("no engine")


def possible_fields(logged: list[dict[str, Any]]) -> set[str]:
    """The paths in lines of a job and of errors, and the stages of all jobs."""
    stages = set(re.findall(r'stopwatch\.(?:stage|begin)\("(\w+)"\)', read_core()))
    return {
        *(path for line in logged for path in paths(line)),
        *(f"stages.{stage}" for stage in stages),
    }


def read_core() -> str:
    root = Path(__file__).parents[2] / "core"
    return "".join(path.read_text(encoding="utf-8") for path in root.rglob("*.py"))


def indexed_fields() -> dict[str, str]:
    """Return every indexed field, and its type; those in lines begin with `message.`."""
    (index,) = LOGS["alicloud_log_store_index"].values()
    found = {}
    for field in index["field_search"]:
        found[field["name"]] = field["type"]
        for key in field.get("json_keys", []):
            found[f"{field['name']}.{key['name']}"] = key["type"]
    return found


def test_every_indexed_field_is_in_lines_and_has_its_type(logged: list[dict[str, Any]]) -> None:
    ours = {
        name.removeprefix("message."): kind
        for name, kind in indexed_fields().items()
        if name.startswith("message.")
    }
    assert set(ours) <= possible_fields(logged), set(ours) - possible_fields(logged)
    (line,) = finished(logged)
    types = {"text": str, "long": int, "double": (int, float)}
    for name in set(paths(line)) & set(ours):
        value: Any = line
        for part in name.split("."):
            value = value[part]
        assert isinstance(value, types[ours[name]]), name  # type: ignore[arg-type]


def test_every_number_of_the_line_and_every_stage_is_indexed(logged: list[dict[str, Any]]) -> None:
    (line,) = finished(logged)
    stages = {name for name in possible_fields(logged) if name.startswith("stages.")}
    assert {f"message.{name}" for name in {*paths(line), *stages}} <= set(indexed_fields())


def alert_queries() -> list[str]:
    return [alert["query_list"][0]["query"] for alert in LOGS["alicloud_log_alert"].values()]


@pytest.mark.parametrize("query", [*(q["query"] for q in QUERIES.values()), *alert_queries()])
def test_every_field_of_a_query_is_indexed(query: str) -> None:
    search, _, sql = query.partition("|")
    named = set(re.findall(r"(?:^|[ (])([\w.]+):", search)) | set(
        re.findall(r'"(message\.[\w.]+)"', sql)
    )
    named |= set(re.findall(r"\b(durationMs|isColdStart|hasFunctionError|memoryUsageMB)\b", sql))
    assert named
    assert named <= set(indexed_fields()), named - set(indexed_fields())


CALL = {
    "__topic__": "FCRequestMetrics:/voicedrop-worker",
    "__time__": 1000,
    "operation": "InvokeFunction",
    "durationMs": 1500.5,
    "isColdStart": "true",
    "hasFunctionError": "false",
    "memoryUsageMB": 700.0,
}
"""An entry of the platform, as its documentation shows them."""


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_every_query_runs_and_finds_something(name: str, logged: list[dict[str, Any]]) -> None:
    entries = [entry(line, 1000.0) for line in logged]
    (job,) = [e for e in entries if e["message.message"] == job_log.FINISHED]
    entries += [job | {"message.status": "failed", "message.code": "RETRIES_EXHAUSTED"}, CALL]
    query = QUERIES[name]
    rows = run_query(query["query"], entries, set(indexed_fields()), 1000.0, 600.0)
    assert rows
    assert {*query["x"], *query["y"]} <= set(rows[0])
    assert all(value is not None for row in rows for value in row.values()), rows
    if name == "cost":
        assert rows[0]["cost"] == pytest.approx(2 * job["message.cost"])
    if name == "failed_jobs":
        assert [row["code"] for row in rows] == ["RETRIES_EXHAUSTED"]
    if name == "errors":
        assert {row["code"] for row in rows} >= {"MANIFEST_GONE", "INTERNAL"}
    if name == "calls":
        assert (rows[0]["billed_s"], rows[0]["cold_starts"], rows[0]["errors"]) == (2, 1, 0)


@pytest.mark.parametrize(
    ("alert", "change", "count"),
    [("cost", {"message.cost": 20.0}, 3), ("given_up", {"message.code": "RETRIES_EXHAUSTED"}, 1)],
)
def test_each_alarm_from_the_log_fires_and_clears(
    logged: list[dict[str, Any]], alert: str, change: dict[str, Any], count: int
) -> None:
    rule = LOGS["alicloud_log_alert"][alert]
    (query,) = rule["query_list"]
    condition = rule["severity_configurations"][0]["eval_condition"]["condition"]
    column, _, limit = condition.replace("${var.cost_a_day}", "50").partition(" > ")
    window = {"-24h": 86400.0, "-15m": 900.0}[query["start"]]
    (job,) = [entry(line, 0.0) for line in logged if line["message"] == job_log.FINISHED]
    entries: list[dict[str, Any]] = []

    def fires(now: float) -> bool:
        rows = run_query(query["query"], entries, set(indexed_fields()), now, window)
        return any((row[column] or 0) > float(limit) for row in rows)

    for i in range(count):
        assert not fires(60.0 * i)
        entries.append(job | change | {"__time__": 60 * i})
    assert fires(60.0 * (count - 1))
    assert not fires(window + 60.0 * count)


def test_the_queries_find_the_line_by_its_message() -> None:
    about_jobs = [
        q for q in [*(q["query"] for q in QUERIES.values()), *alert_queries()] if "job" in q
    ]
    assert len(about_jobs) > 5
    assert all(f'message.message: "{job_log.FINISHED}"' in query for query in about_jobs)


def test_the_columns_of_the_charts_are_those_of_their_queries() -> None:
    for query in QUERIES.values():
        columns = set(re.findall(r" as (\w+)", query["query"]))
        assert {*query["x"], *query["y"]} <= columns
        assert query["chart"] == "table" or query["x"]


def test_the_log_is_where_the_function_writes_it() -> None:
    import yaml

    props = yaml.safe_load((MONITORING.parents[1] / "s.yaml").read_text(encoding="utf-8"))
    config = props["resources"]["worker"]["props"]["logConfig"]
    account = config["project"].replace("${vars.accountId}", "${var.account}")
    assert account == LOGS["alicloud_log_project"]["logs"]["project_name"]
    assert config["logstore"] == LOGS["alicloud_log_store"]["worker"]["logstore_name"]
    assert config["logBeginRule"] == "None"
