"""The quota admits no more than its limit, with racing workers and with faults."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import handlers.jobs
from core.batch import worker
from core.crypto.keys import Keyring, LocalKeys
from core.errors import Refused, Unavailable
from core.job.quota import LOG_LIMIT, Quota
from core.job.runtime import Finished, Runtime
from core.settings import Producers
from core.storage.local import LocalStore
from core.storage.port import Store
from handlers.oss import handle
from handlers.sweep import run_sweep
from tests.support.faults.injector import FAULTS, Fault
from tests.support.faults.simulation import (
    Simulation,
    consent_document,
    in_virtual_time,
    manifest,
    reference,
)
from tests.support.faults.single_fault import FaultAtCall
from tests.support.faults.virtual_time import Scheduler
from tests.support.oss_server import OssServer
from tests.support.runtime import local_runtime, put_job, split_job
from tests.support.stores import oss_store, together

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0
SIGNING = Ed25519PrivateKey.from_private_bytes(bytes(32))
KEYS = Keyring(LocalKeys({}), SIGNING, {}, {"k2": b"2" * 32, "k1": b"1" * 32})


@pytest.fixture(params=["folder", "oss"])
def control(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "folder":
        (tmp_path / "control").mkdir()
        yield LocalStore(tmp_path / "control")
        return
    with OssServer() as server:
        server.add_key("contract-id", "contract-secret")
        server.create_bucket("control")
        yield oss_store(server, "control")


def admitted(
    quota: Quota,
    control: Store,
    number: int,
    *,
    key: str = "jobs/a.manifest.json",
    at: float = NOON,
    characters: int = 7,
) -> bool:
    try:
        quota.count_job(control, KEYS, f"{number:032x}", key, at, characters)
    except Refused as error:
        if error.code != "QUOTA_EXCEEDED":
            raise
        return False
    return True


@pytest.mark.slow
def test_exactly_ten_of_fifty_racing_workers_are_admitted(control: Store) -> None:
    quota = Quota(jobs=10)
    assert sum(together(50, lambda n: admitted(quota, control, n))) == 10


@pytest.mark.slow
def test_racing_jobs_never_speak_more_characters_than_the_limit(control: Store) -> None:
    quota = Quota(characters=100)
    assert sum(together(30, lambda n: admitted(quota, control, n, characters=30))) == 3
    assert admitted(quota, control, 99, characters=10)
    assert not admitted(quota, control, 98, characters=1)


def test_a_job_is_counted_once_however_often_it_is_delivered(control: Store) -> None:
    quota = Quota(jobs=1)
    assert all(together(20, lambda _: admitted(quota, control, 1)))
    assert not admitted(quota, control, 2)
    assert admitted(quota, control, 1)


def test_days_and_producers_are_counted_separately(control: Store) -> None:
    quota = Quota(jobs=1)
    assert admitted(quota, control, 1, key="jobs/acme/x.manifest.json")
    assert not admitted(quota, control, 2, key="jobs/acme/deep/y.manifest.json")
    assert admitted(quota, control, 3, key="jobs/书 店/x.manifest.json")
    assert not admitted(quota, control, 4, key="jobs/书 店/y.manifest.json")
    assert admitted(quota, control, 5, key="jobs/x.manifest.json")
    assert admitted(quota, control, 6, key=f"jobs/{'l' * 400}/x.manifest.json")
    assert not admitted(quota, control, 7, key=f"jobs/{'l' * 400}/y.manifest.json")
    assert admitted(quota, control, 2, key="jobs/acme/deep/y.manifest.json", at=NOON + DAY)
    assert {info.key for info in control.list("quota/")} == {
        "quota/2026-11-25.log",
        "quota/2026-11-26.log",
    }


def quota_log(control: Store, day: str = "2026-11-25") -> bytes:
    return control.get(f"quota/{day}.log", limit=10**6).data


def test_lines_that_we_did_not_write_for_this_day_use_up_no_quota(control: Store) -> None:
    quota = Quota(jobs=2)
    assert admitted(quota, control, 1, at=NOON - DAY)
    (line,) = quota_log(control, "2026-11-24").splitlines(keepends=True)
    assert admitted(quota, control, 2)
    forged = (
        line,  # of the day before
        line.replace(b"1 7", b"9 7"),
        f"{3:032x} 7 jobs\n".encode(),  # as version 0.1.0 wrote it
        f"{4:032x} x jobs y\n".encode(),
        b"\xff \n\n",
        quota_log(control),  # repeated
    )
    for data in forged:
        assert control.append("quota/2026-11-25.log", data, position=len(quota_log(control)))
    assert admitted(quota, control, 3)
    assert not admitted(quota, control, 4)
    control.delete("quota/2026-11-25.log")
    control.append("quota/2026-11-25.log", line, position=0)
    assert admitted(quota, control, 4)
    assert len(quota_log(control).splitlines()) == 1


def test_a_log_that_is_too_large_to_be_ours_is_replaced(tmp_path: Path) -> None:
    control = LocalStore(tmp_path)
    assert admitted(Quota(jobs=1), control, 1)
    os.truncate(tmp_path / "quota/2026-11-25.log", LOG_LIMIT + 1)
    assert admitted(Quota(jobs=1), control, 2)
    assert not admitted(Quota(jobs=1), control, 3)
    assert len(quota_log(control).splitlines()) == 1


def test_a_worker_that_always_comes_second_tries_again_later(tmp_path: Path) -> None:
    class Busy(LocalStore):
        """Another worker appends before each of ours."""

        def append(self, key: str, data: bytes, *, position: int) -> bool:
            other = f"{position:032x} 1 jobs\n".encode()
            assert super().append(key, other, position=position)
            return super().append(key, data, position=position)

    with pytest.raises(Unavailable, match="Too many jobs are counted at once") as error:
        admitted(Quota(jobs=9), Busy(tmp_path), 1)
    assert error.value.pointer == "quota/2026-11-25.log"


def test_jobs_stay_counted_when_the_watermark_key_is_rotated(control: Store) -> None:
    Quota(jobs=1).count_job(
        control, replace(KEYS, watermark={"k1": b"1" * 32}), f"{1:032x}", "jobs/a", NOON, 7
    )
    assert not admitted(Quota(jobs=1), control, 2)


@pytest.mark.parametrize(
    ("by", "principal", "producer"),
    [
        ("prefix", "2651", "jobs/acme"),
        ("principal", "2651", "ram:2651"),
        ("principal", "3907:any-name-of-a-session", "ram:3907"),
        ("principal", "", "ram:unknown"),
        ("principal", ":session", "ram:unknown"),
    ],
)
def test_a_producer_is_a_prefix_or_a_principal(
    by: Producers, principal: str, producer: str
) -> None:
    quota = Quota(jobs=1, by=by, principal=principal)
    assert quota.producer("jobs/acme/x.manifest.json") == producer


def test_a_job_counted_by_principal_stays_counted_when_a_sweep_resumes_it(
    control: Store,
) -> None:
    of_acme = Quota(jobs=1, by="principal", principal="2651")
    assert admitted(of_acme, control, 1)
    assert admitted(replace(of_acme, principal=""), control, 1)
    assert not admitted(of_acme, control, 2)


def test_without_limits_no_call_is_made(tmp_path: Path) -> None:
    Quota().count_job(LocalStore(tmp_path / "nowhere"), KEYS, "j", "jobs/a.manifest.json", NOON, 5)


@pytest.mark.slow
def test_a_job_above_the_quota_is_rejected_with_a_result_and_an_event(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, quota=Quota(jobs=1, by="principal"))
    answers = []
    for name in ("one", "two", "three"):
        record = {
            "eventName": "ObjectCreated:PutObject",
            "oss": {"bucket": {"name": "inbox"}, "object": {"key": put_job(runtime, name=name)}},
            "userIdentity": {"principalId": "2651" if name != "three" else "9999"},
        }
        answers += handle(json.dumps({"events": [record]}).encode(), runtime)["done"]
    assert [answer["status"] for answer in answers] == ["succeeded", "rejected", "succeeded"]
    keys = [info.key for info in runtime.results.list("events/")]
    events = [json.loads(runtime.results.get(key, limit=10**6).data)["data"] for key in keys]
    assert sorted(event["error"] for event in events) == ["", "", "QUOTA_EXCEEDED"]


@pytest.mark.slow
def test_a_sweep_admits_one_quota_for_all_unknown_principals(tmp_path: Path) -> None:
    runtime = local_runtime(tmp_path, quota=Quota(jobs=1, by="principal"))
    for number in range(3):
        put_job(runtime, name=f"folder-{number}/m")
    actions = [finding.action for finding in run_sweep(runtime, grace=-1).findings]
    assert sorted(actions) == ["carried out: rejected"] * 2 + ["carried out: succeeded"]


@pytest.mark.slow
def test_the_shards_of_an_admitted_job_need_no_quota_of_their_own(tmp_path: Path) -> None:
    quota = Quota(jobs=1, by="principal", principal="2651")
    runtime = local_runtime(tmp_path, quota=quota, shard_items=1)
    texts = [{"id": f"i{number}", "text": "One two."} for number in range(2)]
    split_job(put_job(runtime, items=texts), runtime)
    assert finish_shards(replace(runtime, quota=replace(quota, principal=""))) == "succeeded"
    rejected = handlers.jobs.carry_out(put_job(runtime, name="second"), runtime)
    assert isinstance(rejected, Finished)
    assert rejected.result.status == "rejected"


def finish_shards(runtime: Runtime) -> str:
    done = [
        handlers.jobs.carry_out_shard(info.key, runtime)
        for _, infos in list(worker.list_cut_jobs(runtime))
        for info in infos
        if info.key.endswith(".jsonl")
    ]
    return next(result.status for result in done if result)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_fault_at_any_call_one_of_two_jobs_is_admitted(fault: Fault) -> None:
    """Of two jobs with a quota for one, either speaks and the other is rejected."""
    keys = ("jobs/a.manifest.json", "jobs/b.manifest.json")

    def play(number: int) -> int:
        simulation = Simulation(Scheduler(number), quota=Quota(jobs=1))
        simulation.put("consent/alice.json", consent_document())
        simulation.put("refs/alice.flac", reference())
        for variant, key in enumerate(keys):
            simulation.put(key, manifest(1, variant=variant))
        plan = FaultAtCall(simulation, number, lambda: fault if number else None, any_worker=False)
        simulation.plan = plan
        with in_virtual_time(simulation.scheduler):
            for key in keys:
                simulation.scheduler.spawn(
                    partial(simulation.deliver, key, times=10), simulation.host("platform")
                )
            simulation.scheduler.run()
        done = simulation.checker.finished_results(simulation.direct_runtime(), list(keys)).values()
        assert sorted(result.status for result in done) == ["rejected", "succeeded"], number
        return len(plan.calls)

    for number in range(1, play(0) + 1):
        play(number)
