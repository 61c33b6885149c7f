"""Least privilege, as rules: who may do what to which bucket, and nothing besides.

Policies are templates: ${ACCOUNT}, ${REGION}, ${INBOX}, ${RESULTS}, ${CONTROL}, ${FUNCTION} and
${KMS_KEY} are filled by `envsubst` (docs/deploy.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_LIST = frozenset({"oss:ListObjects"})
_READ = frozenset({"oss:GetObject"}) | _LIST
_PROBE = frozenset({"oss:GetBucketInfo", "oss:ListObjects"})
_ONCE = frozenset({"oss:GetObject", "oss:PutObject", "oss:GetBucketVersioning"}) | _PROBE

# Policy -> resource (a bucket, or what else the ARN names) -> actions.
POWERS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "worker": {
        "${INBOX}": frozenset({"oss:GetObject"}) | _PROBE,
        "${RESULTS}": _ONCE,
        "${CONTROL}": _ONCE | {"oss:DeleteObject"},
        "queues/voicedrop-failed/messages": frozenset({"mns:SendMessage"}),
        "project/voicedrop-logs-${ACCOUNT}/logstore/worker": frozenset({"log:PostLogStoreLogs"}),
    },
    "worker-kms": {"key/${KMS_KEY}": frozenset({"kms:Encrypt"})},
    "oss-notification": {"functions/${FUNCTION}": frozenset({"fc:InvokeFunction"})},
    "producer": {"${INBOX}": frozenset({"oss:PutObject", "oss:AbortMultipartUpload"})},
    "consumer": {"${RESULTS}": _READ},
    "consumer-kms": {"key/${KMS_KEY}": frozenset({"kms:Decrypt"})},
    "auditor": {"${RESULTS}": _READ},
}
TRUSTED = {"worker.trust": "fc.aliyuncs.com", "oss-notification.trust": "oss.aliyuncs.com"}


def check(name: str, text: str) -> Iterator[str]:
    """Every fault of the policy in file `name`."""
    policy, role = json.loads(text), name.removesuffix(".json")
    if set(policy) != {"Version", "Statement"} or policy["Version"] != "1":
        yield 'must hold "Version": "1" and "Statement"'
    elif role in TRUSTED:
        yield from _trust(TRUSTED[role], policy["Statement"])
    elif role in POWERS:
        for i, statement in enumerate(policy["Statement"]):
            yield from (f"Statement {i}: {fault}" for fault in _statement(POWERS[role], statement))
    else:
        yield "no rule says what this role is for"


def _trust(service: str, statements: list[dict[str, Any]]) -> Iterator[str]:
    expected = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"Service": [service]},
    }
    if statements != [expected]:
        yield f"only {service} may take this role"


def _statement(powers: Mapping[str, frozenset[str]], statement: Mapping[str, Any]) -> Iterator[str]:
    if statement.get("Effect") != "Allow" or not set(statement) <= {
        "Effect",
        "Action",
        "Resource",
        "Condition",
    }:
        yield "must be Effect Allow with Action, Resource and at most a Condition"
        return
    for action in statement["Action"]:
        for resource in statement["Resource"]:
            yield from _grant(powers, action, resource)


def _grant(powers: Mapping[str, frozenset[str]], action: str, resource: str) -> Iterator[str]:
    arn = re.fullmatch(r"acs:(\w+):(\*|\$\{REGION\}):\$\{ACCOUNT\}:/?(.+)", resource)
    if arn is None or arn[1] != action.split(":")[0]:
        yield f"{resource}: not a resource of this account for {action}"
        return
    named = max((n for n in powers if arn[3] == n or arn[3].startswith(n + "/")), default=None)
    if named is None or action not in powers[named]:
        yield f"{action} on {resource}: more than this role needs"
    elif arn[1] == "oss" and ("/" in arn[3]) != action.endswith(("Object", "Upload")):
        yield f"{action} on {resource}: objects are bucket/..., buckets have no slash"
