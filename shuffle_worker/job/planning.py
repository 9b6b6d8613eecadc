"""Makes a job's plan: what is read, how it is cut, where Range cuts, and whether it can be done at all.

Runs on a background thread of the coordinator's process. Touches the input's metadata (Range: a sample of it), and
leaves a nonce where the output will be.
"""

import os
import secrets
from dataclasses import replace

import msgspec
import pyarrow as pa

from shuffle_worker.errors import AdmissionError, InputError, OutputError, SpecError
from shuffle_worker.job.partitioning import batch_bytes, key_columns, schema_bytes
from shuffle_worker.job.sizing import AT_SEAL_FACTOR, Room, Sizes, size_job
from shuffle_worker.plan import Plan, Split, plan_digest
from shuffle_worker.protocol.values import Plan as ProtocolPlan
from shuffle_worker.quantity import format_bytes
from shuffle_worker.service.node import Node
from shuffle_worker.sink.open import check_writable, open_output
from shuffle_worker.source.base import Source, SourceInfo, cut_splits
from shuffle_worker.source.open import open_source
from shuffle_worker.source.sampling import sample_boundaries
from shuffle_worker.spec.columns import column_problems, typed_boundaries
from shuffle_worker.spec.model import JobSpec, ShuffleJob, ShuffleType

# A piece of a split is decoded whole: it, the batch being scattered, and staging must fit beside each other.
LARGEST_PIECE_SHARE = 4


class Planner:
    """One job's plan, for the workers there are."""

    def __init__(self, job: ShuffleJob, room: Room, node: Node) -> None:
        self.job = job
        self._room = room
        self._node = node

    def make(self, uid: bytes) -> ProtocolPlan:
        """The plan. :raises UserError: why the job is refused."""
        spec = self.job.spec
        output = open_output(spec.sink, uid, self._node.incarnation)
        output.check_free()
        source = open_source(spec.source)
        info = source.scan()
        check_apart(spec, info)
        check_columns(spec, info)
        sizes = job_sizes(spec, self._room)
        splits = cut_splits(info, sizes.split_bytes, sizes.least_splits)
        check_pieces(info, self._room)
        check_groups(spec, info, sizes.groups, self._room)
        nonce = secrets.token_hex(16)
        output.write_nonce(nonce)
        plan = Plan(
            uid=uid,
            manifest=msgspec.json.encode(self.job),
            schema=schema_bytes(info.schema),
            splits=splits,
            partitions=spec.shuffle.partitions,
            groups=sizes.groups,
            keys=key_columns(spec, info.schema),
            function=spec.shuffle.hash_function.value if spec.shuffle.type is ShuffleType.HASH else "",
            dictionary_columns=info.dictionary_columns,
            boundaries=self._boundaries(source, info, splits),
            slice_rows=spec.shuffle.slice_rows,
            seed=0,
            codec=self._codec(),
            nonce=nonce,
        )
        body = plan.encode()
        return ProtocolPlan(
            digest=plan_digest(body),
            map_rows=tuple(split.rows for split in splits),
            groups=plan.groups,
            copies=plan.groups if spec.shuffle.type is ShuffleType.BROADCAST else 1,
            body=body,
        )

    def _boundaries(self, source: Source, info: SourceInfo, splits: tuple[Split, ...]) -> bytes:
        spec = self.job.spec
        shuffle = spec.shuffle
        if shuffle.type is not ShuffleType.RANGE or shuffle.partitions == 1:
            return b""
        if shuffle.boundaries is None:
            return batch_bytes(sample_boundaries(source, info, splits, spec, self._node.permit))
        names = [key.name for key in shuffle.key_columns]
        return batch_bytes(pa.RecordBatch.from_arrays(typed_boundaries(shuffle, info.schema), names))

    def _codec(self) -> str:
        """LZ4 pays between hosts; on loopback memory moves faster than any codec."""
        chosen = self.job.spec.shuffle.compression
        if chosen is not None:
            return str(chosen.value)
        return "None" if self._node.on_loopback else "LZ4"


def job_sizes(spec: JobSpec, room: Room) -> Sizes:
    """Groups, staging and splits. Broadcast: one group for each worker, which holds all rows once."""
    if spec.shuffle.type is ShuffleType.BROADCAST:
        groups = min(room.workers, spec.shuffle.partitions)
        return replace(size_job(room, groups), groups=groups)
    return size_job(room, spec.shuffle.partitions)


def check_apart(spec: JobSpec, info: SourceInfo) -> None:
    """:raises OutputError: the output would lie in a folder that is read, whatever links lead there."""
    output = spec.sink.files.path
    if output.startswith("s3://"):
        return
    real = os.path.realpath(output)
    for file in info.files:
        folder = os.path.dirname(os.path.realpath(file.path))
        if not file.path.startswith("s3://") and os.path.commonpath([real, folder]) == folder:
            raise OutputError(f"the output {output} lies inside the input's folder {folder}: choose another path")


def check_columns(spec: JobSpec, info: SourceInfo) -> None:
    """:raises SpecError: what the manifest says of columns does not fit the input.
    :raises OutputError: the output's format does not hold a column's type.
    """
    problems = column_problems(spec, info.schema)
    if problems:
        raise SpecError("; ".join(str(problem) for problem in problems))
    check_writable(spec.sink, info.schema)


def check_groups(spec: JobSpec, info: SourceInfo, groups: int, room: Room) -> None:
    """:raises AdmissionError: files that are written when all rows are there cannot be held, even without any skew."""
    if not spec.sink.files.sort_by and groups == spec.shuffle.partitions:
        return
    need = int(AT_SEAL_FACTOR * info.bytes_decoded / groups)
    if need > room.budget_bytes:
        raise AdmissionError(
            f"one of {groups} partition groups takes about {format_bytes(need)} to be written, and a worker has "
            f"{format_bytes(room.budget_bytes)} for data: use more partitions, give more memory, or use fewer workers"
        )


def check_pieces(info: SourceInfo, room: Room) -> None:
    """:raises AdmissionError: a row group is too large to be decoded in this memory."""
    most = room.budget_bytes // LARGEST_PIECE_SHARE
    for file in info.files:
        for number, piece in enumerate(file.pieces):
            if piece.bytes > most:
                raise AdmissionError(
                    f"{file.path}, row group {number} decodes to about {format_bytes(piece.bytes)}, and a worker with "
                    f"{format_bytes(room.budget_bytes)} for data can decode {format_bytes(most)} at once: raise the "
                    "memory, use fewer workers, or write the input with smaller row groups"
                )
    if not info.files:
        raise InputError("the source has no files")
