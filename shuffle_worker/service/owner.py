"""Serves an owner's side to other members: placement, commits, and reads, which push frames back to the reader."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor

from shuffle_worker._native.frame import Stream
from shuffle_worker.errors import Corrupted, InternalError, ShuffleError
from shuffle_worker.service import messages
from shuffle_worker.service.calls import Calls, Reply
from shuffle_worker.service.holdings import Holdings
from shuffle_worker.service.messages import Done, Failed, ReadOut
from shuffle_worker.service.node import Node

log = logging.getLogger(__name__)

READ_THREADS = 2


class OwnerServer:
    """Handlers run on the loop; reads wait for disks and credit on threads of their own."""

    def __init__(self, node: Node, calls: Calls, holdings: Holdings) -> None:
        self._node = node
        self._calls = calls
        self._holdings = holdings
        self._closed = False
        self._readers = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="read")
        calls.serve(messages.Place, self._on_place)
        calls.serve(messages.Commit, self._on_commit)
        calls.serve(messages.Win, self._on_win)
        calls.serve(messages.Discard, self._on_discard)
        calls.serve(messages.SealHere, self._on_seal)
        calls.serve(messages.Forget, self._on_forget)
        calls.serve(messages.Read, self._on_read)
        calls.serve(messages.ReadEnd, self._on_read_end)

    def close(self) -> None:
        self._closed = True
        self._readers.shutdown(wait=True, cancel_futures=True)

    def _on_place(self, request: messages.Place, _reply: Reply) -> Done:
        self._holdings.place(request.info, request.groups)
        self._node.serve_notices(request.info.uid, self._holdings.on_notice)
        return Done()

    def _on_commit(self, request: messages.Commit, reply: Reply) -> None:
        def settle(fault: ShuffleError | None) -> None:
            reply(Done() if fault is None else fault)

        self._holdings.commit(request.stream, request.promise, request.prepare, settle)

    def _on_win(self, request: messages.Win, _reply: Reply) -> Done:
        self._holdings.win(request.stream)
        return Done()

    def _on_discard(self, request: messages.Discard, _reply: Reply) -> Done:
        self._holdings.discard(request.stream)
        return Done()

    def _on_seal(self, request: messages.SealHere, _reply: Reply) -> Done:
        self._holdings.seal(request.uid)
        return Done()

    def _on_forget(self, request: messages.Forget, _reply: Reply) -> Done:
        self._holdings.forget(request.uid)
        self._node.forget_notices(request.uid)
        self._node.transport.close_shuffle(request.uid)
        return Done()

    # reads
    def _on_read(self, request: messages.Read, reply: Reply) -> None:
        self._submit(request, reply, time.monotonic() + request.wait_s)

    def _on_read_end(self, news: messages.ReadEnd, _reply: Reply) -> Done:
        self._node.transport.close_shuffle(news.into)
        return Done()

    def _submit(self, request: messages.Read, reply: Reply, deadline: float) -> None:
        if not self._closed:
            self._readers.submit(self._read, request, reply, deadline)

    def _read(self, request: messages.Read, reply: Reply, deadline: float) -> None:
        """On a reader's thread: push what there is, or wait for more without the thread."""
        loop = self._node.loop
        try:
            seen, sealed = self._holdings.state(request.uid)
            pushed = self._push(request, reply.sender[0])
        except ShuffleError as error:
            fault = error
            loop.call(lambda: reply(Failed.of(fault)))
            return
        except Exception as error:
            log.exception("reading for %s failed", reply.sender[0])
            sentence = f"{self._node.name} failed to read: {error}"
            loop.call(lambda: reply(InternalError(sentence)))
            return
        if pushed or sealed or time.monotonic() >= deadline:
            loop.call(lambda: reply(ReadOut(pushed, sealed and not pushed)))
            return
        self._park(request, reply, seen, deadline)

    def _park(self, request: messages.Read, reply: Reply, seen: int, deadline: float) -> None:
        def resume() -> None:
            self._submit(request, reply, deadline)

        def expire() -> None:
            if self._holdings.unpark(request.uid, resume):
                reply(ReadOut(0, False))

        loop = self._node.loop
        loop.call(lambda: loop.call_at(deadline, expire))
        self._holdings.park(request.uid, seen, resume)

    def _push(self, request: messages.Read, reader: str) -> int:
        """Push ready frames from the position on into the reader's own shuffle; how many."""
        timeout_s = self._node.settings.timers.send_s
        frames = self._node.store.peek(request.uid, request.group, request.position, request.max_bytes, timeout_s)
        stream = Stream(request.into, self._node.incarnation, 0, messages.EPOCH_SEND, request.turn)
        self._calls.reach(reader)
        for frame in frames:
            sent = frame.share()
            stream.stamp(sent, messages.GENERATION)
            if sent.payload_crc != frame.payload_crc:
                raise Corrupted(f"{frame!r} changed in the memory of {self._node.name}")
            self._node.push(reader, sent, timeout_s)
        return len(frames)
