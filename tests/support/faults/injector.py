"""A Store whose calls fail as a FaultPlan says: crashes, outages, lost replies, freezes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol, TypeVar, get_args

from core.errors import Unavailable
from core.storage.port import Body, Info, Object, Store
from tests.support.faults.memory import read_body
from tests.support.faults.virtual_time import Crash, Host, Scheduler

T = TypeVar("T")
Fault = Literal[
    "crash-before",
    "crash-after",
    "refused",  # Unavailable; the call was not performed
    "lost-reply",  # Unavailable, although the call was performed
    "freeze-before",
    "freeze-after",
]
FAULTS: tuple[Fault, ...] = get_args(Fault)


@dataclass(frozen=True, slots=True)
class Call:
    """A store call about to be made."""

    host: Host
    bucket: str
    operation: str
    key: str
    data: bytes = b""
    began: int = 0
    """Step of the scheduler at which the worker began the call."""


class FaultPlan(Protocol):
    """Decides which calls fail, and observes them: before, after, and when the caller has the
    answer."""

    def fault(self, call: Call) -> Fault | None: ...

    def latency(self) -> float: ...

    def freeze(self) -> float: ...

    def before(self, call: Call) -> None: ...

    def after(self, call: Call, answer: object) -> None: ...

    def answer_received(self, call: Call, answer: object) -> None: ...


class FaultyStore:
    """`inner` as one host sees it. Virtual time passes, and other tasks run, during every call."""

    def __init__(self, inner: Store, host: Host, scheduler: Scheduler, plan: FaultPlan) -> None:
        self._inner, self._host, self._scheduler, self._plan = inner, host, scheduler, plan

    @property
    def name(self) -> str:
        return self._inner.name

    def get(self, key: str, *, limit: int, etag: str = "") -> Object:
        return self._call("get", key, lambda: self._inner.get(key, limit=limit, etag=etag))

    def fetch(self, key: str, file: BinaryIO, *, limit: int) -> Info:
        return self._call("fetch", key, lambda: self._inner.fetch(key, file, limit=limit))

    def head(self, key: str) -> Info | None:
        return self._call("head", key, lambda: self._inner.head(key))

    def put(self, key: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        return self._call("put", key, lambda: self._inner.put(key, data, metadata=metadata), data)

    def put_once(self, key: str, data: Body, *, metadata: Mapping[str, str] | None = None) -> bool:
        return self._call(
            "put_once",
            key,
            lambda: self._inner.put_once(key, data, metadata=metadata),
            read_body(data),
        )

    def append(self, key: str, data: bytes, *, position: int) -> bool:
        return self._call(
            "append", key, lambda: self._inner.append(key, data, position=position), data
        )

    def list(self, prefix: str, *, after: str = "") -> Iterator[Info]:
        return iter(self._call("list", prefix, lambda: list(self._inner.list(prefix, after=after))))

    def delete(self, key: str) -> None:
        return self._call("delete", key, lambda: self._inner.delete(key))

    def now(self) -> float:
        return self._inner.now()

    def check(self, *, writable_once: bool) -> None:
        self._inner.check(writable_once=writable_once)

    def _call(self, operation: str, key: str, action: Callable[[], T], data: bytes = b"") -> T:
        began = self._scheduler.steps
        call = Call(self._host, self._inner.name, operation, key, data, began)
        fault = self._plan.fault(call)
        self._scheduler.pause(self._plan.latency())
        self._apply_fault(fault, "before")
        if fault == "refused":
            raise Unavailable("STORAGE_UNAVAILABLE", "injected", pointer=key)
        self._plan.before(call)
        answer = action()
        self._plan.after(call, answer)
        self._apply_fault(fault, "after")
        if fault == "lost-reply":
            raise Unavailable("STORAGE_UNAVAILABLE", "injected after the call", pointer=key)
        self._plan.answer_received(call, answer)
        return answer

    def _apply_fault(self, fault: Fault | None, when: str) -> None:
        if fault == f"crash-{when}":
            self._host.is_dead = True
            raise Crash
        if fault == f"freeze-{when}":
            self._host.frozen_until = self._scheduler.now + self._plan.freeze()
            self._scheduler.pause()
