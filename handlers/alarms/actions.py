"""What is done while an alarm fires, and undone after it: pure decisions, carried out by calls.

Both actions look at what is, not at messages: they may be repeated at any time, a lost message does
no harm, and a forged one does nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from handlers.alarms.services import WatchedFunction

ALIAS, CPU_ALIAS = "prod", "cpu"
"""The alias that triggers call, and the one that names the version without a card."""
POLICY = "voicedrop-alarm"
"""Beginning of the names of the scaling policies that raise the minimum of instances."""
_DEGRADED = re.compile(r"voicedrop-alarm at (\S+): version (\S+) to (\S+)")
_FORMAT = "%Y-%m-%dT%H:%M:%S"
_NEVER = datetime.max.replace(tzinfo=UTC)
_LEAD = timedelta(minutes=1)
"""A policy must begin after it is sent."""


@dataclass(frozen=True, slots=True)
class Limits:
    instances: int
    """The minimum of instances while latency is high."""
    hold: timedelta
    """How long an action lasts at least, however often the alarm comes and goes."""


def switch_engine(
    function: WatchedFunction, *, is_firing: bool, now: datetime, hold: timedelta
) -> str:
    """Point the alias to the version without a card while the alarm fires, and back when it has
    been there for the hold time. Return what was done, or nothing.

    The description of the alias says when it was moved, and from which version to which. An alias
    that somebody else has moved since, or has moved there on purpose, is left alone.
    """
    alias = function.alias(ALIAS)
    version, moved = str(alias["versionId"]), _DEGRADED.fullmatch(str(alias.get("description", "")))
    is_ours = moved is not None and moved[3] == version
    if is_firing and not is_ours:
        cpu = function.version_of(CPU_ALIAS)
        if cpu == version:
            return ""
        note = f"voicedrop-alarm at {now.strftime(_FORMAT)}: version {version} to {cpu}"
        function.move_alias(ALIAS, cpu, note)
        return f"{ALIAS} now runs on the CPU: version {version} to {cpu}"
    if moved and is_ours and not is_firing and now - _parse(moved[1]) >= hold:
        function.move_alias(ALIAS, moved[2], "")
        return f"{ALIAS} is back: version {version} to {moved[2]}"
    return ""


def raise_minimum(
    function: WatchedFunction, *, is_firing: bool, now: datetime, limits: Limits
) -> str:
    """Raise the minimum of instances for the hold time, again and again while the alarm fires.
    Return what was done, or nothing.

    It is a scheduled policy with an end: while one is in force the platform ignores the base value
    and takes the largest minimum of all policies, and it ends whatever becomes of this function.
    """
    config = function.minimum(ALIAS)
    policies = config.get("scheduledActions") or []
    ends = {
        policy["name"]: _parse(policy["endTime"])
        for policy in policies
        if policy["name"].startswith(POLICY)
    }
    kept = [policy for policy in policies if ends.get(policy["name"], _NEVER) > now]
    lasts = max([end for end in ends.values() if end > now], default=now) - now
    if is_firing and lasts < limits.hold / 2:
        target = max(limits.instances, config.get("defaultTarget") or 0)
        policy = _create_policy(now + _LEAD, now + limits.hold, target)
        function.configure_minimum(ALIAS, _settable(config, [*kept, policy]))
        return "" if lasts else f"{ALIAS} keeps {target} instances ready"
    if ends and not lasts:
        function.configure_minimum(ALIAS, _settable(config, kept))
        return f"{ALIAS} keeps as many instances ready as before"
    return ""


def _create_policy(begin: datetime, end: datetime, target: int) -> dict[str, Any]:
    start = begin.strftime(_FORMAT)
    return {
        "name": f"{POLICY}-{begin:%Y%m%d%H%M%S}",
        "startTime": start,
        "endTime": end.strftime(_FORMAT),
        "scheduleExpression": f"at({start})",
        "target": target,
        "timeZone": "UTC",
    }


def _settable(config: dict[str, Any], policies: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the fields of a configuration that can be set, with other scheduled policies."""
    names = ("defaultTarget", "alwaysAllocateCPU", "alwaysAllocateGPU", "targetTrackingPolicies")
    defaults = {"defaultTarget": 0, "alwaysAllocateCPU": False, "alwaysAllocateGPU": False}
    given = {name: config[name] for name in names if config.get(name) is not None}
    return defaults | given | {"scheduledActions": policies}


def _parse(moment: str) -> datetime:
    return datetime.strptime(moment.rstrip("Z"), _FORMAT).replace(tzinfo=UTC)
