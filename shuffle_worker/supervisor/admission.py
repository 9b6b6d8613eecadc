"""What a job would do and need, found without running it: `shufflectl plan`. Reads metadata, writes nothing."""

import os
import resource
import shutil
import tempfile
from pathlib import Path

from msgspec.structs import replace

from shuffle_worker.errors import UserError
from shuffle_worker.job.planning import check_apart, check_columns, check_groups, check_pieces, job_sizes
from shuffle_worker.job.sizing import UNCOMMITTED_SHARE, Room
from shuffle_worker.quantity import format_bytes
from shuffle_worker.sink.open import open_output
from shuffle_worker.source.base import SourceInfo, cut_splits
from shuffle_worker.source.open import open_source
from shuffle_worker.spec.model import JobSpec, ShuffleJob, ShuffleType
from shuffle_worker.supervisor.estimate import Estimate, Need
from shuffle_worker.supervisor.options import RunOptions
from shuffle_worker.supervisor.run import worker_share

# What a worker holds before any data, and what else it opens: sockets, logs, libraries.
BASELINE_BYTES = 96 << 20
OTHER_FILES = 64
OUTPUT_FACTOR = 1.1


def estimate_job(job: ShuffleJob, options: RunOptions) -> Estimate:
    """The job on these resources. :raises UserError: it would be refused whatever the resources."""
    spec = job.spec
    share = worker_share(options, Path(tempfile.gettempdir()))
    open_output(spec.sink, bytes(16), 0).check_free()
    info = open_source(spec.source).scan()
    check_apart(spec, info)
    check_columns(spec, info)
    room = Room(share.memory_bytes - BASELINE_BYTES, options.workers, share.threads, share.threads + 1)
    sizes = job_sizes(spec, room)
    splits = cut_splits(info, sizes.split_bytes, sizes.least_splits)
    copies = spec.shuffle.partitions if spec.shuffle.type is ShuffleType.BROADCAST else 1
    largest = max((split.bytes for split in splits), default=0)
    uncommitted = largest * room.slots
    estimate = Estimate(
        files=len(info.files),
        splits=len(splits),
        rows=info.rows,
        bytes_in=info.bytes_in,
        bytes_decoded=info.bytes_decoded,
        workers=options.workers,
        partitions=spec.shuffle.partitions,
        groups=sizes.groups,
        staging=Need(sizes.staging_bytes * share.threads, room.budget_bytes),
        uncommitted=Need(uncommitted, room.budget_bytes // UNCOMMITTED_SHARE),
        memory=Need(BASELINE_BYTES + sizes.staging_bytes * share.threads + uncommitted, share.memory_bytes),
        spill_disk=Need(max(0, info.bytes_decoded - room.budget_bytes * options.workers), _free(share.spill_dirs)),
        output_disk=Need(int(info.bytes_in * OUTPUT_FACTOR) * copies, _free_at(spec.sink.files.path)),
        open_files=Need(_files(sizes.groups, options.workers), resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    )
    return _with_refusals(estimate, spec, info, room)


def _with_refusals(estimate: Estimate, spec: JobSpec, info: SourceInfo, room: Room) -> Estimate:
    refusals = []
    try:
        check_pieces(info, room)
        check_groups(spec, info, estimate.groups, room)
    except UserError as error:
        refusals.append(str(error))
    for what, need, remedy in (
        ("memory of one worker", estimate.memory, "raise --memory or lower --workers"),
        ("spill disk", estimate.spill_disk, "name a larger disk with --spill-dir, or raise --memory"),
        ("output disk", estimate.output_disk, "write to a larger disk"),
    ):
        if not need.fits:
            refusals.append(f"{what}: {format_bytes(need.need)} needed, {format_bytes(need.have)} there: {remedy}")
    if not estimate.open_files.fits:
        files = estimate.open_files
        refusals.append(f"open files: {files.need} needed, {files.have} allowed: raise the limit (ulimit -n)")
    return replace(estimate, refusals=tuple(refusals))


def _files(groups: int, workers: int) -> int:
    return -(-groups // workers) + OTHER_FILES


def _free(directories: tuple[Path, ...]) -> int:
    return sum(_free_at(str(directory)) for directory in directories)


def _free_at(path: str) -> int:
    """Free bytes of the file system that holds the nearest folder above; plenty on S3."""
    if path.startswith("s3://"):
        return 1 << 60
    folder = Path(os.path.abspath(path))
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
