"""What every peer is told, and the one line that it answers. No benchmark logic."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True)
class PeerJob:
    """One job: read every Parquet file in `source`, partition by hash of `keys`, and write or count.

    `output` None asks for delivery: rows handed to a consumer that counts them. `memory_bytes` is the limit around
    the whole system, None for no limit. `row_group_rows` None leaves the system's own default.
    """

    source: Path
    output: Path | None
    keys: tuple[str, ...]
    partitions: int
    memory_bytes: int | None
    row_group_rows: int | None
    scratch: Path

    @property
    def pattern(self) -> str:
        """All input files, as a glob."""
        return str(self.source / "*.parquet")


def parse_job() -> PeerJob:
    """The job that the command line describes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path, required=True, help="folder of Parquet files")
    parser.add_argument("--output", type=Path, help="folder to write; without it, rows are counted only")
    parser.add_argument("--keys", required=True, help="column names with commas between")
    parser.add_argument("--partitions", type=int, default=64)
    parser.add_argument("--memory-bytes", type=int)
    parser.add_argument("--row-group-rows", type=int)
    parser.add_argument("--scratch", type=Path, required=True, help="folder for temporary files")
    options = parser.parse_args()
    return PeerJob(
        options.source,
        options.output,
        tuple(options.keys.split(",")),
        options.partitions,
        options.memory_bytes,
        options.row_group_rows,
        options.scratch,
    )


def print_delivered(rows: int) -> None:
    """The answer of a delivery job: how many rows the consumers counted."""
    print(json.dumps({"rows": rows}), flush=True)
