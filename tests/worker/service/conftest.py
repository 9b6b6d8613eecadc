import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from shuffle_worker import ShuffleConfig, ShuffleService
from shuffle_worker.settings import Timers

MEMBER = Path(__file__).with_name("member_process.py")
ANSWER_S = 30


class RemoteMember:
    """A member in a process of its own, which evaluates expressions on its `service`."""

    def __init__(self, join: str, name: str, setup: str = "ShuffleConfig()") -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, str(MEMBER), join, name, setup], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.started = self._answer()

    def ask(self, expression: str) -> str:
        """The repr of the value, or "Error: sentence"."""
        self.tell(expression)
        return self._answer()

    def tell(self, expression: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        watch = threading.Timer(ANSWER_S, self.process.kill)
        watch.start()
        try:
            return self.process.stdout.readline().rstrip("\n")
        finally:
            watch.cancel()

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        if self.process.poll() is None:
            self.resume()
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def service() -> Iterator[ShuffleService]:
    with ShuffleService(config=ShuffleConfig(timeout_s=10)) as service:
        yield service


@pytest.fixture
def join_member(service: ShuffleService) -> Iterator[Callable[..., RemoteMember]]:
    """Starts processes that join `service`, or another one."""
    started: list[RemoteMember] = []

    def join(name: str, setup: str = "ShuffleConfig()", to: ShuffleService = service) -> RemoteMember:
        member = RemoteMember(to.address, name, setup)
        started.append(member)
        return member

    yield join
    for member in started:
        member.end()


@pytest.fixture(scope="session")
def three_members() -> Iterator[tuple[ShuffleService, RemoteMember, RemoteMember]]:
    """This process and two others. Nobody may end or stop one of them."""
    with ShuffleService(config=ShuffleConfig(timeout_s=10)) as service:
        others = [RemoteMember(service.address, name) for name in ("agent_1", "agent_2")]
        try:
            yield service, others[0], others[1]
        finally:
            for member in others:
                member.end()


@pytest.fixture
def quick_timers() -> Timers:
    """Members are given up soon: for tests of silence."""
    return Timers(heartbeat_s=0.1, suspect_s=0.5, dead_s=1.0, connect_s=5.0)


@pytest.fixture
def batch() -> pa.RecordBatch:
    return pa.record_batch({"id": pa.array([1, 2, 3], pa.int64()), "name": ["a", None, "ü"]})
