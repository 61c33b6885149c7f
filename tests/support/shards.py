"""Carry out a job that is split into shards."""

from __future__ import annotations

from core.job.runtime import Runtime
from core.result.document import Result
from handlers.jobs import carry_out_shard
from tests.support.present import present
from tests.support.runtime import split_job


def shard_keys(runtime: Runtime) -> list[str]:
    """Return the keys of the unfinished shards."""
    return [info.key for info in runtime.control.list("work/") if info.key.endswith(".jsonl")]


def run_all_shards(runtime: Runtime, key: str) -> Result:
    """Deliver the notification of the manifest, then that of every shard."""
    split_job(key, runtime)
    answers = [carry_out_shard(shard, runtime) for shard in shard_keys(runtime)]
    assert answers[:-1] == [None] * (len(answers) - 1)
    return present(answers[-1])
