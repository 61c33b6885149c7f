"""Extract the arguments of Terraform resources from the package pulumi-alicloud:

    python -m scripts.terraform_schema FOLDER [--check]

FOLDER is the unpacked package, whose files are parsed and not imported. They are generated from the
provider aliyun/alicloud and have its arguments with their types. Pulumi turns the names of some
repeated blocks into plurals, which is undone here. Writes cloud/alicloud.schema.json, or compares.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "cloud" / "alicloud.schema.json"
RESOURCES = {
    "alicloud_cms_alarm": ("cms", "alarm", "AlarmArgs"),
    "alicloud_log_alert": ("log", "alert", "AlertArgs"),
    "alicloud_log_dashboard": ("log", "dashboard", "DashboardArgs"),
    "alicloud_log_project": ("log", "project", "ProjectArgs"),
    "alicloud_log_resource_record": ("log", "resource_record", "ResourceRecordArgs"),
    "alicloud_log_store": ("log", "store", "StoreArgs"),
    "alicloud_log_store_index": ("log", "store_index", "StoreIndexArgs"),
}
SINGULAR = {"field_searches": "field_search", "query_lists": "query_list"}
"""Names of Pulumi that differ from those of Terraform."""
TYPES = {"str": "string", "int": "number", "float": "number", "bool": "bool"}


def extract(package: Path) -> dict[str, Any]:
    resources = {}
    for kind, (service, module, name) in RESOURCES.items():
        folder = package / service
        classes = _read_classes(folder / "_inputs.py") | _read_classes(folder / f"{module}.py")
        resources[kind] = _describe(name, classes)
    version = next(package.parent.glob("pulumi_alicloud-*.dist-info")).name.split("-")[1]
    source = f"arguments in pulumi-alicloud {version.removesuffix('.dist')} (Apache License 2.0)"
    return {"source": source, "resources": resources}


def _read_classes(path: Path) -> dict[str, ast.FunctionDef]:
    """Return the constructor of every class of arguments in a file."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Args"):
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                    found[node.name] = member
    return found


def _describe(name: str, classes: dict[str, ast.FunctionDef]) -> dict[str, Any]:
    arguments = {}
    parameters = classes[name].args
    for parameter, default in zip(parameters.kwonlyargs, parameters.kw_defaults, strict=True):
        annotation = ast.unparse(parameter.annotation) if parameter.annotation else ""
        described = _describe_type(annotation, classes)
        if default is None:
            described["required"] = True
        arguments[SINGULAR.get(parameter.arg, parameter.arg)] = described
    return dict(sorted(arguments.items()))


def _describe_type(annotation: str, classes: dict[str, ast.FunctionDef]) -> dict[str, Any]:
    block = re.search(r"'(\w+Args)'", annotation)
    described: dict[str, Any] = {}
    if block:
        described["block"] = _describe(block[1], classes)
    elif "Mapping[" in annotation:
        described["type"] = "map"
    else:
        (plain,) = set(re.findall(r"\b(str|int|float|bool)\b", annotation))
        described["type"] = TYPES[plain]
    if "Sequence[" in annotation:
        described["list"] = True
    return described


def main(arguments: list[str]) -> int:
    text = json.dumps(extract(Path(arguments[0])), indent=1) + "\n"
    if "--check" not in arguments:
        SCHEMA.write_text(text, encoding="utf-8")
        return 0
    is_same = SCHEMA.read_text(encoding="utf-8") == text
    sys.stdout.write(f"{SCHEMA.name} is {'the same' if is_same else 'different'}\n")
    return not is_same


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
