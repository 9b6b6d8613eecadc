"""Range boundaries from a sample of the input, drawn once and frozen in the plan.

Of every split the key columns are read, and one row is drawn from each of many strata of equal length: the sample is
spread over all of the input, whether it is sorted or not, and the same seed draws the same rows.
"""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from shuffle_worker.errors import InputError
from shuffle_worker.ordering import SortColumn, sort_indices, takeable
from shuffle_worker.plan import Split
from shuffle_worker.source.base import Permits, Source, SourceInfo
from shuffle_worker.spec.columns import key_types
from shuffle_worker.spec.model import JobSpec, Nulls, Order

# A partition between two boundaries of a sample with s rows for each has a size with a relative deviation of 1/sqrt(s).
# The largest of n stays below 1 + SKEW almost surely when s is this many times (ln n) / SKEW^2.
SKEW = 0.25
MARGIN = 3.0
LEAST_FOR_EACH = 256
MOST_ROWS = 1 << 24
READERS = 4


def sample_boundaries(
    source: Source, info: SourceInfo, splits: Sequence[Split], spec: JobSpec, permits: Permits, *, seed: int = 0
) -> pa.RecordBatch:
    """Where to cut: partitions - 1 rows with a column for each key, of its type, in the order that the keys say.

    :raises InputError: a file cannot be read, or a key has a value that does not cast.
    """
    shuffle = spec.shuffle
    types = key_types(shuffle, info.schema)
    wanted = sample_rows(shuffle.partitions, shuffle.range.sample_rows if shuffle.range else None)
    draws = _Draws(source, info.schema, spec, types, permits)
    counts = spread(wanted, splits)
    with ThreadPoolExecutor(min(READERS, os.cpu_count() or 1), "sample") as threads:
        tables = list(threads.map(draws.draw, splits, counts, (seed + number for number in range(len(splits)))))
    sample = pa.concat_tables([draws.nothing, *tables])
    with permits(2 * sample.nbytes + 16 * sample.num_rows, "sorting a sample for range boundaries"):
        cuts = _cut(sample, shuffle.partitions, _orders(spec), types)
    return cuts.rename_columns([key.name for key in shuffle.key_columns])


def sample_rows(partitions: int, chosen: int | None) -> int:
    """How many rows to draw: enough that no partition of distinct keys is far above the mean."""
    if chosen is not None:
        return max(chosen, 1)
    for_each = max(LEAST_FOR_EACH, math.ceil(MARGIN * math.log(partitions + 1) / SKEW**2))
    return min(for_each * partitions, MOST_ROWS)


def spread(wanted: int, splits: Sequence[Split]) -> list[int]:
    """Rows to draw of each split, as its share of all rows; all of them when there are no more than wanted."""
    total = sum(split.rows for split in splits)
    if total <= wanted:
        return [split.rows for split in splits]
    return [(split.first_row + split.rows) * wanted // total - split.first_row * wanted // total for split in splits]


class _Draws:
    """Draws rows of the keys, each as the type it is ordered as."""

    def __init__(
        self, source: Source, schema: pa.Schema, spec: JobSpec, types: Sequence[pa.DataType], permits: Permits
    ) -> None:
        self._source = source
        self._schema = schema
        self._names = [key.name for key in spec.shuffle.key_columns]
        self._types = types
        self._permits = permits
        self.nothing = self._keys(pa.RecordBatch.from_pylist([], schema=schema), "")

    def draw(self, split: Split, count: int, seed: int) -> pa.Table:
        """`count` rows of a split, in its order."""
        if not count:
            return self.nothing
        wanted = draw_rows(split.rows, count, seed)
        drawn = [self.nothing]
        start = 0
        columns = list(dict.fromkeys(self._names))
        for batch in self._source.read(split, self._schema, (), self._permits, columns):
            inside = pc.and_(pc.greater_equal(wanted, start), pc.less(wanted, start + batch.num_rows))
            rows = pc.subtract(wanted.filter(inside), start)
            start += batch.num_rows
            if len(rows):
                drawn.append(self._keys(batch, split.path, rows))
        return pa.concat_tables(drawn)

    def _keys(self, batch: pa.RecordBatch, path: str, rows: pa.Array | None = None) -> pa.Table:
        arrays = []
        for name, type_ in zip(self._names, self._types, strict=True):
            column = takeable(pa.chunked_array([batch.column(name)]))
            if rows is not None:
                column = column.take(rows)
            try:
                arrays.append(takeable(column.cast(type_)))
            except pa.ArrowException as error:
                raise InputError(
                    f"{path}: the key {name!r} holds a value that does not cast to {type_} ({error}): "
                    "choose another type for it in spec.shuffle.keys"
                ) from None
        return pa.table(arrays, names=[str(number) for number in range(len(arrays))])


def draw_rows(rows: int, count: int, seed: int) -> pa.Array:
    """`count` numbers below `rows`, ascending: one from each of as many strata of equal length."""
    if count >= rows:
        return pa.arange(0, rows)
    places = pc.add(pa.arange(0, count).cast(pa.float64()), pc.random(count, initializer=seed))
    return pc.min_element_wise(pc.floor(pc.multiply(places, rows / count)).cast(pa.int64()), rows - 1)


def _orders(spec: JobSpec) -> list[SortColumn]:
    return [
        SortColumn(str(number), key.order is Order.DESCENDING, key.nulls is Nulls.FIRST)
        for number, key in enumerate(spec.shuffle.key_columns)
    ]


def _cut(
    sample: pa.Table, partitions: int, orders: Sequence[SortColumn], types: Sequence[pa.DataType]
) -> pa.RecordBatch:
    """Quantiles of a sample; of an empty one, as many nulls, for then there is nothing to tell apart."""
    cuts = partitions - 1
    if sample.num_rows:
        # The row at a cut is the first of the partition at its right.
        places = pa.array([number * sample.num_rows // partitions for number in range(1, partitions)], pa.int64())
        rows = sort_indices(sample, orders).take(places)
        columns = [sample.column(number).take(rows) for number in range(len(types))]
    else:
        columns = [pa.chunked_array([pa.nulls(cuts, column.type)]) for column in sample.columns]
    arrays = [column.cast(type_).combine_chunks() for column, type_ in zip(columns, types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=[str(number) for number in range(len(arrays))])
