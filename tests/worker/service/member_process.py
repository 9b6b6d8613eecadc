"""Started by tests: a member of the service at argv[1]. Evaluates each line of standard input on `service`."""

import logging
import sys

import pyarrow as pa

from shuffle_worker import ShuffleConfig, ShuffleService
from shuffle_worker.errors import ShuffleError
from shuffle_worker.settings import Timers


def numbers(count: int, first: int = 0) -> pa.RecordBatch:
    return pa.record_batch({"id": pa.array(range(first, first + count), pa.int64())})


def rows(batches: list[pa.RecordBatch]) -> list[int]:
    return [value for batch in batches for value in batch.column(0).to_pylist()]


def main() -> None:
    logging.disable()
    join, name, setup = sys.argv[1:]
    known = {"ShuffleConfig": ShuffleConfig, "Timers": Timers, "pa": pa, "numbers": numbers, "rows": rows}
    try:
        service = ShuffleService(name, join=join, config=eval(setup, known))
    except ShuffleError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return
    known["service"] = service
    print("joined", flush=True)
    for line in sys.stdin:
        try:
            print(repr(eval(line, known)), flush=True)
        except ShuffleError as error:
            print(f"{type(error).__name__}: {error}", flush=True)
    service.shutdown()


if __name__ == "__main__":
    main()
