"""Sink threads: take what has won from the store, group by group, write it, and finish the files of sealed groups.

A group is leased to one thread at a time by the store, so its writer needs no lock. A group that was placed anew, or
dropped, has another generation: its old writer is abandoned by whoever next comes upon it.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from shuffle_worker.errors import AdmissionError, Cancelled, DeadlineExceeded, Fenced, InternalError, ShuffleError
from shuffle_worker.job.context import GroupWriter, JobContext
from shuffle_worker.job.sizing import AT_SEAL_FACTOR
from shuffle_worker.metrics import Metrics
from shuffle_worker.protocol.events import Event, GroupBroke, GroupStaged
from shuffle_worker.protocol.values import Fault, fault_of
from shuffle_worker.quantity import format_bytes
from shuffle_worker.service.node import Node
from shuffle_worker.store.views import Taken

log = logging.getLogger(__name__)

TAKE_BYTES = 1 << 20
WAIT_S = 0.5
Report = Callable[[Event], None]


@dataclass
class _JobSink:
    """One job's sink in this process."""

    context: JobContext
    report: Report
    writers: dict[int, GroupWriter] = field(default_factory=dict)
    generations: dict[int, int] = field(default_factory=dict)  # of the groups placed here
    sealed: set[int] = field(default_factory=set)  # the store takes nothing more for these
    finished: dict[int, int] = field(default_factory=dict)  # the generation that was written to its end
    ended: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)


class SinkPool:
    """`threads` sink threads for each job of this process."""

    def __init__(self, node: Node, metrics: Metrics, threads: int) -> None:
        self._node = node
        self._metrics = metrics
        self._thread_count = threads
        self._jobs: dict[bytes, _JobSink] = {}
        self._lock = threading.Lock()

    def open(self, context: JobContext, report: Report) -> None:
        """Begin to write what wins. `report` takes events from any thread."""
        job = _JobSink(context, report)
        job.threads = [
            threading.Thread(target=self._serve, args=(job,), name=f"sink-{number}", daemon=True)
            for number in range(self._thread_count)
        ]
        with self._lock:
            before = self._jobs.pop(context.uid, None)
            self._jobs[context.uid] = job
        if before is not None:
            self._end(before)
        for thread in job.threads:
            thread.start()

    def place(self, uid: bytes, groups: tuple[int, ...], generation: int) -> None:
        """Say at which generation these groups are written; call before the store is told."""
        job = self._jobs[uid]
        job.sealed.difference_update(groups)
        job.generations.update(dict.fromkeys(groups, generation))

    def sealed(self, uid: bytes, groups: tuple[int, ...]) -> None:
        """Say that the store has sealed these groups: once empty, they are complete."""
        self._jobs[uid].sealed.update(groups)

    def drop(self, uid: bytes, groups: tuple[int, ...]) -> None:
        """Abandon what was written of these groups; call after the store was told."""
        job = self._jobs.get(uid)
        if job is not None:
            for group in groups:
                job.generations.pop(group, None)

    def close_job(self, context: JobContext) -> None:
        """End the threads of a job whose shuffle is closed, and remove what they had not finished."""
        with self._lock:
            job = self._jobs.get(context.uid)
            if job is None or job.context is not context:
                return
            del self._jobs[context.uid]
        self._end(job)
        context.close()

    def close(self, timeout_s: float) -> None:
        with self._lock:
            jobs = list(self._jobs.values())
            self._jobs.clear()
        for job in jobs:
            self._end(job, timeout_s)

    def _end(self, job: _JobSink, timeout_s: float = 10.0) -> None:
        job.ended.set()
        deadline = time.monotonic() + timeout_s
        for thread in job.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for writer in job.writers.values():
            writer.abort()

    def _serve(self, job: _JobSink) -> None:
        while not job.ended.is_set():
            try:
                taken = self._node.store.take_ready(job.context.uid, TAKE_BYTES, WAIT_S)
            except DeadlineExceeded:
                continue
            except (Cancelled, Fenced):
                return  # the shuffle or the store was closed
            except ShuffleError as error:
                log.error("the sink stopped: %s", error)
                self._break_all(job, error)
                return
            if taken is None:
                job.ended.wait(WAIT_S)  # all placed groups were written; more may be placed later
                continue
            try:
                self._write(job, taken)
            finally:
                self._node.store.release_group(job.context.uid, taken.group)

    def _write(self, job: _JobSink, taken: Taken) -> None:
        group = taken.group
        try:
            writer = self._writer(job, group)
            if writer is None:
                return
            with self._metrics.sink_seconds.time():
                if not self._fill(job, writer, taken):
                    return
                staged = writer.finish()
            del job.writers[group]
            job.finished[group] = writer.generation
            job.report(GroupStaged(staged))
        except ShuffleError as error:
            self._broke(job, group, fault_of(error))
        except Exception as error:
            log.exception("group %d could not be written", group)
            sentence = f"group {group}: {type(error).__name__}: {error}"
            self._broke(job, group, Fault(InternalError.__name__, sentence))

    def _fill(self, job: _JobSink, writer: GroupWriter, taken: Taken) -> bool:
        """Write a row group's worth of what is ready, frame by frame; whether that was the last of the group.

        The rest stays in the store, which can spill it: what a writer holds nobody can. For the same reason a sealed
        group is written to its end at once.
        """
        frames = taken.frames
        if job.context.at_seal and not taken.last:
            self._check_fits(job, taken)
        while frames:
            encoded = writer.write(frames)
            if taken.last:
                break
            sealed = taken.group in job.sealed
            if encoded and not sealed:
                return False
            timeout_s = self._node.settings.timers.send_s  # for memory to read back into
            frames = self._node.store.take(job.context.uid, taken.group, TAKE_BYTES, timeout_s, wait=False)
            if not frames:
                return sealed
        return taken.last

    def _check_fits(self, job: _JobSink, taken: Taken) -> None:
        """A group that is written when all of it is there has to be held. :raises AdmissionError: it cannot be."""
        left = sum(ready.bytes for ready in self._node.store.ready(job.context.uid) if ready.group == taken.group)
        need = int(AT_SEAL_FACTOR * (left + sum(len(frame) for frame in taken.frames)))
        have = self._node.budget.limit_bytes
        if need > have:
            raise AdmissionError(
                f"partition group {taken.group} takes about {format_bytes(need)} to be written, and a worker has "
                f"{format_bytes(have)} for data: use more partitions, or give more memory"
            )

    def _writer(self, job: _JobSink, group: int) -> GroupWriter | None:
        """The group's writer at its generation of now; None when it is not placed here any more, or finished."""
        generation = job.generations.get(group)
        if generation is None or job.finished.get(group) == generation:
            return None
        writer = job.writers.get(group)
        if writer is not None and writer.generation != generation:
            job.writers.pop(group).abort()
            writer = None
        if writer is None:
            writer = job.writers[group] = job.context.open_group(group, generation)
        return writer

    def _broke(self, job: _JobSink, group: int, fault: Fault) -> None:
        writer = job.writers.pop(group, None)
        if writer is not None:
            writer.abort()
        job.report(GroupBroke(group, job.generations.get(group, 0), fault))

    def _break_all(self, job: _JobSink, error: ShuffleError) -> None:
        """The store cannot hand out what is placed here: all of it is to be placed anew."""
        for group in list(job.generations):
            self._broke(job, group, fault_of(error))
