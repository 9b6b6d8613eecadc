"""The result of a job, for people. Pure."""

from collections.abc import Iterator

from shuffle_worker.cli.figures import format_rate, format_seconds, histogram
from shuffle_worker.quantity import format_bytes
from shuffle_worker.spec.model import ShuffleJob, ShuffleType, Verify
from shuffle_worker.spec.status import JobStatus


def summary_lines(job: ShuffleJob, status: JobStatus) -> Iterator[str]:
    """What a finished job did: one line a fact, the labels in a column."""
    stats = status.stats
    sent = f"{format_bytes(stats.bytes_shuffled)}, {format_bytes(stats.bytes_wire)} of it on the wire"
    again = f"{stats.tasks_rerun} run again for lost partitions, {stats.retries} retried"
    facts = {
        "output": f"{job.spec.sink.files.path} ({stats.files_out} files, {format_bytes(stats.bytes_out)})",
        "rows": _rows(job, status),
        "checksum": _checksum(job, status),
        "shuffled": f"{sent}, {format_bytes(stats.bytes_spilled)} spilled",
        "time": f"{format_seconds(stats.seconds)}, {format_rate(stats.rows_per_second)}",
        "tasks": f"{status.map_tasks.total}, {again}",
        "partitions": f"{status.partitions.total}, the largest {stats.skew:.2f}x the mean",
        "": histogram(stats.partition_rows),
    }
    yield f"{job.metadata.name}: {status.phase}"
    for label, fact in facts.items():
        if fact:
            yield f"  {label:<11} {fact}"


def _rows(job: ShuffleJob, status: JobStatus) -> str:
    stats = status.stats
    copies = job.spec.shuffle.partitions if job.spec.shuffle.type is ShuffleType.BROADCAST else 1
    times = f" x {copies} partitions" if copies > 1 else ""
    sign = "=" if stats.rows_in * copies == stats.rows_out else "!="
    return f"{stats.rows_in} in{times} {sign} {stats.rows_out} out"


def _checksum(job: ShuffleJob, status: JobStatus) -> str:
    stats = status.stats
    parts = [f"keys {stats.key_digest}"] if stats.key_digest else []
    if job.spec.verify is Verify.ROWS:
        sign = "=" if stats.row_digest_in == stats.row_digest_out else "!="
        parts.append(f"rows {stats.row_digest_in} in {sign} {stats.row_digest_out} out")
    return ", ".join(parts)
