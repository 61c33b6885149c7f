"""The Terraform files have no fault, and faults in them are found."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from cloud import check, terraform

FILES = {path.name: json.loads(path.read_text()) for path in check.MONITORING.glob("*.tf.json")}
ALARM = "alarms/resource/alicloud_cms_alarm"
LOG = "logs/resource"


def faults_after(folder: Path, path: str = "", value: Any = None) -> list[str]:
    """Return the faults after the value at `path` was set, or deleted if it is None."""
    files = copy.deepcopy(FILES)
    name, *steps = path.split("/") if path else [""]
    if name:
        *parents, last = (int(step) if step.isdigit() else step for step in steps)
        place = files[f"{name}.tf.json"]
        for parent in parents:
            place = place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = value
    for file, document in files.items():
        (folder / file).write_text(json.dumps(document))
    return list(terraform.find_faults(folder))


def test_the_files_have_no_fault(tmp_path: Path) -> None:
    assert faults_after(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (f"{ALARM}/gpu/metric", "FunctionGPUPercent", "FunctionGPUPercent is none of acs_fc"),
        (f"{ALARM}/gpu/metric", None, "gpu/metric: missing"),
        (f"{ALARM}/gpu/project", "acs_ecs_dashboard", "gpu/metric"),
        (f"{ALARM}/gpu/period", 300, "gpu/period"),
        (f"{ALARM}/gpu/silence_time", 60, "must be 300 to 86400"),
        (f"{ALARM}/gpu/silence_time", "long", "silence_time: must be a number"),
        (f"{ALARM}/gpu/silencetime", 600, "silencetime: unknown argument"),
        (f"{ALARM}/gpu/contact_groups", "voicedrop", "contact_groups: must be a list"),
        (f"{ALARM}/gpu/escalations_critical/0/time", 5, "escalations_critical/time: unknown"),
        (f"{ALARM}/gpu/escalations_critical/0/statistics", "Mean", "statistics: must be of"),
        (f"{ALARM}/gpu/escalations_critical", None, "needs exactly one condition"),
        (f"{ALARM}/gpu/webhook", "${var.receiver}", "var.receiver is not declared"),
        (
            f"{ALARM}/errors/composite_expression/0/expression_raw",
            "@FunctionErrorsRate[60].$Average > 1",
            "FunctionErrorsRate is none of acs_fc",
        ),
        (
            f"{ALARM}/errors/composite_expression/0/expression_raw",
            "@FunctionFunctionErrors[300].$Average > 1",
            "errors/period",
        ),
        (f"{LOG}/alicloud_log_store/worker/shards", 2, "shards: unknown argument"),
        (
            f"{LOG}/alicloud_log_store_index/worker/logstore",
            "${local.x}",
            "local.x is not declared",
        ),
        (f"{LOG}/alicloud_log_alert/cost/query_list/0/query", None, "query_list/query: missing"),
        (f"{LOG}/alicloud_log_nothing", {"x": {}}, "not in alicloud.schema.json"),
    ],
)
def test_a_fault_is_found_and_named(tmp_path: Path, path: str, value: Any, fault: str) -> None:
    found = faults_after(tmp_path, path, value)
    assert any(fault in line for line in found), found


def test_the_alarms_are_those_that_the_page_describes() -> None:
    page = (check.MONITORING.parents[1] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    resources = FILES["alarms.tf.json"]["resource"]["alicloud_cms_alarm"].values()
    alerts = FILES["logs.tf.json"]["resource"]["alicloud_log_alert"].values()
    names = {alarm["name"] for alarm in resources} | {alert["alert_name"] for alert in alerts}
    assert {name for name in names if f"`{name}`" not in page} == set()
