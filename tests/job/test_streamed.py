"""Items that are heard while they are made: what is sent, and what is recorded of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import watermark
from core import audit
from core.audio import decoding
from core.audio.waveform import Samples
from core.crypto import keys, sealing
from core.errors import Failed
from core.job import streamed
from core.job.quota import Quota
from core.job.runtime import Runtime
from core.job.streamed import ListenerLeft, StreamStart
from core.label import aigc
from core.result.document import Result
from core.result.item_result import ItemResult
from core.voice import SpeechChunk
from handlers.jobs import carry_out_stream, integrate_log
from tests.support.listeners import TEXT, Hearer, put_voice
from tests.support.present import present
from tests.support.runtime import (
    BuzzVoice,
    find_mark,
    local_runtime,
    run_job,
    voice_of,
)

KEY = "jobs/live/one.manifest.json"


def speak(runtime: Runtime, hearer: Hearer, text: str = TEXT, **fields: Any) -> Result:
    return streamed.speak(KEY, put_voice(runtime, text, **fields), hearer, runtime)


def open_output(item: ItemResult, runtime: Runtime) -> bytes:
    stored = runtime.results.get(present(item.output).key, limit=1 << 30).data
    return sealing.open_sealed(stored, present(item.envelope), runtime.keys.wrapping)


def read(hearer: Hearer, runtime: Runtime) -> int | None:
    heard, mark_keys = present(hearer.heard), runtime.keys.watermark
    return watermark.detect_any(heard.samples, heard.rate, mark_keys, thorough=False).payload


@dataclass
class Looking(Hearer):
    """Looks at something when it is told that a stream begins."""

    look: Callable[[StreamStart], None] = lambda start: None

    def begin(self, start: StreamStart) -> None:
        super().begin(start)
        self.look(start)


def test_a_stream_is_a_job_like_any_other(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path)

    def look(start: StreamStart) -> None:
        """What is stored before the first sound."""
        assert runtime.inbox.head(KEY)
        assert runtime.control.head(f"lease/{start.job_id}")
        assert len(list(runtime.results.list("marks/"))) == 1

    hearer = Looking(look=look)
    result = carry_out_stream(KEY, put_voice(runtime), hearer, runtime)
    item, start = result.items[0], present(hearer.start)
    assert (result.status, item.status) == ("succeeded", "succeeded")
    stated = present(item.streamed)
    assert (stated.nonce, stated.complete) == (start.nonce, True)
    assert (start.job_id, start.item_id, start.rate) == (result.job_id, "said", 24_000)
    assert present(start.label).produce_id == f"{result.job_id}/said"
    heard, opened = present(hearer.heard), open_output(item, runtime)
    assert stated.seconds == pytest.approx(heard.seconds, abs=0.001)
    assert np.abs(decoding.decode_trusted(opened).samples - heard.samples).max() < 1e-4
    assert aigc.read_labels(opened) == [start.label]
    payload = present(read(hearer, runtime))
    assert f"{payload:08x}" == present(item.watermark).payload
    assert present(find_mark(runtime, payload)).job == result.job_id
    assert len(list(runtime.results.list("events/"))) == 1
    integrate_log(runtime)
    sources = audit.Sources(
        results=runtime.results,
        control=runtime.control,
        inbox=runtime.inbox,
        keys=keys.load_reading_keys(tmp_path / "keys"),
    )
    report = audit.build_report(audit.audit_bucket(sources), sources, "")
    assert (report.findings, report.totals.items) == ([], 1)


def test_the_same_manifest_again_is_not_spoken_again(tmp_path: Path) -> None:
    runtime, again = local_runtime(tmp_path), Hearer()
    result = speak(runtime, Hearer())
    assert speak(runtime, again) == result
    assert (again.start, len(voice_of(runtime).spoken)) == (None, 1)


@pytest.mark.parametrize(
    ("fields", "changes", "code"),
    [
        ({"text": ""}, {}, "TEXT_EMPTY"),
        ({"mode": "validate"}, {}, "FIELD_UNSUPPORTED"),
        ({"output": {"concatenate": "book"}}, {}, "FIELD_UNSUPPORTED"),
        ({"defaults": {"language": "xx"}}, {}, "LANGUAGE_UNSUPPORTED"),
        ({"text": "!silence"}, {}, "OUTPUT_SILENT"),
        ({"text": "!bug"}, {}, "INTERNAL"),
        ({}, {"quota": Quota(characters=9)}, "QUOTA_EXCEEDED"),
        ({}, {"consent": "verified"}, "CONSENT_UNVERIFIED"),
    ],
)
def test_what_is_refused_is_not_heard(
    tmp_path: Path, fields: dict[str, Any], changes: dict[str, Any], code: str
) -> None:
    runtime, hearer = local_runtime(tmp_path, **changes), Hearer()
    result = speak(runtime, hearer, **fields)
    error = result.error or result.items[0].error
    assert (present(error).code, hearer.start) == (code, None)


def test_a_withdrawn_voice_is_not_heard(tmp_path: Path) -> None:
    runtime, hearer = local_runtime(tmp_path), Hearer()
    manifest = put_voice(runtime)
    withdraw(runtime)
    result = streamed.speak(KEY, manifest, hearer, runtime)
    assert (present(result.items[0].error).code, hearer.start) == ("CONSENT_REVOKED", None)


def withdraw(runtime: Runtime) -> None:
    record = runtime.inbox.get("consent/alice.json", limit=1 << 20).data
    runtime.consents.withdraw(record, runtime.results.now())


def test_a_withdrawal_ends_the_stream(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path)
    hearer = Looking(look=lambda start: withdraw(runtime))
    item = speak(runtime, hearer).items[0]
    assert (item.status, present(item.error).code) == ("failed", "CONSENT_REVOKED")
    assert present(item.streamed).seconds < 3
    assert not list(runtime.results.list("out/said"))


def test_what_was_sent_of_a_cancelled_stream_is_traced(tmp_path: Path) -> None:
    runtime, hearer = local_runtime(tmp_path), Hearer(leaves_after=3)
    result = speak(runtime, hearer)
    item, heard = result.items[0], present(hearer.heard)
    assert [notice.code for notice in item.notices] == ["STREAM_SHORTENED"]
    assert (item.status, present(item.streamed).complete, item.asked) == ("succeeded", False, "")
    assert 3 <= heard.seconds < 3.5
    assert f"{present(read(hearer, runtime)):08x}" == present(item.watermark).payload
    assert present(item.output).duration_s == pytest.approx(heard.seconds, abs=0.001)


def test_who_leaves_before_the_first_sound_leaves_nothing(tmp_path: Path) -> None:
    runtime, hearer = local_runtime(tmp_path), Hearer()
    hearer.check = leave  # type: ignore[method-assign]
    item = speak(runtime, hearer).items[0]
    assert (item.status, present(item.error).code) == ("failed", "STREAM_CANCELLED")
    assert (item.streamed, hearer.start) == (None, None)
    assert voice_of(runtime).spoken == []
    assert not [info for info in runtime.results.list("out/") if info.key.endswith(".sealed")]


def leave() -> None:
    raise ListenerLeft


@dataclass
class Failing(BuzzVoice):
    """Fails after the first sentence."""

    def speak(self, *args: Any, **how: Any) -> Iterator[SpeechChunk]:
        yield next(iter(super().speak(*args, **how)))
        raise Failed("SPEECH_UNSTABLE")


def test_what_was_sent_before_an_error_is_stated(tmp_path: Path) -> None:
    runtime, hearer = local_runtime(tmp_path, voice=Failing()), Hearer()
    item = speak(runtime, hearer).items[0]
    assert (item.status, present(item.error).code) == ("failed", "SPEECH_UNSTABLE")
    stated = present(item.streamed)
    assert stated.seconds == pytest.approx(present(hearer.heard).seconds, abs=0.001)
    assert (stated.complete, item.output) == (False, None)


@dataclass
class Dying(Hearer):
    """The process ends while it hears."""

    def hear(self, samples: Samples) -> None:
        super().hear(samples)
        raise KeyboardInterrupt


def test_a_stream_that_was_killed_is_finished_as_a_file(tmp_path: Path) -> None:
    runtime, hearer = local_runtime(tmp_path), Dying()
    with pytest.raises(KeyboardInterrupt):
        speak(runtime, hearer)
    job_id = present(hearer.start).job_id
    marks = [info.key for info in runtime.results.list("marks/")]
    result = run_job(KEY, runtime)
    assert (result.job_id, result.status, result.items[0].streamed) == (job_id, "succeeded", None)
    assert [info.key for info in runtime.results.list("marks/")] == marks


def test_a_short_stream_has_a_mark_that_can_be_read(tmp_path: Path) -> None:
    runtime, hearer = local_runtime(tmp_path), Hearer()
    item = speak(runtime, hearer, "Good. Day.").items[0]
    assert (item.status, present(item.watermark).score >= 6) == ("succeeded", True)
    assert present(item.output).duration_s == pytest.approx(present(hearer.heard).seconds, abs=1e-3)


def test_cues_and_another_rate_are_heard(tmp_path: Path) -> None:
    runtime, hearer = local_runtime(tmp_path), Hearer()
    defaults = {"sample_rate": 16_000, "pause_ms": 500, "format": "opus"}
    result = speak(runtime, hearer, label={"cue": "morse-both"}, defaults=defaults)
    heard = present(hearer.heard)
    cue = aigc.make_cue(16_000).seconds
    spoken = sum(max(len(one) / 12, 0.4) for one in TEXT.split(". "))
    gaps = 2 * aigc.lead_seconds("morse-start") + 0.5 + 2 * 0.25
    assert (result.status, heard.rate) == ("succeeded", 16_000)
    assert heard.seconds == pytest.approx(spoken + gaps, abs=0.02)
    assert np.std(heard.samples[: int(cue * 16_000)]) > 0.05
    assert read(hearer, runtime)


@dataclass
class Counting(BuzzVoice):
    """Counts the sentences that it was asked for."""

    sentences: int = 0

    def speak(self, *args: Any, **how: Any) -> Iterator[SpeechChunk]:
        for chunk in super().speak(*args, **how):
            self.sentences += 1
            yield chunk


def test_a_slow_listener_slows_the_engine_and_holds_no_place(tmp_path: Path) -> None:
    voice = Counting()
    runtime = local_runtime(tmp_path, voice=voice)
    may_go_on, begun = threading.Event(), threading.Event()

    class Waiting(Hearer):
        def hear(self, samples: Samples) -> None:
            super().hear(samples)
            begun.set()
            assert may_go_on.wait(10)

    manifest = put_voice(runtime)
    results: list[Result] = []

    def work() -> None:
        results.append(streamed.speak(KEY, manifest, Waiting(), runtime))

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(10)
    with runtime.concurrency.places.hold(1):
        assert voice.sentences == 1
    may_go_on.set()
    thread.join(10)
    assert (results[0].status, voice.sentences) == ("succeeded", 3)
