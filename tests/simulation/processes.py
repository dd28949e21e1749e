"""Processes of a simulated world: they take turns in one thread, switch only where one waits, and can be killed.

What the code under test takes from `threading`, `queue` and `concurrent.futures` is here once more, over greenlets and
virtual time, so that one seed is one history.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from queue import Empty, Full
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pytest
from greenlet import getcurrent, greenlet

from cqrsctl.diagnosis import facts
from cqrsctl.pipeline import project, purging, settling
from cqrsctl.pipeline.rebuild import companion, rebuilding, snapshot
from cqrsctl.pipeline.verify import verifying
from tests.simulation.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

P = ParamSpec("P")
T = TypeVar("T")

_POOLS = (project, rebuilding, purging, verifying, facts)
"""Modules that do something in threads of a pool."""
_FOREVER_SECONDS = 1e9


class Killed(BaseException):
    """The process ends here, with no chance to tidy up."""


@dataclass(eq=False, slots=True)
class Process:
    """Something that runs until it ends, or until it is killed. Its threads are processes that end with it."""

    name: str
    root: Process | None
    threads: list[Process] = field(default_factory=list)
    failure: BaseException | None = None
    result: Any = None
    is_killed: bool = False
    skew_seconds: float = 0.0
    """How far its machine's clock is ahead of AWS's."""
    greenlet: greenlet | None = None
    turn: int = 0
    """Which of its waits it is at: what is due for an earlier one is not for it any more."""

    @property
    def is_alive(self) -> bool:
        return self.greenlet is not None and not self.greenlet.dead


class Processes:
    """All processes of a world, and whose turn it is. The history itself is none: it waits, and they run."""

    def __init__(self) -> None:
        self.clock = WorldClock(self)
        self.killed: Callable[[Process], None] = lambda _: None
        """Called before a killed process gets its last turn."""
        self._history = getcurrent()
        self._by_greenlet: dict[greenlet, Process] = {}

    @property
    def current(self) -> Process | None:
        """The process, not the thread of it, whose turn it is; None for the history itself."""
        found = self._by_greenlet.get(getcurrent())
        return found and (found.root or found)

    def start(self, name: str, work: Callable[[], object], *, is_thread: bool = False) -> Process:
        """Begin a process, or a thread of the one whose turn it is; its first turn is when the history waits next."""
        root = self.current if is_thread else None
        process = Process(name, root)
        if root is not None:
            root.threads.append(process)

        def run() -> None:
            try:
                process.result = work()
            except BaseException as failure:  # noqa: BLE001 -- whoever started it looks at it
                process.failure = failure
            finally:
                self._by_greenlet.pop(getcurrent(), None)

        process.greenlet = greenlet(run, parent=self._history)
        self._by_greenlet[process.greenlet] = process
        self._wake(process)
        return process

    def wait(self, seconds: float, waiting: list[Process] | None = None) -> None:
        """Let the others run, and time pass, or less if whoever has `waiting` wakes those in it. Raises Killed."""
        process = self._by_greenlet.get(getcurrent())
        if process is None:
            self.clock.go_on(seconds)
            return
        self.require_alive()
        if waiting is not None:
            waiting.append(process)
        turn = process.turn = process.turn + 1
        self.clock.after(seconds, lambda: self._take_turn(process, turn))
        self._history.switch()
        if waiting is not None and process in waiting:
            waiting.remove(process)
        self.require_alive()

    def wake(self, waiting: list[Process]) -> None:
        for process in waiting:
            self._wake(process)
        waiting.clear()

    def until(self, done: Callable[[], bool], seconds: float, waiting: list[Process] | None = None) -> bool:
        """Wait until something is so, for a time at most; whether it was."""
        end = self.clock.monotonic() + seconds
        while not done():
            left = end - self.clock.monotonic()
            if left <= 0:
                return False
            self.wait(left if waiting is not None else min(left, 1.0), waiting)
        return True

    def kill(self, process: Process | None = None) -> None:
        """End a process with all its threads where they are; None: the one whose turn it is, which raises Killed."""
        doomed = process or self.current
        if doomed is None:
            raise AssertionError("a history is not killed")
        doomed.is_killed = True
        self.killed(doomed)
        for each in (*doomed.threads, doomed):
            if each.is_alive and each.greenlet is not getcurrent():
                self._wake(each)
        if process is None:
            raise Killed

    def require_alive(self) -> None:
        """Raises Killed where the process whose turn it is was killed."""
        process = self.current
        if process is not None and process.is_killed:
            raise Killed

    def end_all(self) -> None:
        """Kill whatever still runs."""
        for process in list(self._by_greenlet.values()):
            if process.root is None:
                self.kill(process)
        while any(process.is_alive for process in self._by_greenlet.values()):
            self.clock.go_on(0)

    def _wake(self, process: Process) -> None:
        turn = process.turn
        self.clock.after(0, lambda: self._take_turn(process, turn))

    def _take_turn(self, process: Process, turn: int) -> None:
        if process.turn == turn and process.greenlet is not None and not process.greenlet.dead:
            process.turn += 1
            process.greenlet.switch()

    @contextmanager
    def in_place_of_threads(self) -> Iterator[None]:
        """Let the code under test start processes of this world where it starts threads, and wait in its time."""
        with pytest.MonkeyPatch.context() as patch:
            for module in (companion, snapshot):
                patch.setattr(module, "threading", Threading(self))
            patch.setattr(snapshot, "Queue", lambda maxsize=0: ProcessQueue(self, maxsize))
            for module in _POOLS:
                patch.setattr(module, "ThreadPoolExecutor", InlineExecutor)
            for module in (companion, purging):
                patch.setattr(module, "SystemClock", lambda: ProcessClock(self))
            for module in (settling, purging):
                patch.setattr(module, "time", SimpleNamespace(sleep=self.wait))
            yield


class WorldClock(VirtualClock):
    """The time of all processes. Who sleeps lets the others run."""

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self._processes = processes

    def sleep(self, seconds: float) -> None:
        self._processes.wait(seconds)


class Threading:
    """What is used of the module `threading`."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def Thread(self, target: Callable[..., object], args: tuple[Any, ...] = (), **_: Any) -> Thread:  # noqa: N802
        return Thread(self._processes, lambda: target(*args))

    def Event(self) -> Event:  # noqa: N802
        return Event(self._processes)


@dataclass(slots=True)
class Thread:
    processes: Processes
    work: Callable[[], object]
    process: Process | None = None

    def start(self) -> None:
        self.process = self.processes.start("thread", self.work, is_thread=True)

    def join(self) -> None:
        process = self.process
        if process is None:
            raise AssertionError("it was never started")
        self.processes.until(lambda: not process.is_alive, _FOREVER_SECONDS)


@dataclass(slots=True)
class Event:
    processes: Processes
    happened: bool = False
    waiting: list[Process] = field(default_factory=list)

    def set(self) -> None:
        self.happened = True
        self.processes.wake(self.waiting)

    def is_set(self) -> bool:
        return self.happened

    def wait(self, seconds: float) -> bool:
        return self.processes.until(lambda: self.happened, seconds, self.waiting)


@dataclass(slots=True)
class ProcessQueue:
    processes: Processes
    maxsize: int = 0
    items: deque[Any] = field(default_factory=deque)
    waiting: list[Process] = field(default_factory=list)

    def put(self, item: object, timeout: float = _FOREVER_SECONDS) -> None:
        if self.maxsize and not self.processes.until(lambda: len(self.items) < self.maxsize, timeout, self.waiting):
            raise Full
        self.items.append(item)
        self.processes.wake(self.waiting)

    def get(self, timeout: float = _FOREVER_SECONDS) -> Any:
        if not self.processes.until(lambda: bool(self.items), timeout, self.waiting):
            raise Empty
        return self.get_nowait()

    def get_nowait(self) -> Any:
        if not self.items:
            raise Empty
        self.processes.wake(self.waiting)
        return self.items.popleft()


class InlineExecutor(Executor):
    """Runs what is submitted at once."""

    def __init__(self, *_: object, **__: object) -> None:
        """As many threads as are asked for make no difference."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 -- whoever asks for the result gets it
            future.set_exception(error)
        return future


class ProcessClock:
    """A machine's clock, in the place of SystemClock. Its sleep lets the others run, and ends where `stop` is set."""

    def __init__(self, processes: Processes) -> None:
        self.stop = Event(processes)
        self.skew_seconds = processes.current.skew_seconds if processes.current else 0.0
        self._clock = processes.clock

    def now(self) -> datetime:
        return self._clock.aws_now() + timedelta(seconds=self.skew_seconds)

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self.stop.wait(seconds)
