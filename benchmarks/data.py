"""Input: TPC-H lineitem at several scales, made once and kept, and a few rows of it for the empty job."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
EMPTY_ROWS = 10
PARTS_PER_SCALE = 4
READ_BYTES = 8 << 20


def lineitem(scale: float) -> Path:
    """The folder of lineitem at a scale factor: made if it is not there yet."""
    home = DATA / f"bench-sf{scale:g}"
    made = home / "made"
    if not made.exists():
        _generate(scale, home)
        made.touch()
    return home / "lineitem"


def few_rows() -> Path:
    """A folder of lineitem with ten rows: what the empty job reads."""
    home = DATA / "bench-empty" / "lineitem"
    file = home / "lineitem.1.parquet"
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True)
        first = min(lineitem(0.01).glob("*.parquet"))
        staged = home / ".staged"
        pq.write_table(pq.read_table(first).slice(0, EMPTY_ROWS), staged, compression="snappy")
        staged.rename(file)
    return home


def count_rows(folder: Path) -> int:
    return sum(pq.read_metadata(file).num_rows for file in folder.glob("*.parquet"))


def warm(folder: Path) -> None:
    """Read every byte once, so that each run finds its input in the page cache."""
    for file in sorted(folder.glob("*.parquet")):
        with file.open("rb", buffering=0) as stream:
            while stream.read(READ_BYTES):
                pass


def _generate(scale: float, home: Path) -> None:
    parts = PARTS_PER_SCALE * max(1, round(scale))
    generator = Path(sys.executable).parent / "tpchgen-cli"
    command = [
        generator,
        "parquet",
        "-s",
        f"{scale:g}",
        "--tables=lineitem",
        f"--parts={parts}",
        f"--output-dir={home}",
    ]
    subprocess.run(list(map(str, command)), check=True)
