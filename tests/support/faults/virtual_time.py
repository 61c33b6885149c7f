"""A deterministic scheduler: threads that run one at a time, in random order, in virtual time.

A task is a real thread, so the code under test needs no change. Another task runs only where it
calls `Scheduler.pause`: at every store call, every sentence and every wait. So the seed alone
determines the sequence of steps, and every interleaving of them can occur.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

START = 1_795_000_000.0


class Crash(BaseException):
    """The process has died. Not an Exception, so that no `except Exception` catches it."""


@dataclass(eq=False)
class Host:
    """A process: all its tasks die and freeze together and share one clock."""

    name: str
    skew: float = 0.0
    """Seconds by which its clock is ahead of virtual time."""
    is_dead: bool = False
    frozen_until: float = 0.0
    """Virtual time in seconds."""


@dataclass(eq=False)
class Task:
    host: Host
    work: Callable[[], object]
    ready: float
    until: Callable[[], bool] | None = None
    """A condition to wait for; the task continues at `ready` in any case."""
    done: bool = False
    error: BaseException | None = None
    result: object = None
    may_run: threading.Lock = field(default_factory=threading.Lock)

    def ready_at(self, now: float) -> float:
        """Return the earliest time at which the task may continue."""
        if self.host.is_dead:
            return now
        moment = now if self.until and self.until() else self.ready
        frozen_until = self.host.frozen_until
        latest = moment if moment > frozen_until else frozen_until
        return latest if latest > now else now


class Scheduler:
    def __init__(self, seed: int) -> None:
        self.seed, self.rng = seed, random.Random(seed)
        self.now = START
        self.steps = 0
        self.violations: list[str] = []
        self._tasks: list[Task] = []
        self._local = threading.local()
        self._ended = threading.Lock()
        self._ended.acquire()
        self.hosts: list[Host] = []

    @property
    def current_task(self) -> Task:
        task: Task = self._local.task
        return task

    @property
    def in_task(self) -> bool:
        """True if the calling thread is a task."""
        return hasattr(self._local, "task")

    def clock(self) -> float:
        return self.now

    def host(self, name: str, skew: float = 0.0) -> Host:
        self.hosts.append(Host(name, skew))
        return self.hosts[-1]

    def spawn(self, work: Callable[[], object], host: Host, after: float = 0.0) -> Task:
        task = Task(host, work, self.now + after)
        task.may_run.acquire()
        self._tasks.append(task)
        threading.Thread(target=self._run, args=(task,), daemon=True).start()
        return task

    def run(self) -> None:
        """Run until every task has ended. Raises AssertionError with the first violation."""
        self._wake(self._next())
        self._ended.acquire()
        if self.violations:
            raise AssertionError(self.violations[0])

    def pause(self, seconds: float = 0.0, until: Callable[[], bool] | None = None) -> None:
        """Let other tasks run. Raises Crash if this host died meanwhile."""
        task = self.current_task
        task.ready, task.until = self.now + seconds, until
        following = self._next()
        if following is not task:
            self._wake(following)
            task.may_run.acquire()
        if task.host.is_dead:
            raise Crash

    def report_violation(self, what: str) -> None:
        """Record that an invariant does not hold, and end all hosts."""
        self.violations.append(what)
        for host in self.hosts:
            host.is_dead = True
        raise Crash

    def _run(self, task: Task) -> None:
        self._local.task = task
        task.may_run.acquire()
        try:
            if not task.host.is_dead:
                task.result = task.work()
        except BaseException as exc:
            task.error = exc
        self._tasks.remove(task)
        task.done = True
        self._wake(self._next())

    def _next(self) -> Task | None:
        if not self._tasks:
            return None
        self.steps += 1
        now = self.now
        first, ready = float("inf"), self._tasks[:1]
        for task in self._tasks:
            moment = task.ready_at(now)
            if moment < first:
                first, ready = moment, [task]
            elif moment == first:
                ready.append(task)
        if first == float("inf"):
            self.violations.append("deadlock")
            for host in self.hosts:
                host.is_dead = True
            return self._tasks[0]
        self.now = first
        return self.rng.choice(ready)

    def _wake(self, task: Task | None) -> None:
        (task.may_run if task else self._ended).release()


class _Lock:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler, self._held = scheduler, False

    def __enter__(self) -> None:
        while self._held:
            self._scheduler.pause(float("inf"), lambda: not self._held)
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False


class _Condition(_Lock):
    """Whoever waits continues after the next `notify_all`."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self._notified = 0

    def wait(self) -> None:
        before = self._notified
        self.__exit__()
        self._scheduler.pause(float("inf"), lambda: self._notified > before)
        self.__enter__()

    def notify_all(self) -> None:
        self._notified += 1


class _Event:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler, self._set = scheduler, False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float = float("inf")) -> bool:
        self._scheduler.pause(timeout, lambda: self._set)
        return self._set


class _Thread:
    def __init__(self, scheduler: Scheduler, *, target: Callable[[], None], **_: object) -> None:
        self._scheduler, self._target = scheduler, target

    def start(self) -> None:
        self._task = self._scheduler.spawn(self._target, self._scheduler.current_task.host)

    def join(self) -> None:
        self._scheduler.pause(float("inf"), lambda: self._task.done)


def virtual_threading(scheduler: Scheduler) -> SimpleNamespace:
    """Return a replacement of the module `threading` for code that runs in tasks."""
    return SimpleNamespace(
        Lock=partial(_Lock, scheduler),
        Condition=partial(_Condition, scheduler),
        Event=partial(_Event, scheduler),
        Thread=partial(_Thread, scheduler),
    )
