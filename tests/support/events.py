"""Notifications as OSS sends them, and the events that jobs publish."""

from __future__ import annotations

import json
from typing import Any

from core.job.runtime import Runtime


def notification(*keys: str, name: str = "ObjectCreated:PutObject") -> bytes:
    """Return the notification of these objects: shards are in the control bucket, all others in
    the inbox."""
    records = [
        {
            "eventName": name,
            "eventSource": "acs:oss",
            "oss": {
                "bucket": {"name": "control" if key.startswith("work/") else "inbox"},
                "object": {"key": key, "size": 1, "eTag": "AB"},
            },
            "region": "cn-hangzhou",
        }
        for key in keys
    ]
    return json.dumps({"events": records}).encode()


def published_events(runtime: Runtime) -> list[dict[str, Any]]:
    keys = [info.key for info in runtime.results.list("events/")]
    return [json.loads(runtime.results.get(key, limit=10**6).data) for key in keys]
