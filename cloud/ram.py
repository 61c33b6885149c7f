"""Check that every RAM policy grants only the permissions that its role needs.

Policies are templates: `envsubst` fills ${ACCOUNT}, ${REGION}, ${INBOX}, ${RESULTS}, ${CONTROL},
${FUNCTION} and ${KMS_KEY} (docs/deploy.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_LIST = frozenset({"oss:ListObjects"})
_READ_OBJECTS = frozenset({"oss:GetObject"}) | _LIST
_PROBE = frozenset({"oss:GetBucketInfo", "oss:ListObjects"})
_PUT_ONCE = frozenset({"oss:GetObject", "oss:PutObject", "oss:GetBucketVersioning"}) | _PROBE

_KEEP = frozenset({"oss:PutObject", "oss:DeleteObject"})
_FOLDERS_OF_WORKERS = (
    *("lease", "pending", "dead", "quota", "rates", "voices", "voiceprints", "work", "log"),
)
"""Everything in the control bucket except the protections of voices."""

# Policy -> resource (a bucket, or the end of another ARN) -> actions.
PERMISSIONS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "worker": {
        "${INBOX}": frozenset({"oss:GetObject"}) | _PROBE,
        "${RESULTS}": _PUT_ONCE,
        # Outputs of a voice whose consent is withdrawn while its job runs; never a result.
        "${RESULTS}/out/*.sealed": frozenset({"oss:DeleteObject"}),
        "${CONTROL}": _READ_OBJECTS | _PROBE | {"oss:GetBucketVersioning"},
        **{f"${{CONTROL}}/{folder}": _KEEP for folder in _FOLDERS_OF_WORKERS},
        "queues/voicedrop-failed/messages": frozenset({"mns:SendMessage"}),
        "project/voicedrop-logs-${ACCOUNT}/logstore/worker": frozenset({"log:PostLogStoreLogs"}),
    },
    "worker-kms": {"key/${KMS_KEY}": frozenset({"kms:Encrypt", "kms:Decrypt"})},
    "oss-notification": {"functions/${FUNCTION}": frozenset({"fc:InvokeFunction"})},
    "protector": {
        "${CONTROL}/protected": _KEEP | {"oss:GetObject"},
        "${CONTROL}": _LIST,
    },
    "producer": {"${INBOX}": frozenset({"oss:PutObject", "oss:AbortMultipartUpload"})},
    "consumer": {"${RESULTS}": _READ_OBJECTS},
    "consumer-kms": {"key/${KMS_KEY}": frozenset({"kms:Decrypt"})},
    "auditor": {"${RESULTS}": _READ_OBJECTS},
    # Of results, outputs alone can be deleted, and signed notes written.
    "eraser": {
        "${INBOX}/consent": frozenset({"oss:GetObject"}),
        "${RESULTS}": _READ_OBJECTS,
        "${RESULTS}/out/*.sealed": frozenset({"oss:DeleteObject"}),
        "${RESULTS}/out/*/tombstones/*.json": frozenset({"oss:PutObject"}),
        "${RESULTS}/withdrawn": frozenset({"oss:GetObject"}),
        "${RESULTS}/withdrawn/*.json": frozenset({"oss:PutObject"}),
        "${CONTROL}": _LIST,
        "${CONTROL}/log/leaves": frozenset({"oss:PutObject"}),
        "${CONTROL}/voices": frozenset({"oss:GetObject", "oss:DeleteObject"}),
        "${CONTROL}/voiceprints": frozenset({"oss:DeleteObject"}),
    },
}
TRUSTED_SERVICES = {"worker.trust": "fc.aliyuncs.com", "oss-notification.trust": "oss.aliyuncs.com"}


def find_faults(name: str, text: str) -> Iterator[str]:
    """Yield every fault of the policy in file `name`."""
    policy, role = json.loads(text), name.removesuffix(".json")
    if set(policy) != {"Version", "Statement"} or policy["Version"] != "1":
        yield 'must contain exactly "Version": "1" and "Statement"'
    elif role in TRUSTED_SERVICES:
        yield from _check_trust(TRUSTED_SERVICES[role], policy["Statement"])
    elif role in PERMISSIONS:
        for i, statement in enumerate(policy["Statement"]):
            yield from (
                f"Statement {i}: {fault}"
                for fault in _check_statement(PERMISSIONS[role], statement)
            )
    else:
        yield "no permissions are defined for this role"


def _check_trust(service: str, statements: list[dict[str, Any]]) -> Iterator[str]:
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": [service]}}
    if statements != [trust]:
        yield f"only {service} may assume this role"


def _check_statement(
    allowed: Mapping[str, frozenset[str]], statement: Mapping[str, Any]
) -> Iterator[str]:
    keys = {"Effect", "Action", "Resource", "Condition"}
    if statement.get("Effect") != "Allow" or not set(statement) <= keys:
        yield "must be Effect Allow with Action, Resource and optionally Condition"
        return
    for action in statement["Action"]:
        for resource in statement["Resource"]:
            yield from _check_grant(allowed, action, resource)


def _check_grant(
    allowed: Mapping[str, frozenset[str]], action: str, resource: str
) -> Iterator[str]:
    arn = re.fullmatch(r"acs:(\w+):(\*|\$\{REGION\}):\$\{ACCOUNT\}:/?(.+)", resource)
    if arn is None or arn[1] != action.split(":")[0]:
        yield f"{resource}: not a resource of this account for {action}"
        return
    name = max((n for n in allowed if arn[3] == n or arn[3].startswith(n + "/")), default=None)
    if name is None or action not in allowed[name]:
        yield f"{action} on {resource}: more than this role needs"
    elif arn[1] == "oss" and ("/" in arn[3]) != action.endswith(("Object", "Upload")):
        yield f"{action} on {resource}: objects are bucket/..., buckets have no slash"
