"""One job in one process, opened from its plan: how to read a split, scatter its rows, and write a group.

No threads and no decisions: map and sink threads call it.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager

import msgspec
import pyarrow as pa
from prometheus_client import Histogram

from shuffle_worker._native.digest import KeyDigest, row_digest
from shuffle_worker._native.frame import Frame
from shuffle_worker._native.partition import Partitioner
from shuffle_worker.cluster.members import Member
from shuffle_worker.errors import Corrupted, PeerLost
from shuffle_worker.frames import decode_frame, split_group
from shuffle_worker.job.partitioning import build_partitioning, read_schema
from shuffle_worker.partitioning import Staging, partitions_of
from shuffle_worker.plan import Plan
from shuffle_worker.protocol.values import Plan as ProtocolPlan
from shuffle_worker.protocol.values import Staged, add_row_digests
from shuffle_worker.service.node import STAGING_SHARE, Node
from shuffle_worker.sink.base import Digests, Output, PartitionWriter
from shuffle_worker.sink.open import open_output, open_writer
from shuffle_worker.source.open import open_source
from shuffle_worker.spec.loader import read_job
from shuffle_worker.spec.model import ShuffleJob, ShuffleType, Verify
from shuffle_worker.store.limits import ShuffleLimits

AT_SEAL_ROWS = 1 << 62
MOST_FRAME_BYTES = 1 << 20
LEAST_FRAME_BYTES = 64 << 10
FRAME_OVERHEAD = 16  # one part of so many, for schema, dictionaries and padding


def adopt(uid: bytes, plan: ProtocolPlan, node: Node, members: dict[int, Member]) -> "JobContext":
    """Open a job's shuffle in this process. :raises OutputError: the output is not on storage that all share."""
    context = JobContext(uid, Plan.decode(plan.body), node, members)
    context.output.check_nonce(context.plan.nonce, node.name)
    node.store.open_shuffle(uid, 0, ShuffleLimits(ready_rows=context.ready_rows))
    return context


class JobContext:
    """Everything that map and sink threads need, built once for each job and process."""

    def __init__(self, uid: bytes, plan: Plan, node: Node, members: dict[int, Member]) -> None:
        self.uid = uid
        self.plan = plan
        self.job: ShuffleJob = read_job(plan.manifest)
        self.schema = read_schema(plan.schema)
        self.partitioning = build_partitioning(self.job.spec, plan)
        self.source = open_source(self.job.spec.source)
        self.output: Output = open_output(self.job.spec.sink, uid, node.incarnation)
        self.node = node
        self.bytes_in = sum({split.path: split.identity.size for split in self.plan.splits}.values())
        self.wire_bytes = 0
        self._lock = threading.Lock()
        self._members = members
        self._threads = threading.local()
        staging_bytes = node.limit_bytes // STAGING_SHARE // node.settings.map_threads
        self._staging = Staging(
            frame_bytes=frame_bytes(staging_bytes // self.plan.groups),
            budget_bytes=staging_bytes,
            codec=plan.codec,  # type: ignore[arg-type]
            dictionary_columns=plan.dictionary_columns,
        )
        self.wire_schema = Partitioner(self.schema, self.partitioning, self._staging, node.pool).wire_schema

    @property
    def verify_rows(self) -> bool:
        return self.job.spec.verify is Verify.ROWS

    @property
    def broadcast(self) -> bool:
        return self.job.spec.shuffle.type is ShuffleType.BROADCAST

    @property
    def at_seal(self) -> bool:
        """Whether a group is written when all of it is there: to be sorted, or to be told apart by partition."""
        spec = self.job.spec
        return bool(spec.sink.files.sort_by) or (self.plan.groups < spec.shuffle.partitions and not self.broadcast)

    @property
    def ready_rows(self) -> int:
        """When a group is worth a sink thread: at a row group, or only when it is sealed."""
        if self.at_seal:
            return AT_SEAL_ROWS
        parquet = self.job.spec.sink.parquet
        return parquet.row_group_rows if parquet else 1

    def name_of(self, incarnation: int) -> str:
        """:raises PeerLost: nobody said where that member is."""
        if incarnation == self.node.incarnation:
            return self.node.name
        member = self._members.get(incarnation)
        if member is None:
            raise PeerLost(f"the owner {incarnation:016x} is not among the known members")
        return member.name

    def partitioner(self) -> Partitioner:
        """This map thread's own; its staging is reused across attempts."""
        partitioner: Partitioner | None = getattr(self._threads, "partitioner", None)
        if partitioner is None:
            partitioner = Partitioner(self.schema, self.partitioning, self._staging, self.node.pool)
            self._threads.partitioner = partitioner
        return partitioner

    def scatter(self, map_: int, covered: frozenset[int] | None) -> "Scatter":
        return Scatter(self, map_, covered)

    def addressed(self, frame: Frame) -> list[Frame]:
        """The frame for each group it goes to: its own, or with Broadcast all."""
        if not self.broadcast:
            return [frame]
        return [frame.to_group(group) for group in range(self.plan.groups)]

    def count_wire(self, size: int) -> None:
        """Note bytes that were sent to another member."""
        with self._lock:
            self.wire_bytes += size

    def permit(self, size: int, what: str) -> AbstractContextManager[object]:
        return self.node.permit(size, what)

    def sink_permit(self, size: int, what: str) -> AbstractContextManager[object]:
        return self.node.permit(size, what, sink=True)

    def open_group(self, group: int, generation: int) -> "GroupWriter":
        return GroupWriter(self, group, generation)

    def open_file(self, partition: int) -> PartitionWriter:
        """A new staged file for a partition, whose rows are summed as they are handed to the encoder."""
        keys = KeyDigest(self.wire_schema, self.partitioning)
        checked = 0 if self.broadcast else partition
        digests = Digests(lambda batch, _: keys.add(batch, checked), row_digest if self.verify_rows else None)
        return open_writer(self.output, self.job.spec.sink, self.plan, partition, digests, self.sink_permit)

    def close(self) -> None:
        """Remove what this process staged; what was published are other names of it."""
        self.output.remove_incarnation()


class Scatter:
    """One attempt's way through the kernel: batches of a split in, frames out, figures of the whole split."""

    def __init__(self, context: JobContext, map_: int, covered: frozenset[int] | None) -> None:
        self._context = context
        self._split = context.plan.splits[map_]
        self._partitioner = context.partitioner()
        only = None if covered is None or context.broadcast else covered
        self._partitioner.reset(self._split.first_row, only)
        self._row_digest = 0
        self.memory_bytes = 0

    def batches(self, seconds: Histogram) -> Iterator[pa.RecordBatch]:
        """The split's rows; the time of each read is observed."""
        context = self._context
        batches = context.source.read(self._split, context.schema, context.plan.dictionary_columns, context.permit)
        while True:
            with seconds.time():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def push(self, batch: pa.RecordBatch) -> Iterator[Frame]:
        self.memory_bytes += batch.nbytes
        if self._context.verify_rows:
            self._row_digest += row_digest(batch)
        return self._partitioner.push(batch)

    def flush(self) -> Iterator[Frame]:
        return self._partitioner.flush()

    @property
    def rows(self) -> int:
        return self._partitioner.figures.rows

    @property
    def key_digest(self) -> int:
        return self._partitioner.figures.digest

    @property
    def row_digest(self) -> bytes:
        """16 bytes, little-endian; empty unless every row is summed."""
        return (self._row_digest % (1 << 128)).to_bytes(16, "little") if self._context.verify_rows else b""


class GroupWriter:
    """The files of one group at one generation."""

    def __init__(self, context: JobContext, group: int, generation: int) -> None:
        self._context = context
        self.group = group
        self.generation = generation
        self._partitions = partitions_of(group, context.partitioning.partitions, context.plan.groups)
        self._writers: dict[int, PartitionWriter] = {}
        self._held: dict[int, list[pa.RecordBatch]] = {}

    def write(self, frames: list[Frame]) -> bool:
        """Add frames in the order in which they won; the list is emptied. Whether a row group was full."""
        full = False
        frames.reverse()
        while frames:
            frame = frames.pop()
            if frame.generation != self.generation:
                continue  # of a placement that has ended: its rows come again
            if self._context.broadcast:
                batch = decode_frame(frame)
                for partition in self._partitions:
                    full |= _add(self._writer(partition), batch)
                continue
            for partition, batch in split_group(frame):
                if self._context.at_seal:
                    self._held.setdefault(partition, []).append(batch)
                else:
                    full |= _add(self._writer(partition), batch)
        return full

    def finish(self) -> Staged:
        """Write what is held, close every file, and say what was written.

        Broadcast: every partition holds the same rows, and the figures are those of one.
        """
        written = []
        for partition in self._partitions:
            writer = self._writer(partition)
            for batch in self._held.pop(partition, ()):
                writer.write(batch)
            written.append(writer.finish(self.generation))
            del self._writers[partition]
        counted = written[:1] if self._context.broadcast else written
        return Staged(
            group=self.group,
            generation=self.generation,
            rows=sum(record.rows for record in counted),
            key_digest=sum(record.key_digest for record in counted) % (1 << 64),
            row_digest=add_row_digests([record.row_digest for record in counted]),
            file_bytes=sum(record.bytes for record in written),
            record=msgspec.msgpack.encode(written),
        )

    def abort(self) -> None:
        """Remove what was written. Idempotent."""
        for writer in self._writers.values():
            writer.abort()
        self._writers.clear()
        self._held.clear()

    def _writer(self, partition: int) -> PartitionWriter:
        writer = self._writers.get(partition)
        if writer is None:
            if partition not in self._partitions:
                raise Corrupted(f"a frame of group {self.group} holds rows of partition {partition}")
            writer = self._writers[partition] = self._context.open_file(partition)
        return writer


def frame_bytes(staged_bytes: int) -> int:
    """How much to stage for a frame. Buffers come in powers of two: the whole payload should fill one."""
    size = MOST_FRAME_BYTES
    while size > max(staged_bytes, LEAST_FRAME_BYTES):
        size //= 2
    return size - size // FRAME_OVERHEAD


def _add(writer: PartitionWriter, batch: pa.RecordBatch) -> bool:
    """Hand rows to a writer; whether that filled a row group."""
    wanted = writer.rows_wanted
    writer.write(batch)
    return bool(batch.num_rows >= wanted)
