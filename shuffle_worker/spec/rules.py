"""What no single field can say: the rules between the fields of a ShuffleJob. Pure; knows no columns and no files.

Each rule yields Problems. The same sentences are the CRD's rules where those can be expressed.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from shuffle_worker.spec import paths
from shuffle_worker.spec.keytypes import decimal_fault, is_key_type, known_key_types
from shuffle_worker.spec.model import (
    MANAGER,
    HashFunction,
    JobSpec,
    Nulls,
    Order,
    Overwrite,
    Scalar,
    Shuffle,
    ShuffleType,
    Sink,
    Source,
)
from shuffle_worker.spec.problems import Problem, did_you_mean, quoted

_KEYED = (ShuffleType.HASH, ShuffleType.RANGE)


def source_problems(source: Source) -> Iterator[Problem]:
    at = "spec.source"
    if (source.parquet is None) == (source.arrow is None):
        yield _one_format(at, source.parquet is not None)
        return
    at = f"{at}.{source.format}"
    for index, path in enumerate(source.files.paths):
        yield from _path_problems(path, f"{at}.paths[{index}]")
    yield from _repeated(source.files.paths, f"{at}.paths")
    yield from _repeated(source.files.columns or (), f"{at}.columns")


def sink_problems(sink: Sink) -> Iterator[Problem]:
    at = "spec.sink"
    if (sink.parquet is None) == (sink.arrow is None):
        yield _one_format(at, sink.parquet is not None)
        return
    at = f"{at}.{sink.format}"
    path = sink.files.path
    bad = list(_path_problems(path, f"{at}.path"))
    yield from bad
    if not bad:
        if paths.is_pattern(path):
            yield Problem(f"{at}.path", f"{quoted(path)} is a pattern", "name one folder, without *, ? and [")
        elif paths.absolute(path) == "/" or (path.startswith("s3://") and "/" not in paths.absolute(path)[5:]):
            yield Problem(f"{at}.path", f"{quoted(path)} is a root", "name a folder in it, such as out/sorted")
        elif sink.overwrite is Overwrite.REPLACE and paths.scheme_of(path) == paths.S3:
            yield Problem(
                "spec.sink.overwrite",
                "S3 cannot exchange one output for another in one step",
                "write to a new prefix, with overwrite: Never",
            )
    yield from _repeated([key.name for key in sink.files.sort_columns], f"{at}.sortBy")


def shuffle_problems(shuffle: Shuffle) -> Iterator[Problem]:
    at = "spec.shuffle"
    keys = shuffle.key_columns
    if shuffle.type in _KEYED and not keys:
        yield Problem(f"{at}.keys", f"a {shuffle.type} shuffle needs keys", "name at least one column")
    if shuffle.type not in _KEYED and keys:
        yield Problem(f"{at}.keys", f"a {shuffle.type} shuffle takes no keys", "remove keys, or use Hash or Range")
    yield from _repeated([key.name for key in keys], f"{at}.keys")
    for option, owner in (
        ("hash", ShuffleType.HASH),
        ("range", ShuffleType.RANGE),
        ("rebalance", ShuffleType.REBALANCE),
    ):
        if getattr(shuffle, option) is not None and shuffle.type is not owner:
            yield Problem(f"{at}.{option}", f"only a {owner} shuffle takes it, and this is {shuffle.type}", "remove it")
    for index, key in enumerate(keys):
        if key.cast is not None and not is_key_type(key.cast):
            remedy = decimal_fault(key.cast) or did_you_mean(key.cast, known_key_types(), "use one of")
            yield Problem(f"{at}.keys[{index}].as", f"{quoted(key.cast)} is not a type that a key can have", remedy)
        if shuffle.type is not ShuffleType.RANGE and (key.order, key.nulls) != (Order.ASCENDING, Nulls.LAST):
            yield Problem(
                f"{at}.keys[{index}]", "order and nulls are for Range keys", "remove them, or order files by sortBy"
            )
    if shuffle.hash_function is HashFunction.ICEBERG and len(keys) > 1:
        yield Problem(f"{at}.keys", f"Iceberg's bucket transform takes one key, not {len(keys)}", "keep one of them")
    if shuffle.type is ShuffleType.RANGE:
        yield from _range_problems(shuffle)


def spec_problems(spec: JobSpec) -> Iterator[Problem]:
    """The rules between sections. Ask only when each section is right in itself."""
    if spec.replication > 1:
        yield Problem(
            "spec.replication", "2 is not built yet", "use 1; what a lost worker held is then read and shuffled again"
        )
    if spec.cluster is not None and (spec.cluster.name is None) == (spec.cluster.template is None):
        both = "both name and template" if spec.cluster.name is not None else "neither name nor template"
        yield Problem("spec.cluster", f"has {both}", "give exactly one, or leave cluster out")
    columns = spec.source.files.columns
    if columns is not None:
        yield from _projected(spec, columns)
    yield from _output_in_input(spec)


def embedded_problems(spec: JobSpec) -> Iterator[Problem]:
    """What only the operator can do. What it would merely do besides is in `embedded_notes`."""
    if spec.suspend:
        yield Problem("spec.suspend", "a suspended job does not run", "set it to false, or leave it out")
    if spec.managed_by not in (None, MANAGER):
        yield Problem(
            "spec.managedBy", f"{quoted(spec.managed_by)} runs this job, not we", f"leave it out, or use {MANAGER}"
        )


def embedded_notes(spec: JobSpec) -> list[str]:
    """Fields that mean nothing without a cluster."""
    notes = []
    if spec.cluster is not None:
        notes.append("spec.cluster is ignored: an embedded job runs on workers of its own")
    if spec.ttl_seconds_after_finished is not None:
        notes.append("spec.ttlSecondsAfterFinished is ignored: an embedded job leaves nothing to delete")
    return notes


def boundaries_out_of_order(
    boundaries: Sequence[Sequence[Any]], orders: Sequence[tuple[Order, Nulls]]
) -> tuple[int, bool] | None:
    """The first boundary that does not follow its predecessor under (order, nulls) of each key, and whether it
    repeats it. The values of one key must be comparable with each other, or None."""
    for index, (before, after) in enumerate(pairwise(boundaries), start=1):
        sign = _compare_tuples(before, after, orders)
        if sign >= 0:
            return index, sign == 0
    return None


def order_problem(at: str, fault: tuple[int, bool]) -> Problem:
    index, repeated = fault
    if repeated:
        return Problem(f"{at}[{index}]", f"repeats the boundary {index - 1}", "remove it, and lower partitions by one")
    return Problem(f"{at}[{index}]", f"comes before the boundary {index - 1}", "put them in the order of the keys")


def _range_problems(shuffle: Shuffle) -> Iterator[Problem]:
    boundaries = shuffle.boundaries
    if boundaries is None:
        return
    at = "spec.shuffle.range.boundaries"
    keys = shuffle.key_columns
    if shuffle.range is not None and shuffle.range.sample_rows is not None:
        yield Problem("spec.shuffle.range.sampleRows", "boundaries are given, nothing is sampled", "remove one of them")
    cuts = shuffle.partitions - 1
    if len(boundaries) != cuts:
        yield Problem(
            at,
            f"{_count(shuffle.partitions, 'partition')} take {cuts} boundaries, not {len(boundaries)}",
            f"give {cuts}, or set partitions to {len(boundaries) + 1}",
        )
    uneven = [index for index, boundary in enumerate(boundaries) if len(boundary) != len(keys)]
    if uneven and keys:
        index = uneven[0]
        yield Problem(
            f"{at}[{index}]",
            f"has {_count(len(boundaries[index]), 'value')} for {_count(len(keys), 'key')}",
            "give one value for each key, in the order of the keys",
        )
    elif not uneven and all(_are_numbers([boundary[key] for boundary in boundaries]) for key in range(len(keys))):
        # Text may stand for dates or decimals: its order is looked at when the columns' types are known.
        fault = boundaries_out_of_order(boundaries, [(key.order, key.nulls) for key in keys])
        if fault:
            yield order_problem(at, fault)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _are_numbers(values: Sequence[Scalar]) -> bool:
    return all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values)


def _compare_tuples(left: Sequence[Any], right: Sequence[Any], orders: Sequence[tuple[Order, Nulls]]) -> int:
    for a, b, (order, nulls) in zip(left, right, orders, strict=True):
        if a is None or b is None:
            sign = (a is None) - (b is None)
            sign = -sign if nulls is Nulls.FIRST else sign
        else:
            sign = _compare(a, b)
            sign = -sign if order is Order.DESCENDING else sign
        if sign:
            return sign
    return 0


def _compare(a: Any, b: Any) -> int:
    """NaN is larger than every number, as in Spark, and equal to itself."""
    a_nan, b_nan = (isinstance(value, float) and math.isnan(value) for value in (a, b))
    if a_nan or b_nan:
        return a_nan - b_nan
    return int(a > b) - int(a < b)


def _path_problems(path: str, at: str) -> Iterator[Problem]:
    scheme = paths.scheme_of(path)
    if scheme in ("s3a", "s3n"):
        yield Problem(at, f"the scheme {scheme}:// is Hadoop's name for S3", f"write s3://{path.split('//', 1)[-1]}")
    elif scheme == "file":
        yield Problem(at, "the scheme file:// is not needed", "write the path alone")
    elif scheme not in ("", paths.S3):
        yield Problem(at, f"the scheme {scheme}:// is not supported", "use a local path or s3://bucket/key")
    elif scheme == paths.S3 and (not path.startswith("s3://") or not path[5:].split("/", 1)[0]):
        yield Problem(at, f"{quoted(path)} names no bucket", "write s3://bucket/key")
    elif scheme == paths.S3 and paths.is_pattern(path[5:].split("/", 1)[0]):
        yield Problem(at, f"{quoted(path)} has a pattern for a bucket", "name the bucket")
    elif "\0" in path:
        yield Problem(at, "holds a zero byte", "remove it")


def _projected(spec: JobSpec, columns: Sequence[str]) -> Iterator[Problem]:
    """Keys and sort columns must be among the columns that are read."""
    used = [(f"spec.shuffle.keys[{index}]", key.name) for index, key in enumerate(spec.shuffle.key_columns)]
    sort_at = f"spec.sink.{spec.sink.format}.sortBy"
    used += [(f"{sort_at}[{index}]", key.name) for index, key in enumerate(spec.sink.files.sort_columns)]
    for at, name in used:
        if name not in columns:
            home = f"spec.source.{spec.source.format}.columns"
            yield Problem(at, f"the column {quoted(name)} is not read", f"add it to {home}")


def _output_in_input(spec: JobSpec) -> Iterator[Problem]:
    at = f"spec.sink.{spec.sink.format}.path"
    out = spec.sink.files.path
    for pattern in spec.source.files.paths:
        if paths.within(paths.fixed_part(pattern), paths.absolute(out)):
            yield Problem(at, f"{quoted(out)} holds the input {quoted(pattern)}", "write to a folder beside it")
            return
        if paths.reads(pattern, f"{out}/part-00000.{spec.sink.format}"):
            fault = f"{quoted(out)} is inside the input {quoted(pattern)}"
            yield Problem(at, fault, "write to a folder outside it")
            return


def _repeated(names: Sequence[str], at: str) -> Iterator[Problem]:
    seen = set()
    for index, name in enumerate(names):
        if name in seen:
            yield Problem(f"{at}[{index}]", f"{quoted(name)} is given twice", "remove one")
        seen.add(name)


def _one_format(at: str, both: bool) -> Problem:
    fault = "has both parquet and arrow" if both else "has neither parquet nor arrow"
    return Problem(at, fault, "give exactly one")
