"""Requests and answers between members, over control messages that may be lost: repeated until answered or too late.

Knows nothing of shuffles. Handlers run on the control loop, must be idempotent, and answer at once or through their
`Reply` later. Anybody may ask from any thread; only threads other than the loop may wait.
"""

import itertools
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from shuffle_worker.errors import (
    Cancelled,
    Corrupted,
    DeadlineExceeded,
    Fenced,
    InternalError,
    PeerLost,
    ShuffleError,
    UserError,
)
from shuffle_worker.service import messages
from shuffle_worker.service.addresses import door_of
from shuffle_worker.service.messages import Failed
from shuffle_worker.service.node import Node

log = logging.getLogger(__name__)

CHANNEL = ord("S")
T = TypeVar("T")
Outcome = Callable[[Any], None]
"""Takes an answer, or the ShuffleError that came instead; on the loop."""


class Reply:
    """Answers one request, once; on the loop."""

    __slots__ = ("_send", "sender")

    def __init__(self, sender: tuple[str, int], send: Callable[[Any], None]) -> None:
        self.sender = sender
        """Name and incarnation of who asked."""
        self._send: Callable[[Any], None] | None = send

    def __call__(self, outcome: Any) -> None:
        send, self._send = self._send, None
        if send is not None:
            send(Failed.of(outcome) if isinstance(outcome, ShuffleError) else outcome)


Handler = Callable[[Any, Reply], Any]
"""Returns the answer, raises a ShuffleError, or returns None and answers through the Reply later."""


@dataclass(slots=True)
class _Asked:
    to: str
    message: bytes
    request: Any
    timeout_s: float
    deadline: float
    repeat_at: float
    on_outcome: Outcome


@dataclass(slots=True)
class _Wait:
    """One waiting thread: the lock is free as soon as there is an outcome."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    outcome: Any = None

    def __post_init__(self) -> None:
        self.lock.acquire()

    def set(self, outcome: Any) -> None:
        self.outcome = outcome
        self.lock.release()


class Calls:
    """The requests of one member, asked and served."""

    def __init__(self, node: Node, reach: Callable[[str, bool], None]) -> None:
        """`reach(name, again)` sees to it that there is a connection to a member; called before each message."""
        self._node = node
        self._reach = reach
        self._retry_s = node.settings.timers.control_retry_s
        self._asked: dict[int, _Asked] = {}
        self._serving: set[tuple[str, int, int]] = set()
        self._handlers: dict[type, Handler] = {}
        self._numbers = itertools.count(secrets.randbits(48) + 1)
        self._closed = False
        node.serve_channel(CHANNEL, self._on_message)
        node.loop.call(self._tick)

    def serve(self, request: type, handler: Handler) -> None:
        self._handlers[request] = handler

    # asking
    def ask(
        self, to: str, request: Any, timeout_s: float, expected: type[T], *, late: type[ShuffleError] | None = None
    ) -> T:
        """Ask and wait. :raises DeadlineExceeded: (or `late`) names the member and what was asked.

        :raises ShuffleError: what the other side raised.
        """
        wait = _Wait()
        number = self._start(to, request, timeout_s, wait.set)
        if not wait.lock.acquire(timeout=max(0.0, timeout_s)):
            self._asked.pop(number, None)
            wait.outcome = DeadlineExceeded(_late(to, request, timeout_s))
        return _settled(wait.outcome, expected, late)

    def ask_all(self, requests: list[tuple[str, Any]], timeout_s: float) -> list[Any]:
        """Ask several members at once; their answers or errors, in order."""
        waits = [_Wait() for _ in requests]
        numbers = [
            self._start(to, request, timeout_s, wait.set) for (to, request), wait in zip(requests, waits, strict=True)
        ]
        deadline = time.monotonic() + timeout_s
        for (to, request), number, wait in zip(requests, numbers, waits, strict=True):
            if not wait.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                self._asked.pop(number, None)
                wait.outcome = DeadlineExceeded(_late(to, request, timeout_s))
        return [wait.outcome for wait in waits]

    def start(self, to: str, request: Any, timeout_s: float, on_outcome: Outcome) -> None:
        """Ask without waiting."""
        self._start(to, request, timeout_s, on_outcome)

    def tell(self, to: str, news: Any) -> None:
        """Send once, without an answer."""
        self._send(to, messages.encode(0, news))

    def reach(self, name: str) -> None:
        """See to it that frames can be sent to the member: its connection is being made at least."""
        self._reach(name, False)

    def _start(self, to: str, request: Any, timeout_s: float, on_outcome: Outcome) -> int:
        if self._closed:
            raise Cancelled("the shuffle service is shut down")
        number = next(self._numbers)
        if to == self._node.name:
            self._node.loop.call(lambda: self._serve_own(request, on_outcome))
            return number
        now = time.monotonic()
        message = messages.encode(number, request)
        self._asked[number] = _Asked(to, message, request, timeout_s, now + timeout_s, now + self._retry_s, on_outcome)
        self._send(to, message)
        return number

    def _send(self, to: str, message: bytes, again: bool = False) -> None:
        """At most once; who cannot be reached now may be at the next repeat."""
        self._reach(to, again)
        try:
            self._node.tell(to, CHANNEL, message)
        except UserError as error:
            log.debug("nothing was sent to %s, which is no peer any more: %s", to, error)

    def _serve_own(self, request: Any, on_outcome: Outcome) -> None:
        def settle(outcome: Any) -> None:
            on_outcome(outcome.to_error() if isinstance(outcome, Failed) else outcome)

        self._serve(request, Reply((self._node.name, self._node.incarnation), settle))

    # what may end a wait early; on the loop
    def fail_peer(self, name: str, why: str) -> None:
        """The member is gone: whoever waits for it is told."""
        for number, asked in self._asked.copy().items():
            if asked.to == name and self._asked.pop(number, None) is not None:
                asked.on_outcome(PeerLost(f"{name} is gone: {why}"))

    def close(self) -> None:
        """Everybody who still waits is told; on the loop."""
        self._closed = True
        while self._asked:
            self._asked.popitem()[1].on_outcome(Cancelled("the shuffle service is shut down"))

    def _tick(self) -> None:
        if self._closed:
            return
        now = time.monotonic()
        for number, asked in self._asked.copy().items():
            if now >= asked.deadline:
                if self._asked.pop(number, None) is not None:
                    asked.on_outcome(DeadlineExceeded(_late(asked.to, asked.request, asked.timeout_s)))
            elif now >= asked.repeat_at:
                asked.repeat_at = now + self._retry_s
                self._send(asked.to, asked.message, again=True)
        self._node.loop.call_at(now + self._retry_s / 2, self._tick)

    # serving
    def _on_message(self, sender: str, incarnation: int, message: bytes) -> None:
        try:
            envelope = messages.decode(message)
        except Corrupted as error:
            log.warning("%s (from %s)", error, sender)
            return
        body = envelope.body
        if type(body) in self._handlers:
            self._on_request(sender, incarnation, envelope.call, body)
            return
        asked = self._asked.pop(envelope.call, None)
        if asked is not None:  # else the answer to a repeated request
            asked.on_outcome(body.to_error() if isinstance(body, Failed) else body)

    def _on_request(self, sender: str, incarnation: int, call: int, body: Any) -> None:
        key = (sender, incarnation, call)
        if key in self._serving:
            return  # repeated while the first is being served

        def answer(outcome: Any) -> None:
            to = sender
            if isinstance(body, messages.Join) and isinstance(outcome, Failed):
                # The name may be another member's: only the address is surely its own.
                to = door_of(body.member.host, body.member.port)
            self._serving.discard(key)
            self._send(to, messages.encode(call, outcome))

        self._serving.add(key)
        self._serve(body, Reply((sender, incarnation), answer if call else lambda _: self._serving.discard(key)))

    def _serve(self, body: Any, reply: Reply) -> None:
        handler = self._handlers.get(type(body))
        try:
            if handler is None:
                raise Fenced(f"{self._node.name} does not serve {type(body).__name__}: it is not the registrar")
            outcome = handler(body, reply)
        except ShuffleError as error:
            outcome = error
        except Exception as error:
            log.exception("serving %s failed", type(body).__name__)
            outcome = InternalError(f"{self._node.name} failed to serve {type(body).__name__}: {error}")
        if outcome is not None:
            reply(outcome)


def _late(to: str, request: Any, timeout_s: float) -> str:
    return f"waited {timeout_s:.3g} s for {to} to answer {type(request).__name__}"


def _settled(outcome: Any, expected: type[T], late: type[ShuffleError] | None) -> T:
    if isinstance(outcome, DeadlineExceeded) and late is not None:
        raise late(str(outcome)) from None
    if isinstance(outcome, ShuffleError):
        raise outcome
    if not isinstance(outcome, expected):
        raise InternalError(f"expected {expected.__name__} as the answer, got {type(outcome).__name__}")
    return outcome
