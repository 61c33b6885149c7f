"""Threads that run one at a time, in an order drawn from a seed, in a time of their own.

A task is a real thread, so the code under test needs no change; but it holds a baton, and hands it
on only where it calls `World.pause`: at every store call, every sentence, every wait. So a history
is a sequence of steps that its seed fixes, and no moment between two steps is hidden.
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
    """The process that runs this is gone. No Exception, so that no handler revives it."""


@dataclass(eq=False)
class Host:
    """A process: dies whole, freezes whole, has one clock."""

    name: str
    skew: float = 0.0
    """Seconds by which its own clock is ahead."""
    dead: bool = False
    frozen: float = 0.0
    """Until when."""


@dataclass(eq=False)
class Task:
    host: Host
    work: Callable[[], object]
    ready: float
    until: Callable[[], bool] | None = None
    """What it waits for; at `ready` it goes on in any case."""
    done: bool = False
    error: BaseException | None = None
    result: object = None
    baton: threading.Lock = field(default_factory=threading.Lock)

    def due(self, now: float) -> float:
        """When it may go on, as things stand."""
        if self.host.dead:
            return now
        moment = now if self.until and self.until() else self.ready
        frozen = self.host.frozen
        latest = moment if moment > frozen else frozen
        return latest if latest > now else now


class World:
    def __init__(self, seed: int) -> None:
        self.seed, self.draw = seed, random.Random(seed)
        self.now = START
        self.steps = 0
        self.violations: list[str] = []
        self._tasks: list[Task] = []
        self._local = threading.local()
        self._ended = threading.Lock()
        self._ended.acquire()
        self.hosts: list[Host] = []

    @property
    def me(self) -> Task:
        task: Task = self._local.task
        return task

    @property
    def inside(self) -> bool:
        """Whether the calling thread is a task."""
        return hasattr(self._local, "task")

    def clock(self) -> float:
        return self.now

    def host(self, name: str, skew: float = 0.0) -> Host:
        self.hosts.append(Host(name, skew))
        return self.hosts[-1]

    def spawn(self, work: Callable[[], object], host: Host, after: float = 0.0) -> Task:
        task = Task(host, work, self.now + after)
        task.baton.acquire()
        self._tasks.append(task)
        threading.Thread(target=self._run, args=(task,), daemon=True).start()
        return task

    def run(self) -> None:
        """Until every task has ended. AssertionError with the first violation."""
        self._hand_on(self._next())
        self._ended.acquire()
        if self.violations:
            raise AssertionError(self.violations[0])

    def pause(self, seconds: float = 0.0, until: Callable[[], bool] | None = None) -> None:
        """Let others run. Raises Crash if this host died meanwhile."""
        task = self.me
        task.ready, task.until = self.now + seconds, until
        following = self._next()
        if following is not task:
            self._hand_on(following)
            task.baton.acquire()
        if task.host.dead:
            raise Crash

    def violated(self, what: str) -> None:
        """An invariant does not hold: the history ends here."""
        self.violations.append(what)
        for host in self.hosts:
            host.dead = True
        raise Crash

    def _run(self, task: Task) -> None:
        self._local.task = task
        task.baton.acquire()
        try:
            if not task.host.dead:
                task.result = task.work()
        except BaseException as exc:
            task.error = exc
        self._tasks.remove(task)
        task.done = True
        self._hand_on(self._next())

    def _next(self) -> Task | None:
        if not self._tasks:
            return None
        self.steps += 1
        now = self.now
        first, ready = float("inf"), self._tasks[:1]
        for task in self._tasks:
            moment = task.due(now)
            if moment < first:
                first, ready = moment, [task]
            elif moment == first:
                ready.append(task)
        if first == float("inf"):
            self.violations.append("deadlock")
            for host in self.hosts:
                host.dead = True
            return self._tasks[0]
        self.now = first
        return self.draw.choice(ready)

    def _hand_on(self, task: Task | None) -> None:
        (task.baton if task else self._ended).release()


class _Lock:
    def __init__(self, world: World) -> None:
        self._world, self._held = world, False

    def __enter__(self) -> None:
        while self._held:
            self._world.pause(float("inf"), lambda: not self._held)
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False


class _Event:
    def __init__(self, world: World) -> None:
        self._world, self._set = world, False

    def set(self) -> None:
        self._set = True

    def wait(self, timeout: float) -> bool:
        self._world.pause(timeout, lambda: self._set)
        return self._set


class _Thread:
    def __init__(self, world: World, *, target: Callable[[], None], **_: object) -> None:
        self._world, self._target = world, target

    def start(self) -> None:
        self._task = self._world.spawn(self._target, self._world.me.host)

    def join(self) -> None:
        self._world.pause(float("inf"), lambda: self._task.done)


def threads(world: World) -> SimpleNamespace:
    """Stands for the module `threading` in code that runs inside the world."""
    return SimpleNamespace(
        Lock=partial(_Lock, world), Event=partial(_Event, world), Thread=partial(_Thread, world)
    )
