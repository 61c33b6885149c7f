"""The RAM policies of cloud/policies, as the OSS server of the tests applies them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from string import Template

ROOT = Path(__file__).parents[2]
POLICIES = {path.name: path.read_text() for path in (ROOT / "cloud" / "policies").glob("*.json")}
NAMES = {
    "ACCOUNT": "1234567890123456",
    "REGION": "cn-hangzhou",
    "INBOX": "voicedrop-inbox",
    "RESULTS": "voicedrop-results",
    "CONTROL": "voicedrop-control",
    "FUNCTION": "voicedrop-worker",
    "KMS_KEY": "key-1",
    "DOMAIN": "voice.example.com",
    "OFFICE": "198.51.100.0/24",
}


def granted_permissions(role: str) -> set[tuple[str, str]]:
    policy = json.loads(Template(POLICIES[f"{role}.json"]).substitute(NAMES))
    return {
        (action, resource)
        for statement in policy["Statement"]
        for action in statement["Action"]
        for resource in statement["Resource"]
    }


class PolicyCheck:
    """The policy of a role for the OSS server. Records the statements used and the requests
    denied."""

    def __init__(self, role: str) -> None:
        self._lines = [(action, arn.split(":", 4)[4]) for action, arn in granted_permissions(role)]
        self.used: set[tuple[str, str]] = set()
        self.denied: set[tuple[str, str]] = set()

    @property
    def idle(self) -> set[tuple[str, str]]:
        return set(self._lines) - self.used

    def __call__(self, action: str, resource: str) -> bool:
        fitting = {
            (allowed, pattern)
            for allowed, pattern in self._lines
            if allowed == action and re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), resource)
        }
        self.used |= fitting
        if not fitting:
            self.denied.add((action, resource))
        return bool(fitting)
