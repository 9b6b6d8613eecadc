"""What a system wrote: files, bytes, row groups, encodings; and whether it is right. Reads only."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.data import ROOT

CHECKER = ROOT / "examples" / "check_lineitem.py"
CHECK_TIMEOUT_S = 900


@dataclass(frozen=True)
class Output:
    """Figures of the files; `encodings` and `statistics` are those of the first row group, for each column."""

    files: int
    bytes: int
    rows: int
    row_groups: int
    encodings: dict[str, str]
    statistics: bool

    @property
    def rows_per_group(self) -> float:
        return self.rows / max(1, self.row_groups)


def describe(folder: Path) -> Output:
    """Read the footers."""
    files = sorted(folder.rglob("*.parquet"))
    footers = [pq.read_metadata(file) for file in files]
    filled = next((footer for footer in footers if footer.num_row_groups), None)
    columns = [] if filled is None else [filled.row_group(0).column(place) for place in range(filled.num_columns)]
    return Output(
        files=len(files),
        bytes=sum(file.stat().st_size for file in files),
        rows=sum(footer.num_rows for footer in footers),
        row_groups=sum(footer.num_row_groups for footer in footers),
        encodings={
            column.path_in_schema: f"{'+'.join(sorted(column.encodings))} {column.compression}" for column in columns
        },
        statistics=all(column.is_stats_set and column.statistics.has_min_max for column in columns),
    )


def fault_of(source: Path, output: Path, keys: tuple[str, ...]) -> str | None:
    """What is wrong with the output, None if nothing is: by another engine, see the checker."""
    command = [sys.executable, str(CHECKER), str(source), str(output), "--keys", ",".join(keys)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_TIMEOUT_S, check=False)
    return None if answer.returncode == 0 else answer.stdout + answer.stderr
