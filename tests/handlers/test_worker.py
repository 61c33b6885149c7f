"""The worker of the container server."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from core.errors import Misconfigured
from core.job.commit import read_result
from core.job.runtime import Runtime
from core.settings import Settings
from core.storage.oss_connection import Credentials
from core.voice import SpeechChunk, Voiceprint
from handlers.wiring import CurrentCredentials, create_runtime
from handlers.worker import Worker
from tests.support.events import notification
from tests.support.oss_server import OssServer
from tests.support.runtime import BuzzVoice, create_keyring, put_job

CALLS = ("first", "second")


class MeetingVoice(BuzzVoice):
    """Speaks nothing until both calls do, and then until the leases have been renewed."""

    def __init__(self) -> None:
        super().__init__(seconds_each=0.7)
        self._meeting = threading.Barrier(2 * len(CALLS))

    def speak(self, text: str, voiceprint: Voiceprint, **options: Any) -> Iterator[SpeechChunk]:
        self._meeting.wait(30)
        yield from super().speak(text, voiceprint, **options)


class BuzzingWorker(Worker):
    def _load(self) -> Runtime:
        voice = MeetingVoice()
        runtime = create_runtime(self._settings, self._credentials)
        places = 2 * len(CALLS)
        return replace(runtime, load_voice=lambda: voice, lanes=places, lease_seconds=1.0)


@pytest.mark.slow
def test_calls_at_once_use_each_its_own_credentials_in_all_their_threads(tmp_path: Path) -> None:
    used: dict[str, list[str]] = defaultdict(list)

    def note(name: str, action: str, resource: str) -> bool:
        used[name].append(resource)
        return True

    with OssServer() as server:
        for name in ("inbox", "results", "control"):
            server.create_bucket(name)
        for name in (*CALLS, "setup"):
            server.add_key(name, name, token=name, policy=partial(note, name))
        create_keyring(tmp_path)
        settings = Settings(
            inbox="oss://inbox",
            results="oss://results",
            control="oss://control",
            oss_region=server.region,
            oss_endpoint=server.endpoint,
            keys=tmp_path,
        )
        credentials = CurrentCredentials({})
        worker = BuzzingWorker(settings, credentials)
        runtime = worker.warm()
        with credentials.of_call(Credentials("setup", "setup", "setup")):
            items = [{"id": f"i{n}", "text": "Some words in her voice."} for n in range(2)]
            keys = {name: put_job(runtime, name=name, items=items) for name in CALLS}

        def call(name: str) -> str:
            body = notification(keys[name])
            answer = json.loads(worker.handle(body, Credentials(name, name, name), name))
            assert answer["done"][0]["status"] == "succeeded"
            return str(answer["done"][0]["job"])

        with ThreadPoolExecutor() as calls:
            jobs = dict(zip(CALLS, calls.map(call, CALLS), strict=True))
        with credentials.of_call(Credentials("setup", "setup", "setup")):
            assert all(read_result(job, runtime) for job in jobs.values())
        with pytest.raises(Misconfigured):  # none is kept after the calls
            runtime.results.head("out/x")
    for name, other in (CALLS, CALLS[::-1]):
        assert not [resource for resource in used[name] if jobs[other] in resource]
        written = [resource for resource in used[name] if f"lease/{jobs[name]}" in resource]
        assert len(written) > 3  # the thread that renews the lease has the credentials too
