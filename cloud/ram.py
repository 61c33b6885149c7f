"""Check that every RAM policy grants only the permissions that its role needs.

Policies are templates: `envsubst` fills ${ACCOUNT}, ${REGION}, ${INBOX}, ${RESULTS}, ${CONTROL},
${FUNCTION}, ${KMS_KEY}, ${DOMAIN} and ${OFFICE}, the addresses from which people work, in CIDR
notation (docs/deploy.md).
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

_FUNCTION, _ALARMS = "functions/${FUNCTION}", "functions/voicedrop-alarms"
_FRONT = "functions/voicedrop-front"
_GET_MINIMUM, _SET_MINIMUM = "fc:GetProvisionConfig", "fc:PutProvisionConfig"
_DEPLOY = frozenset(
    f"fc:{action}"
    for action in (
        *("CreateFunction", "GetFunction", "UpdateFunction"),
        *("GetConcurrencyConfig", "PutConcurrencyConfig"),
    )
)
_TRIGGERS = frozenset(f"fc:{action}Trigger" for action in ("Create", "Get", "Update")) | {
    "fc:ListTriggers"
}
_NOTIFICATIONS = frozenset(
    f"oss:{action}BucketEventNotification" for action in ("Get", "Put", "Delete")
)
_LOGS = "project/voicedrop-logs-${ACCOUNT}"

WITHOUT_RESOURCE = frozenset({"cms:DescribeMetricRuleList", "cms:DescribeMetricList"})
"""Actions that cannot be granted on single resources, according to their documentation."""

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
    "alarms": {
        f"{_FUNCTION}/aliases/cpu": frozenset({"fc:GetAlias"}),
        f"{_FUNCTION}/aliases/prod": frozenset({"fc:GetAlias", "fc:UpdateAlias"}),
        _FUNCTION: frozenset({_GET_MINIMUM, _SET_MINIMUM}),
        "*": frozenset({"cms:DescribeMetricRuleList"}),
    },
    "alarms-kms": {"key/${KMS_KEY}": frozenset({"kms:Decrypt"})},
    # Holds no key, and reads nothing for workers.
    "front": {
        "${INBOX}": frozenset({"oss:GetObject"}) | _LIST,
        **{
            f"${{INBOX}}/{folder}": frozenset({"oss:PutObject"})
            for folder in ("jobs", "refs", "consent", "audit", "tickets", "voices")
        },
        "${RESULTS}": _LIST,
        "${RESULTS}/out": frozenset({"oss:GetObject"}),
        "${RESULTS}/audit": frozenset({"oss:GetObject"}),
        f"{_LOGS}/logstore/worker": frozenset({"log:PostLogStoreLogs"}),
    },
    # Neither invokes, deletes nor reads a bucket. Whoever changes the code of a function can do
    # what its role can.
    "deployer": {
        _FUNCTION: _DEPLOY
        | {"fc:GetFunctionAsyncInvokeConfig", "fc:PutFunctionAsyncInvokeConfig"}
        | {_GET_MINIMUM, _SET_MINIMUM},
        f"{_FUNCTION}/versions": frozenset(
            {"fc:ListFunctionVersions", "fc:PublishFunctionVersion"}
        ),
        f"{_FUNCTION}/aliases": frozenset(
            {"fc:CreateAlias", "fc:GetAlias", "fc:ListAliases", "fc:UpdateAlias"}
        ),
        f"{_FUNCTION}/triggers": _TRIGGERS,
        _ALARMS: _DEPLOY,
        f"{_ALARMS}/triggers": _TRIGGERS,
        _FRONT: _DEPLOY,
        f"{_FRONT}/triggers": _TRIGGERS,
        "custom-domains/${DOMAIN}": frozenset(
            f"fc:{action}CustomDomain" for action in ("Create", "Get", "Update")
        ),
        "${INBOX}": _NOTIFICATIONS,
        "${CONTROL}": _NOTIFICATIONS,
        **{
            f"role/voicedrop-{role}": frozenset({"ram:PassRole"})
            for role in ("worker", "oss-notification", "alarms", "front")
        },
    },
    "operator": {
        _FUNCTION: frozenset({"fc:GetFunction", "fc:InvokeFunction", _GET_MINIMUM, _SET_MINIMUM}),
        f"{_FUNCTION}/versions": frozenset({"fc:ListFunctionVersions"}),
        f"{_FUNCTION}/aliases": frozenset({"fc:GetAlias", "fc:ListAliases", "fc:UpdateAlias"}),
        f"{_FUNCTION}/instances": frozenset({"fc:ListInstances"}),
        _ALARMS: frozenset({"fc:GetFunction"}),
        f"{_LOGS}/logstore/worker": frozenset(
            {"log:GetIndex", "log:GetLogStoreHistogram", "log:GetLogStoreLogs"}
        ),
        f"{_LOGS}/dashboard/voicedrop": frozenset({"log:GetDashboard"}),
        "queues/voicedrop-failed/messages": frozenset(
            f"mns:{action}Message" for action in ("Peek", "Receive", "Delete")
        ),
        "${CONTROL}": _LIST,
        "${CONTROL}/dead": frozenset({"oss:GetObject"}),
        "${CONTROL}/pending": frozenset({"oss:GetObject"}),
        "*": WITHOUT_RESOURCE,
    },
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
TRUSTED_SERVICES = {
    "alarms.trust": "fc.aliyuncs.com",
    "front.trust": "fc.aliyuncs.com",
    "oss-notification.trust": "oss.aliyuncs.com",
    "worker.trust": "fc.aliyuncs.com",
}
SERVICES = frozenset({"alarms", "alarms-kms", "front", "oss-notification", "worker", "worker-kms"})
"""Policies of roles that services assume, whose addresses are those of the platform. All others
are for people, who work from ${OFFICE}."""
FROM_OFFICE = {"acs:SourceIp": ["${OFFICE}"]}


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
                for fault in _check_statement(PERMISSIONS[role], statement, role not in SERVICES)
            )
    else:
        yield "no permissions are defined for this role"


def _check_trust(service: str, statements: list[dict[str, Any]]) -> Iterator[str]:
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": [service]}}
    if statements != [trust]:
        yield f"only {service} may assume this role"


def _check_statement(
    allowed: Mapping[str, frozenset[str]], statement: Mapping[str, Any], is_for_people: bool
) -> Iterator[str]:
    keys = {"Effect", "Action", "Resource", "Condition"}
    if statement.get("Effect") != "Allow" or not set(statement) <= keys:
        yield "must be Effect Allow with Action, Resource and optionally Condition"
        return
    addresses = statement.get("Condition", {}).get("IpAddress")
    if is_for_people and addresses != FROM_OFFICE:
        yield f"Condition/IpAddress: must be {json.dumps(FROM_OFFICE)}, because people use it"
    if not is_for_people and addresses is not None:
        yield "Condition/IpAddress: a service has the addresses of the platform"
    for action in statement["Action"]:
        for resource in statement["Resource"]:
            yield from _check_grant(allowed, action, resource)


def _check_grant(
    allowed: Mapping[str, frozenset[str]], action: str, resource: str
) -> Iterator[str]:
    if resource == "*" and action in WITHOUT_RESOURCE & allowed.get("*", frozenset()):
        return
    arn = re.fullmatch(r"acs:(\w+):(\*|\$\{REGION\}):\$\{ACCOUNT\}:/?(.+)", resource)
    if arn is None or arn[1] != action.split(":")[0]:
        yield f"{resource}: not a resource of this account for {action}"
        return
    name = max((n for n in allowed if arn[3] == n or arn[3].startswith(n + "/")), default=None)
    if name is None or action not in allowed[name]:
        yield f"{action} on {resource}: more than this role needs"
    elif arn[1] == "oss" and ("/" in arn[3]) != action.endswith(("Object", "Upload")):
        yield f"{action} on {resource}: objects are bucket/..., buckets have no slash"
