"""The operator fixes the least label that a manifest may ask for, and whose code it may carry."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.job.label_policy import LabelPolicy
from core.job.runtime import Runtime
from core.settings import LeastLabel, Settings
from handlers.wiring import create_local_runtime
from tests.support.present import present
from tests.support.runtime import local_runtime, local_settings, put_job, run_job, voice_of

WAIVED = {"profile": "none", "waiver": "for a game"}
OTHERS = {"producer": "another-company"}


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return local_runtime(tmp_path)


def ask(runtime: Runtime, label: dict[str, Any], **fields: Any) -> tuple[str, str]:
    """Return the code and pointer with which a job is refused; two empty texts if it is not."""
    done = run_job(put_job(runtime, label=label, mode="validate", **fields), runtime)
    return (done.error.code, done.error.pointer) if done.error else ("", "")


@pytest.mark.parametrize(
    ("least", "label", "pointer"),
    [
        ("none", WAIVED, ""),
        ("none", {"producer": ""}, ""),
        ("implicit", {}, ""),
        ("implicit", WAIVED, "/label/profile"),
        ("implicit", WAIVED | {"cue": "morse-both"}, "/label/profile"),
        ("implicit", {"producer": ""}, "/label/producer"),
        ("audible", {"cue": "morse-end"}, ""),
        ("audible", {}, "/label/cue"),
        ("audible", {"cue": "none"}, "/label/cue"),
        ("audible", WAIVED | {"cue": "morse-both"}, "/label/profile"),
    ],
)
def test_a_manifest_asks_for_no_less_than_the_least_label(
    runtime: Runtime, least: LeastLabel, label: dict[str, Any], pointer: str
) -> None:
    runtime = replace(runtime, labels=LabelPolicy(least=least))
    assert ask(runtime, label) == (("LABEL_REQUIRED", pointer) if pointer else ("", ""))


@pytest.mark.parametrize(
    ("codes", "code", "allowed"),
    [
        ("*", "any", True),
        ("", "any", False),
        ("", "", False),
        ("", "00119111000000000000010000", True),  # the operator's own
        ("one two", "two", True),
        ("one two", "three", False),
        ("one two", "*", False),
        ("jobs/acme=one", "one", True),
        ("jobs/acme=*", "any", True),
        ("jobs/beta=one", "one", False),
        ("jobs/beta=one", "jobs/beta=one", False),
        ("jobs=one", "one", False),
        ("jobs/acme=a=b", "a=b", True),
    ],
)
def test_a_manifest_carries_a_code_that_the_operator_allows_it(
    runtime: Runtime, codes: str, code: str, allowed: bool
) -> None:
    runtime = replace(runtime, labels=LabelPolicy(codes=frozenset(codes.split())))
    refused = ask(runtime, {"producer": code}, name="acme/book")
    assert refused == (("", "") if allowed else ("LABEL_PRODUCER_FORBIDDEN", "/label/producer"))


def test_the_folder_is_compared_as_messages_about_quotas_write_it(runtime: Runtime) -> None:
    runtime = replace(runtime, labels=LabelPolicy(codes=frozenset({"jobs/%E4%B9%A6%20a=one"})))
    assert ask(runtime, {"producer": "one"}, name="书 a/x") == ("", "")
    assert ask(runtime, {"producer": "one"}, name="书/x")[0] == "LABEL_PRODUCER_FORBIDDEN"


@pytest.mark.slow
@pytest.mark.parametrize("label", [WAIVED, OTHERS], ids=["waived", "others"])
def test_no_other_road_leads_past_the_policy(runtime: Runtime, label: dict[str, Any]) -> None:
    """A batch, JSON Lines, and an item that was made before the operator changed the setting."""
    made = run_job(put_job(runtime, label=label), runtime)
    assert made.status == "succeeded"
    policy = LabelPolicy(least="implicit", codes=frozenset())
    strict = replace(runtime, labels=policy, shard_items=1)
    code = "LABEL_REQUIRED" if label is WAIVED else "LABEL_PRODUCER_FORBIDDEN"
    items = [{"id": f"i{n}", "text": "Some words."} for n in range(3)]
    spoken = list(voice_of(runtime).spoken)
    keys = [
        put_job(strict, name="batch", label=label, items=items),
        put_job(strict, name="again", label=label, retry_of=made.job_id),
    ]
    header, lines = json.loads(strict.inbox.get(keys[0], limit=10**6).data), "jobs/l.manifest.jsonl"
    rows = [header | {"items": []}, *items]
    rows[0].pop("items")
    strict.inbox.put(lines, b"\n".join(json.dumps(row).encode() for row in rows))
    for key in (*keys, lines):
        done = run_job(key, strict)
        assert (done.status, present(done.error).code) == ("rejected", code), key
    assert voice_of(runtime).spoken == spoken


def test_both_are_settings(tmp_path: Path) -> None:
    local_runtime(tmp_path)  # makes the keys
    environ = {"VOICEDROP_LABEL_MIN": "audible", "VOICEDROP_LABEL_CODES": " one  jobs/a=two "}
    read = Settings.from_environ(environ)
    settings = local_settings(tmp_path, label_min=read.label_min, label_codes=read.label_codes)
    policy = LabelPolicy(least="audible", codes=frozenset({"one", "jobs/a=two"}))
    assert create_local_runtime(settings).labels == policy
    assert create_local_runtime(local_settings(tmp_path)).labels == LabelPolicy()
