"""A job that is cancelled before or while it is carried out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.job import cancellation
from core.job.commit import part_reader, read_manifest
from core.result.document import read_items
from core.storage.object_keys import shard_key
from core.voice import SpeechChunk, Voiceprint
from handlers.jobs import carry_out_shard
from tests.support.runtime import (
    BuzzVoice,
    finish_job,
    local_runtime,
    put_job,
    split_job,
    voice_of,
    with_voice,
)

ITEMS = [{"id": f"i{n}", "text": f"The words of item {n}."} for n in range(4)]


class CancellingVoice(BuzzVoice):
    """Somebody cancels the job while it speaks its second item."""

    cancel: Any = None

    def speak(self, text: str, voiceprint: Voiceprint, **options: Any) -> Iterator[SpeechChunk]:
        if len(self.spoken) == 1:
            self.cancel()
        yield from super().speak(text, voiceprint, **options)


def test_what_is_finished_stays_and_the_result_says_cancelled(tmp_path: Path) -> None:
    voice = CancellingVoice()
    runtime = with_voice(local_runtime(tmp_path), voice)
    key = put_job(runtime, items=ITEMS)
    job_id = read_manifest(key, runtime).job_id
    voice.cancel = lambda: cancellation.cancel(runtime.inbox, key, job_id)
    result = finish_job(key, runtime)
    assert (result.status, result.error and result.error.code) == ("partial", "JOB_CANCELLED")
    codes = [item.error.code if item.error else "" for item in result.items]
    assert codes == ["", "", "JOB_CANCELLED", "JOB_CANCELLED"]
    assert len(voice.spoken) == 2
    again = put_job(runtime, name="again", items=ITEMS, retry_of=job_id)
    retried = finish_job(again, runtime)
    assert (retried.status, retried.totals.kept, len(voice.spoken)) == ("succeeded", 2, 4)


def test_a_job_that_was_cancelled_before_it_began_makes_nothing(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path)
    key = put_job(runtime)
    cancellation.cancel(runtime.inbox, key, read_manifest(key, runtime).job_id)
    result = finish_job(key, runtime)
    assert (result.status, result.error and result.error.code) == ("failed", "JOB_CANCELLED")
    assert not voice_of(runtime).enrolled


@pytest.mark.parametrize("content", [b"", b"0" * 32, b"\xff" * 100_000])
def test_an_object_that_does_not_name_the_job_cancels_nothing(
    tmp_path: Path, content: bytes
) -> None:
    runtime = local_runtime(tmp_path)
    key = put_job(runtime)
    runtime.inbox.put(f"{key}.cancelled", content)
    assert not cancellation.is_cancelled(runtime.inbox, key, read_manifest(key, runtime).job_id)


def test_the_shards_of_a_cancelled_job_make_nothing_more(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, shard_items=2)
    key = put_job(runtime, items=ITEMS)
    job = split_job(key, runtime)
    assert carry_out_shard(shard_key(job.job_id, 0), runtime) is None
    cancellation.cancel(runtime.inbox, key, job.job_id)
    result = carry_out_shard(shard_key(job.job_id, 1), runtime)
    assert result is not None
    assert (result.status, result.error and result.error.code) == ("partial", "JOB_CANCELLED")
    made = [bool(item.output) for item in read_items(result, part_reader(runtime))]
    assert made == [True, True, False, False]
