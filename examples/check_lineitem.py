#!/usr/bin/env python3
"""Checks a shuffle's output against its input with another engine, DuckDB. Reads only.

    python examples/check_lineitem.py data/lineitem out/lineitem

Whether rows were lost, doubled or changed: the number of rows, and the sum of a hash of each whole row, which no order
of rows changes. Whether the shuffle did its work: no key is in two partitions. A partition is a file; files of a folder
named `column=value` are one partition together. Ends with 1 if anything differs, with 2 if there is nothing to check.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb


class NothingToCheck(Exception):
    """The folders hold nothing that can be compared."""


@dataclass(frozen=True)
class Table:
    """Parquet files as one table."""

    folder: Path
    files: list[Path]
    columns: dict[str, str]
    """Types by name, in the words of DuckDB."""

    @property
    def sql(self) -> str:
        names = ", ".join(f"'{quoted(file)}'" for file in self.files)
        return f"read_parquet([{names}], hive_partitioning = false)"


@dataclass(frozen=True)
class Contents:
    """What must be equal on both sides, and how many files are without rows."""

    rows: int
    checksum: int
    empty_files: int


def quoted(value: object) -> str:
    """`value` inside a SQL string."""
    return str(value).replace("'", "''")


def open_table(connection: duckdb.DuckDBPyConnection, folder: Path) -> Table:
    """All Parquet files below a folder (or one file), but not what is hidden or being staged."""
    found = [folder] if folder.is_file() else sorted(folder.rglob("*.parquet"))
    files = [file for file in found if not any(part[0] in "._" for part in file.relative_to(folder).parts)]
    if not files:
        raise NothingToCheck(f"no Parquet files in {folder}")
    table = Table(folder, files, {})
    described = connection.execute(f"DESCRIBE SELECT * FROM {table.sql}").fetchall()
    return Table(folder, files, {name: kind for name, kind, *_ in described})


def contents_of(connection: duckdb.DuckDBPyConnection, table: Table, columns: dict[str, str]) -> Contents:
    """Rows and their checksum over `columns`, read as the types given."""
    values = ", ".join(f'CAST("{name}" AS {kind})' for name, kind in columns.items())
    row = connection.execute(f"SELECT count(*), coalesce(sum(hash({values})), 0) FROM {table.sql}").fetchone()
    filled = connection.execute(f"SELECT count(DISTINCT file_index) FROM {table.sql}").fetchone()
    assert row is not None
    assert filled is not None
    return Contents(row[0], row[1], len(table.files) - filled[0])


def partitions_of(table: Table) -> list[int]:
    """The partition number of each file, in order."""
    names = [file.parent if "=" in file.parent.name else file for file in table.files]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [numbers[name] for name in names]


def keys_in_two(
    connection: duckdb.DuckDBPyConnection, table: Table, keys: list[str]
) -> tuple[int, tuple[object, ...] | None]:
    """How many keys are in more than one partition, and one of them."""
    listed = ", ".join(f'"{key}"' for key in keys)
    connection.execute("CREATE OR REPLACE TEMP TABLE place (file_index UBIGINT, partition INTEGER)")
    connection.executemany("INSERT INTO place VALUES (?, ?)", list(enumerate(partitions_of(table))))
    found = connection.execute(
        f"SELECT count(*) OVER (), * FROM (SELECT {listed} FROM (SELECT {listed}, file_index FROM {table.sql}) "
        "JOIN place USING (file_index) GROUP BY ALL HAVING min(partition) <> max(partition)) LIMIT 1"
    ).fetchone()
    return (0, None) if found is None else (found[0], found[1:])


def check(source: Path, output: Path, keys: list[str]) -> bool:
    """Prints the table; true if all is as it must be."""
    connection = duckdb.connect()
    connection.execute("SET preserve_insertion_order = false")
    before, after = open_table(connection, source), open_table(connection, output)
    if missing := [key for key in keys if key not in before.columns or key not in after.columns]:
        raise NothingToCheck(f"no column {', '.join(missing)} in both of {source} and {output}")

    same_columns = before.columns == after.columns
    common = {name: kind for name, kind in before.columns.items() if name in after.columns}
    wanted, found = (contents_of(connection, table, common) for table in (before, after))
    split, example = keys_in_two(connection, after, keys)

    line("", "input", "output")
    line("files", len(before.files), len(after.files))
    line("files without rows", wanted.empty_files, found.empty_files)
    line("columns", len(before.columns), len(after.columns), "equal" if same_columns else "DIFFERENT")
    line("rows", wanted.rows, found.rows, difference(found.rows - wanted.rows))
    same_rows = found.checksum == wanted.checksum
    line("sum of row hashes", short(wanted), short(found), "equal" if same_rows else "DIFFERENT")
    line("keys in two partitions", "", split, "none" if example is None else f"SUCH AS {named(keys, example)}")
    if not same_columns:
        print(f"columns not equal: {describe_columns(before, after)}")
    return same_columns and same_rows and wanted.rows == found.rows and not split


def line(title: str, left: object, right: object, verdict: str = "") -> None:
    """One line of the table."""
    left, right = (f"{each:,}" if isinstance(each, int) else each for each in (left, right))
    print(f"{title:<24}{left:>18}{right:>18}   {verdict}".rstrip())


def difference(rows: int) -> str:
    """What a difference in rows means."""
    return "equal" if not rows else f"{abs(rows):,} {'LOST' if rows < 0 else 'TOO MANY'}"


def short(contents: Contents) -> str:
    """The low 64 bits of the checksum: what people compare by eye."""
    return f"{contents.checksum % 2**64:016x}"


def named(keys: list[str], values: tuple[object, ...]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in zip(keys, values, strict=True))


def describe_columns(before: Table, after: Table) -> str:
    """Which columns differ, in name or type."""
    either = {**before.columns, **after.columns}
    return (
        "; ".join(
            f"{name}: {before.columns.get(name, 'missing')} / {after.columns.get(name, 'missing')}"
            for name in either
            if before.columns.get(name) != after.columns.get(name)
        )
        or "another order"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check a shuffle's output against its input with DuckDB.")
    parser.add_argument("input", type=Path, help="folder of Parquet files")
    parser.add_argument("output", type=Path, help="folder of Parquet files, one for each partition")
    parser.add_argument("--keys", default="l_orderkey", help="key columns, commas between (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        good = check(options.input, options.output, options.keys.split(","))
    except (NothingToCheck, duckdb.Error) as error:
        print(f"cannot check: {error}", file=sys.stderr)
        return 2
    print("the output holds exactly the input's rows" if good else "THE OUTPUT IS WRONG")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
