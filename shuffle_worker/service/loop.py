"""The control loop: the one thread on which a process's state machines run. No sockets, no protocol of its own.

Everything that changes a machine's state runs here, one call at a time, so that no machine needs a lock. Work that
takes long (reading a split, writing a file) belongs on other threads, which report back through `call`.
"""

import heapq
import itertools
import logging
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from shuffle_worker.errors import Cancelled, DeadlineExceeded

T = TypeVar("T")
log = logging.getLogger(__name__)


class ControlLoop:
    """Runs calls, timers and readers of file descriptors on one thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._drain_wakes)
        self._calls: deque[Callable[[], object]] = deque()
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Finish what is queued and end the thread."""
        self._stopping = True
        self._wake()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                raise DeadlineExceeded(f"the control loop {self._name} did not end within {timeout_s:g} s")
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def watch(self, fd: int, on_ready: Callable[[], object]) -> None:
        """Call `on_ready` whenever `fd` is readable. Only before `start`, or on the loop."""
        self._selector.register(fd, selectors.EVENT_READ, on_ready)

    def unwatch(self, fd: int) -> None:
        self._selector.unregister(fd)

    def call(self, function: Callable[[], object]) -> None:
        """Run `function` on the loop, soon; from any thread."""
        self._calls.append(function)
        self._wake()

    def ask(self, function: Callable[[], T], timeout_s: float = 10.0) -> T:
        """Run `function` on the loop and return (or raise) what it does; from any other thread."""
        if threading.current_thread() is self._thread:
            return function()
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - handed to the asking thread, whatever it is
                future.set_exception(error)

        if self._stopping:
            raise Cancelled(f"the control loop {self._name} is closed")
        self.call(run)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            raise DeadlineExceeded(f"no answer from the control loop {self._name} within {timeout_s:g} s") from None

    def call_at(self, when: float, function: Callable[[], object]) -> None:
        """Run `function` at `time.monotonic() >= when`. Only on the loop."""
        heapq.heappush(self._timers, (when, next(self._order), function))

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            return  # the pipe is full of wakes already

    def _drain_wakes(self) -> None:
        os.read(self._wake_read, 4096)

    def _run(self) -> None:
        while not (self._stopping and not self._calls):
            wait_s: float | None = None
            if self._calls:
                wait_s = 0
            elif self._timers:
                wait_s = max(0.0, self._timers[0][0] - time.monotonic())
            for key, _ in self._selector.select(wait_s):
                self._guard(key.data)
            for _ in range(len(self._calls)):
                self._guard(self._calls.popleft())
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                self._guard(heapq.heappop(self._timers)[2])

    def _guard(self, function: Callable[[], Any]) -> None:
        """One fault must not end the loop: it is logged with its traceback, and its job's deadline ends the wait."""
        try:
            function()
        except Exception:
            log.exception("a call on the control loop failed")
