"""Types of digest.pyx: sums over rows that show that none was lost, doubled or misrouted."""

from typing import Any

from shuffle_worker.partitioning import Partitioning

def row_digest(batch: Any) -> int:
    """128 bits: the sum mod 2^128 over rows of a mix of all columns. Add those of several batches mod 2^128.

    The layout does not matter: plain, large and view strings, and dictionaries, of equal values have equal digests.
    """

class KeyDigest:
    """Recomputes at the sink what mappers summed into the frames' `value`."""

    def __init__(self, schema: Any, partitioning: Partitioning) -> None: ...
    def add(self, batch: Any, partition: int) -> int:
        """The sum mod 2^64 over the batch's rows of mix(key hash, partition).

        :raises Corrupted: Hash or Range: a row does not belong to `partition`; names the row.
        """
