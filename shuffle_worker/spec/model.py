"""The ShuffleJob manifest: one typed model for the embedded mode, the workers' API and the custom resource.

Pure data. The descriptions and bounds become the resource's schema; what spans several fields is in `rules`, what
needs the input's columns is in `columns`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

API_VERSION: Literal["shuffle-operator.dev/v1alpha1"] = "shuffle-operator.dev/v1alpha1"
KIND: Literal["ShuffleJob"] = "ShuffleJob"
MANAGER = "shuffle-operator.dev/operator"
MAX_PARTITIONS = 65_536

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=63,
        pattern=DNS_LABEL,
        extra={"means": "lower-case letters, digits and dashes, with a letter or digit at both ends"},
    ),
]
Column = Annotated[str, Meta(min_length=1, max_length=1024)]
Path = Annotated[str, Meta(min_length=1, max_length=4096)]
Scalar = bool | int | float | Annotated[str, Meta(max_length=65_536)] | None
"""A value of a boundary as YAML can write it; dates, times and decimals are text."""
Boundary = Annotated[tuple[Scalar, ...], Meta(min_length=1, max_length=32)]
TypeName = Annotated[str, Meta(min_length=1, max_length=128)]


class ShuffleType(StrEnum):
    """How rows find their partition."""

    HASH = "Hash"
    RANGE = "Range"
    REBALANCE = "Rebalance"
    BROADCAST = "Broadcast"


class HashFunction(StrEnum):
    """Whose partition ids a Hash shuffle reproduces."""

    XXHASH64 = "XxHash64"
    SPARK_MURMUR3 = "SparkMurmur3"
    ICEBERG = "Iceberg"


class Order(StrEnum):
    ASCENDING = "Ascending"
    DESCENDING = "Descending"


class Nulls(StrEnum):
    FIRST = "First"
    LAST = "Last"


class Compression(StrEnum):
    """Of frames between workers and in spill files."""

    NONE = "None"
    LZ4 = "LZ4"
    ZSTD = "Zstd"
    SNAPPY = "Snappy"


class ParquetCompression(StrEnum):
    SNAPPY = "Snappy"
    ZSTD = "Zstd"
    LZ4 = "LZ4"
    GZIP = "Gzip"
    NONE = "None"


class ArrowCompression(StrEnum):
    NONE = "None"
    LZ4 = "LZ4"
    ZSTD = "Zstd"


class Overwrite(StrEnum):
    NEVER = "Never"
    REPLACE = "Replace"


class Verify(StrEnum):
    KEYS = "Keys"
    ROWS = "Rows"


class _Node(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """Every object of a manifest: immutable, camelCase outside, and no field that is not known."""


class FileSource(_Node, frozen=True):
    """Files to read, of one format."""

    paths: Annotated[
        tuple[Path, ...],
        Meta(
            description="Files to read: local paths or s3://bucket/key, with *, ?, [..] and ** as in a shell. "
            "A folder stands for the files in it.",
            min_length=1,
            max_length=4096,
        ),
    ]
    columns: Annotated[
        Annotated[tuple[Column, ...], Meta(min_length=1, max_length=4096)] | None,
        Meta(description="Columns to read, in the order the output shall have; all when left out."),
    ] = None


class Source(_Node, frozen=True):
    """Exactly one of the formats."""

    parquet: Annotated[FileSource | None, Meta(description="Read Parquet files.")] = None
    arrow: Annotated[FileSource | None, Meta(description="Read Arrow IPC files.")] = None

    @property
    def format(self) -> Literal["parquet", "arrow"]:
        return "parquet" if self.parquet is not None else "arrow"

    @property
    def files(self) -> FileSource:
        """What to read, whatever the format."""
        chosen = self.parquet if self.parquet is not None else self.arrow
        if chosen is None:
            raise ValueError("a source of no format: the manifest was not validated")
        return chosen


class Key(_Node, frozen=True):
    """A column that decides a row's partition."""

    name: Annotated[Column, Meta(description="The column's name.")]
    cast: Annotated[
        TypeName | None,
        Meta(
            description="An Arrow type to cast the key to before it is hashed or compared, such as int64, string, "
            "date32, decimal128(15, 2) or timestamp[us]. Tables are co-partitioned only if their keys have one type."
        ),
    ] = field(default=None, name="as")
    order: Annotated[Order, Meta(description="Range only: the order of partitions.")] = Order.ASCENDING
    nulls: Annotated[Nulls, Meta(description="Range only: where rows without a value go.")] = Nulls.LAST


class SortKey(_Node, frozen=True):
    """A column that orders the rows within each output file."""

    name: Annotated[Column, Meta(description="The column's name.")]
    order: Annotated[Order, Meta(description="Smallest first, or largest first.")] = Order.ASCENDING
    nulls: Annotated[Nulls, Meta(description="Where rows without a value go.")] = Nulls.LAST


class HashOptions(_Node, frozen=True):
    """How a Hash shuffle hashes."""

    function: Annotated[
        HashFunction,
        Meta(
            description="XxHash64 gives the partitions of Spark SQL's pmod(xxhash64(..), n), SparkMurmur3 those of "
            "DataFrame.repartition, Iceberg those of the bucket transform."
        ),
    ] = HashFunction.XXHASH64


class RangeOptions(_Node, frozen=True):
    """Where a Range shuffle cuts."""

    boundaries: Annotated[
        Annotated[tuple[Boundary, ...], Meta(max_length=MAX_PARTITIONS - 1)] | None,
        Meta(
            description="One list of key values for each cut, in the keys' order, one fewer than partitions; a row "
            "equal to a boundary goes right of it. Found by sampling the input when left out."
        ),
    ] = None
    sample_rows: Annotated[
        Annotated[int, Meta(ge=1, le=100_000_000)] | None,
        Meta(description="Rows to sample for the boundaries; chosen from the number of partitions when left out."),
    ] = None


class RebalanceOptions(_Node, frozen=True):
    """How a Rebalance shuffle deals rows out."""

    slice_rows: Annotated[
        int,
        Meta(
            description="Rows dealt to one partition before the next; partitions differ by at most this many.",
            ge=1,
            le=16_777_216,
        ),
    ] = 8192


class Shuffle(_Node, frozen=True):
    """Which row goes to which partition, and how rows travel."""

    type: Annotated[
        ShuffleType,
        Meta(
            description="Hash: equal keys meet in one partition. Range: partitions are ordered by key. Rebalance: "
            "partitions of equal size. Broadcast: every partition holds every row."
        ),
    ]
    partitions: Annotated[int, Meta(description="Number of partitions, and of output files.", ge=1, le=MAX_PARTITIONS)]
    keys: Annotated[
        tuple[Column | Key, ...],
        Meta(
            description="Hash and Range: key columns, each a name or an object with a name, a cast, and for Range an "
            "order and the place of nulls.",
            max_length=32,
        ),
    ] = ()
    hash: Annotated[HashOptions | None, Meta(description="Hash only: how keys are hashed.")] = None
    range: Annotated[RangeOptions | None, Meta(description="Range only: where to cut.")] = None
    rebalance: Annotated[RebalanceOptions | None, Meta(description="Rebalance only: how rows are dealt.")] = None
    compression: Annotated[
        Compression | None,
        Meta(description="Of rows between workers and on spill disks. LZ4 between hosts, None on one, if left out."),
    ] = None

    @property
    def key_columns(self) -> tuple[Key, ...]:
        """The keys, each as an object."""
        return tuple(Key(name=key) if isinstance(key, str) else key for key in self.keys)

    @property
    def hash_function(self) -> HashFunction:
        return (self.hash or HashOptions()).function

    @property
    def boundaries(self) -> tuple[tuple[Scalar, ...], ...] | None:
        """Given boundaries; None when they are to be sampled."""
        return self.range.boundaries if self.range else None

    @property
    def slice_rows(self) -> int:
        return (self.rebalance or RebalanceOptions()).slice_rows


SortBy = Annotated[
    tuple[Column | SortKey, ...],
    Meta(
        description="Sort the rows of each file by these columns, each a name or an object with a name, an order and "
        "the place of nulls. After a Range shuffle by the same keys the whole output is in order.",
        max_length=32,
    ),
]


class _FileSink(_Node, frozen=True):
    path: Annotated[
        Path,
        Meta(description="Folder to write, local (on storage that all workers share) or s3://bucket/prefix."),
    ]
    sort_by: SortBy = ()

    @property
    def sort_columns(self) -> tuple[SortKey, ...]:
        """The sort columns, each as an object."""
        return tuple(SortKey(name=key) if isinstance(key, str) else key for key in self.sort_by)


class ParquetSink(_FileSink, frozen=True):
    """Parquet files, one for each partition."""

    compression: Annotated[ParquetCompression, Meta(description="Codec of the files' pages.")] = (
        ParquetCompression.SNAPPY
    )
    row_group_rows: Annotated[int, Meta(description="Rows in a row group.", ge=1, le=16_777_216)] = 122_880


class ArrowSink(_FileSink, frozen=True):
    """Arrow IPC files, one for each partition."""

    compression: Annotated[
        ArrowCompression,
        Meta(description="Codec of the files' buffers; None lets readers map the files into memory."),
    ] = ArrowCompression.NONE


class Sink(_Node, frozen=True):
    """Exactly one of the formats."""

    parquet: Annotated[ParquetSink | None, Meta(description="Write Parquet files.")] = None
    arrow: Annotated[ArrowSink | None, Meta(description="Write Arrow IPC files.")] = None
    overwrite: Annotated[
        Overwrite,
        Meta(
            description="Never: a path that exists is refused. Replace: it is exchanged for the new output at the "
            "end, in one step."
        ),
    ] = Overwrite.NEVER

    @property
    def format(self) -> Literal["parquet", "arrow"]:
        return "parquet" if self.parquet is not None else "arrow"

    @property
    def files(self) -> ParquetSink | ArrowSink:
        """What to write, whatever the format."""
        chosen = self.parquet if self.parquet is not None else self.arrow
        if chosen is None:
            raise ValueError("a sink of no format: the manifest was not validated")
        return chosen


class Cluster(_Node, frozen=True):
    """The workers of a job on Kubernetes; exactly one of the fields."""

    name: Annotated[Name | None, Meta(description="A ShuffleCluster of this namespace.")] = None
    template: Annotated[
        Mapping[str, Any] | None,
        Meta(description="The spec of a ShuffleCluster that is made for this job and removed with it."),
    ] = None


class JobSpec(_Node, frozen=True):
    """What to read, how to shuffle it, where to write it."""

    source: Annotated[Source, Meta(description="What to read: exactly one of parquet and arrow.")]
    shuffle: Annotated[Shuffle, Meta(description="Which row goes to which partition, and how rows travel.")]
    sink: Annotated[Sink, Meta(description="What to write: exactly one of parquet and arrow.")]
    verify: Annotated[
        Verify,
        Meta(
            description="Keys: row counts and a checksum of keys of the input and the output must agree. Rows: a "
            "checksum of all columns too."
        ),
    ] = Verify.KEYS
    replication: Annotated[
        int, Meta(description="Workers that hold each partition while the job runs.", ge=1, le=2)
    ] = 1
    active_deadline_seconds: Annotated[
        Annotated[int, Meta(ge=1, le=2_147_483_647)] | None,
        Meta(description="The job fails when it runs longer than this."),
    ] = None
    backoff_limit: Annotated[
        int, Meta(description="How often the job may be given to another coordinator.", ge=0, le=1000)
    ] = 6
    cluster: Annotated[
        Cluster | None,
        Meta(description="On Kubernetes: the ShuffleCluster to run on; the job gets its own when left out."),
    ] = None
    suspend: Annotated[
        bool, Meta(description="On Kubernetes: stop the job and drop what is not committed, or do not start it.")
    ] = False
    managed_by: Annotated[
        Annotated[str, Meta(min_length=1, max_length=63)] | None,
        Meta(
            description=f"On Kubernetes: the controller that runs this job; any other than {MANAGER} makes the "
            "operator leave it alone."
        ),
    ] = None
    ttl_seconds_after_finished: Annotated[
        Annotated[int, Meta(ge=0, le=2_147_483_647)] | None,
        Meta(description="On Kubernetes: the job is deleted this long after its end."),
    ] = None


class Metadata(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The part of an object's metadata that matters here; what else a cluster wrote into it is ignored."""

    name: Annotated[Name, Meta(description="The job's name: lower-case letters, digits and dashes.")]
    namespace: Annotated[Name | None, Meta(description="Its namespace on Kubernetes.")] = None
    uid: Annotated[
        Annotated[str, Meta(max_length=64)] | None, Meta(description="Its identity, given by the supervisor.")
    ] = None
    labels: Annotated[Mapping[str, str], Meta(description="Labels.", max_length=256)] = {}
    annotations: Annotated[Mapping[str, str], Meta(description="Annotations.", max_length=256)] = {}


class ShuffleJob(_Node, frozen=True):
    """Redistribute a dataset over partitions, exactly once and in bounded memory."""

    api_version: Annotated[Literal["shuffle-operator.dev/v1alpha1"], Meta(description="The version of this format.")]
    kind: Annotated[Literal["ShuffleJob"], Meta(description="The kind of object.")]
    metadata: Annotated[Metadata, Meta(description="Name and labels.")]
    spec: Annotated[JobSpec, Meta(description="What to read, how to shuffle it, where to write it.")]

    def to_json(self) -> bytes:
        """As `msgspec.json.decode(.., type=ShuffleJob)` reads it back; what equals a default is left out."""
        return msgspec.json.encode(self)
