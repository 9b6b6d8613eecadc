"""Our shuffle without files at the end, through the library: `python -m benchmarks.shuffle_only --source DIR ...`.

Two processes, each a member of one `ShuffleService`. Each reads half of the input with pyarrow, writes it exactly once
(a map for each file), and then reads the partitions it owns, batch by batch, counting rows. Half of the rows cross the
socket. Takes a peer's arguments and gives a peer's answer.
"""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.peers.arguments import PeerJob, parse_job, print_delivered
from shuffle_worker import ShuffleConfig, ShuffleService, ShuffleType

MEMBERS = ("first", "second")
SHUFFLE = "lineitem"
BATCH_ROWS = 65_536
READERS = 4
UNLIMITED_BYTES = 1 << 30
SHARE_OF_LIMIT = 0.6
TIMEOUT_S = 300.0


def config_of(job: PeerJob) -> ShuffleConfig:
    """Of one member: its half of what both may hold."""
    memory_bytes = (
        UNLIMITED_BYTES if job.memory_bytes is None else int(job.memory_bytes * SHARE_OF_LIMIT / len(MEMBERS))
    )
    return ShuffleConfig(memory_bytes=memory_bytes, spill_dirs=(job.scratch,), timeout_s=TIMEOUT_S)


def files_of(job: PeerJob, side: int) -> list[tuple[int, Path]]:
    """The files that a member reads, each with its map id."""
    return list(enumerate(sorted(job.source.glob("*.parquet"))))[side :: len(MEMBERS)]


def share_out(service: ShuffleService, job: PeerJob) -> None:
    """Make the shuffle, and give the partitions to the members in turn: the first send fixes a partition's owner."""
    service.create_shuffle(SHUFFLE, ShuffleType.HASH, job.partitions, partition_keys=job.keys)
    no_rows = pq.read_schema(min(job.source.glob("*.parquet"))).empty_table()
    for partition in range(job.partitions):
        service.send_partition(SHUFFLE, partition, no_rows, MEMBERS[partition % len(MEMBERS)])


def write_rows(service: ShuffleService, job: PeerJob, side: int) -> None:
    for map_id, path in files_of(job, side):
        with service.writer(SHUFFLE, map_id) as writer, pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
                writer.write(batch)


def count_partition(service: ShuffleService, partition: int) -> int:
    return sum(batch.num_rows for batch in service.open_partition(SHUFFLE, partition))


def count_rows(service: ShuffleService, job: PeerJob, side: int) -> int:
    """Rows of all partitions that this member owns."""
    with ThreadPoolExecutor(READERS) as readers:
        return sum(readers.map(partial(count_partition, service), range(side, job.partitions, len(MEMBERS))))


def second_member(pipe: Connection, address: str, job: PeerJob) -> None:
    """The other process: joins, then does each step when it is told to."""
    with ShuffleService(MEMBERS[1], join=address, config=config_of(job)) as service:
        pipe.send("joined")
        pipe.recv()
        write_rows(service, job, 1)
        pipe.send("written")
        pipe.recv()
        pipe.send(count_rows(service, job, 1))
        pipe.recv()


def run(job: PeerJob) -> int:
    """All rows that both members counted."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    with ShuffleService(MEMBERS[0], config=config_of(job)) as service:
        other = context.Process(target=second_member, args=(theirs, service.address, job))
        other.start()
        theirs.close()
        pipe.recv()
        share_out(service, job)
        pipe.send("write")
        write_rows(service, job, 0)
        pipe.recv()
        service.seal(SHUFFLE)
        pipe.send("count")
        rows: int = count_rows(service, job, 0) + pipe.recv()
        pipe.send("end")
        other.join()
        return rows


if __name__ == "__main__":
    the_job = parse_job()
    print_delivered(run(replace(the_job, scratch=the_job.scratch.absolute())))
