"""Find the faults of Terraform files in JSON syntax offline.

Arguments are compared with `alicloud.schema.json`, which `python -m scripts.terraform_schema`
extracts from a published package; then the rules of this module are applied.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SCHEMA: Mapping[str, Any] = json.loads(
    (Path(__file__).parent / "alicloud.schema.json").read_text(encoding="utf-8")
)["resources"]
META_ARGUMENTS = {"//", "count", "depends_on", "for_each", "lifecycle", "provider"}
TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str, int, float),
    "number": (int, float),
    "bool": (bool,),
    "map": (dict,),
}

# Metrics of CloudMonitor's namespace acs_fc with the dimensions region and functionName.
# Source: Function Compute, "Monitoring metrics" and "Monitoring data", 2026-08.
METRICS = frozenset(
    f"Function{name}"
    for name in (
        *("TotalInvocations", "ProvisionInvocations"),
        *(f"HTTPStatus{status}xx" for status in (2, 3, 4, 5)),
        *("ServerErrors", "ClientErrors", "FunctionErrors"),
        *("ConcurrencyThrottles", "ResourceThrottles"),
        *("AvgDuration", "P90Duration", "P99Duration", "MaxDuration", "LatencyAvg"),
        *("MemoryLimitMB", "MaxMemoryUsage"),
        *("OndemandInstanceQuota", "OndemandActiveInstance", "ProvisionedCurrentInstance"),
        *("EnqueueCount", "DequeueCount"),
        *("AsyncMessageLatencyAvg", "AsyncMessageLatencyMax"),
        *("AsyncEventExpiredDropped", "DestinationErrors", "DestinationSucceeded"),
        *("AsyncMessagesBacklogV2", "AsyncMessagesInProcess"),
        *("MaxConcurrentRequests", "AvgConcurrentRequests"),
        *("vCPUQuotaCores", "MaxvCPUCores", "AvgvCPUCores"),
        *("MaxvCPUUtilization", "AvgvCPUUtilization", "RXBytesPerSec", "TXBytesPerSec"),
        *("MaxMemoryUsageMB", "AvgMemoryUsageMB", "MaxMemoryUtilization", "AvgMemoryUtilization"),
        *("GPUMemoryLimitMB", "GPUMaxMemoryUsage", "GPUMemoryUsagePercent", "GPUSMPercent"),
        *("GPUEncoderPercent", "GPUDecoderPercent"),
    )
)
STATISTICS = {"Average", "Maximum", "Minimum", "Sum", "Value"}


def find_faults(folder: Path) -> Iterator[str]:
    """Yield every fault of the `*.tf.json` in a folder, which form one module."""
    files = {path: json.loads(path.read_text("utf-8")) for path in folder.glob("*.tf.json")}
    names = _list_names(files.values())
    for path, document in sorted(files.items()):
        for kind, resources in document.get("resource", {}).items():
            if kind == "//":
                continue
            for name, arguments in resources.items():
                for fault in _check_resource(kind, arguments):
                    yield f"{path.name}: {kind}.{name}/{fault}"
        for reference in sorted(_list_references(document) - names):
            yield f"{path.name}: {reference} is not declared"


def _check_resource(kind: str, arguments: Mapping[str, Any]) -> Iterator[str]:
    if kind not in SCHEMA:
        yield f"{kind}: not in alicloud.schema.json"
        return
    given = {name: value for name, value in arguments.items() if name not in META_ARGUMENTS}
    malformed = list(_check_block(SCHEMA[kind], given, ""))
    yield from malformed
    if kind == "alicloud_cms_alarm" and not malformed:
        yield from _check_alarm(given)


def _check_block(schema: Mapping[str, Any], given: Mapping[str, Any], path: str) -> Iterator[str]:
    """Compare the arguments of a resource or block with those that it has."""
    for name, argument in schema.items():
        if argument.get("required") and name not in given:
            yield f"{path}{name}: missing"
    for name, value in given.items():
        if name not in schema:
            yield f"{path}{name}: unknown argument"
        else:
            yield from _check_value(schema[name], value, f"{path}{name}")


def _check_value(argument: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    if isinstance(value, str) and "${" in value:
        return  # its type shows when it is evaluated
    if "block" in argument:
        blocks = value if isinstance(value, list) else [value]
        if len(blocks) > 1 and not argument.get("list"):
            yield f"{path}: may be given once"
        for block in blocks:
            yield from _check_block(argument["block"], block, f"{path}/")
    elif argument.get("list"):
        if not isinstance(value, list):
            yield f"{path}: must be a list"
    elif not isinstance(value, TYPES[argument["type"]]) or (
        isinstance(value, bool) != (argument["type"] == "bool")
    ):
        yield f"{path}: must be a {argument['type']}"


def _check_alarm(alarm: Mapping[str, Any]) -> Iterator[str]:
    conditions = [
        *alarm.get("composite_expression", []),
        *alarm.get("escalations_critical", []),
    ]
    if len(conditions) != 1:
        yield "escalations_critical: needs exactly one condition"
        return
    (condition,) = conditions
    named = re.findall(r"@(\w+)\[(\d+)\]\.\$(\w+)", condition.get("expression_raw", ""))
    metrics = {alarm.get("metric"), *(metric for metric, _, _ in named)}
    statistics = {condition.get("statistics"), *(one for _, _, one in named)} - {None}
    if alarm.get("project") != "acs_fc" or not metrics <= METRICS:
        yield f"metric: {', '.join(sorted(map(str, metrics - METRICS)))} is none of acs_fc"
    if alarm.get("period") != 60 or {period for _, period, _ in named} - {"60"}:
        yield "period: the metrics of functions have one of 60 s"
    if not statistics or not statistics <= STATISTICS:
        yield f"statistics: must be of {', '.join(sorted(STATISTICS))}"
    if not 300 <= alarm.get("silence_time", 86400) <= 86400:
        yield "silence_time: must be 300 to 86400 s"


def _list_names(documents: Any) -> set[str]:
    """Return what expressions may refer to: `var.x`, `local.x` and `alicloud_x.y`."""
    names = set()
    for document in documents:
        names |= {f"var.{name}" for name in document.get("variable", {})}
        names |= {f"local.{name}" for name in document.get("locals", {})}
        for kind, resources in document.get("resource", {}).items():
            if kind != "//":
                names |= {f"{kind}.{name}" for name in resources}
    return names


def _list_references(document: Any) -> set[str]:
    """Return what the expressions of a file refer to; each value is on a line of its own."""
    lines = json.dumps(document, indent=0).splitlines()
    expressions = " ".join(line for line in lines if "${" in line)
    return set(re.findall(r"\b((?:var|local|alicloud_\w+)\.\w+)", expressions))
