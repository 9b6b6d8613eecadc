"""The ShuffleJob manifest: model, reading, checks, status. No I/O beyond reading the manifest's file; no Arrow.

`load_manifest` reads and checks a file or text; `check` a raw object, as an API gets it; `validate` a typed job.
What can be said only when the input's columns are known is in `columns`, the one module here that imports Arrow.
"""

from shuffle_worker.spec.loader import check, load_manifest, validate
from shuffle_worker.spec.model import (
    API_VERSION,
    ArrowCompression,
    ArrowSink,
    Compression,
    FileSource,
    HashFunction,
    Key,
    Nulls,
    Order,
    Overwrite,
    ParquetCompression,
    ParquetSink,
    Shuffle,
    ShuffleJob,
    ShuffleType,
    Sink,
    SortKey,
    Source,
    Verify,
)
from shuffle_worker.spec.problems import ManifestError, Problem
from shuffle_worker.spec.rules import embedded_notes, embedded_problems
from shuffle_worker.spec.status import Condition, ConditionStatus, JobStatus, MapTasks, Partitions, Phase, Stats

__all__ = [
    "API_VERSION",
    "ArrowCompression",
    "ArrowSink",
    "Compression",
    "Condition",
    "ConditionStatus",
    "FileSource",
    "HashFunction",
    "JobStatus",
    "Key",
    "ManifestError",
    "MapTasks",
    "Nulls",
    "Order",
    "Overwrite",
    "ParquetCompression",
    "ParquetSink",
    "Partitions",
    "Phase",
    "Problem",
    "Shuffle",
    "ShuffleJob",
    "ShuffleType",
    "Sink",
    "SortKey",
    "Source",
    "Stats",
    "Verify",
    "check",
    "embedded_notes",
    "embedded_problems",
    "load_manifest",
    "validate",
]
