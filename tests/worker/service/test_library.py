"""The library in one process, as its users call it."""

import contextlib
import time
from collections.abc import Callable

import nanoarrow
import numpy as np
import polars
import pyarrow as pa
import pytest

from shuffle_worker import Engine, ShuffleConfig, ShuffleService, ShuffleType
from shuffle_worker._native.hash import partition_ids
from shuffle_worker.errors import Cancelled, DeadlineExceeded, ShuffleError, SpecError, UserError


def ids(service: ShuffleService, shuffle: str, partition: int) -> list[int]:
    return [each for batch in service.receive_partitions(shuffle, partition) for each in batch.column(0).to_pylist()]


def numbers(count: int, first: int = 0) -> pa.RecordBatch:
    return pa.record_batch({"id": pa.array(range(first, first + count), pa.int64())})


def test_the_snippet_of_the_documentation(batch: pa.RecordBatch) -> None:
    service = ShuffleService()
    service.create_shuffle("shuffle_id", ShuffleType.HASH, num_partitions=4)
    service.send_partition("shuffle_id", 0, batch, "agent_0")
    batches = service.receive_partitions("shuffle_id", partition_id=0)
    stats = service.get_shuffle_stats()
    service.shutdown()
    assert batches == [batch]
    assert (stats.total.rows_sent, stats.total.rows_held, stats.total.rows_received) == (3, 3, 3)
    assert stats.shuffles["shuffle_id"].partitions == 4


def test_a_second_send_does_not_overwrite_the_first(service: ShuffleService) -> None:
    service.create_shuffle("s", "Hash", 2)
    for number in range(5):
        service.send_partition("s", 1, numbers(2, 2 * number), "agent_0")
    assert ids(service, "s", 1) == list(range(10))
    assert ids(service, "s", 1) == list(range(10)), "readable again"
    assert ids(service, "s", 0) == []


def test_all_chunks_of_a_table_arrive(service: ShuffleService) -> None:
    table = pa.concat_tables([pa.table({"id": [n, n + 1]}) for n in range(0, 10, 2)])
    assert table.column(0).num_chunks == 5
    service.create_shuffle("s", "Hash", 1)
    service.send_partition("s", 0, table)
    assert pa.Table.from_batches(service.receive_partitions("s", 0)).equals(table)


def test_what_was_received_outlives_the_service(batch: pa.RecordBatch) -> None:
    with ShuffleService() as service:
        service.create_shuffle("s", "Hash", 1)
        service.send_partition("s", 0, batch)
        (received,) = service.receive_partitions("s", 0)
    assert received.equals(batch)


@pytest.mark.parametrize("compression", ["None", "LZ4", "Zstd", "Snappy"])
def test_compression_changes_the_bytes_and_not_the_rows(compression: str) -> None:
    batch = pa.record_batch({"id": pa.array(np.zeros(50_000, np.int64))})
    with ShuffleService(config=ShuffleConfig(compression=compression)) as service:
        service.create_shuffle("s", "Hash", 1)
        service.send_partition("s", 0, batch)
        assert service.receive_partitions("s", 0) == [batch]
        sent = service.get_shuffle_stats().total.bytes_sent
    assert (sent > batch.nbytes) if compression == "None" else (sent < batch.nbytes / 4)


PRODUCERS: dict[str, Callable[[pa.Table], object]] = {
    "batch": lambda table: table.to_batches()[0],
    "table": lambda table: table,
    "reader": lambda table: table.to_reader(),
    "polars": polars.from_arrow,
    "nanoarrow": lambda table: nanoarrow.Array(table.to_batches()[0]),
    "nanoarrow stream": nanoarrow.ArrayStream,
}


@pytest.mark.parametrize("producer", PRODUCERS)
def test_any_arrow_producer(service: ShuffleService, producer: str) -> None:
    table = pa.table({"id": [1, 2, 3], "text": ["x", "y", None]})
    service.create_shuffle("s", "Hash", 1)
    service.send_partition("s", 0, PRODUCERS[producer](table))
    assert pa.Table.from_batches(service.receive_partitions("s", 0)).to_pylist() == table.to_pylist()


def test_duckdb_as_the_producer(service: ShuffleService) -> None:
    duckdb = pytest.importorskip("duckdb")
    service.create_shuffle("s", "Hash", 1)
    service.send_partition("s", 0, duckdb.sql("select 42 as id"))
    assert ids(service, "s", 0) == [42]


def test_polars_strings_are_not_converted(service: ShuffleService) -> None:
    service.create_shuffle("s", "Hash", 1)
    service.send_partition("s", 0, polars.DataFrame({"text": ["x"]}))
    assert service.receive_partitions("s", 0)[0].schema.field(0).type == pa.string_view()


def test_types_and_slices_arrive_as_they_were(service: ShuffleService) -> None:
    batch = pa.record_batch(
        {
            "dictionary": pa.array(["a", "b", "a", None]).dictionary_encode(),
            "list": pa.array([[1], [], None, [2, 3]], pa.list_(pa.int32())),
            "struct": pa.array([{"x": 1}, None, {"x": None}, {"x": 2}]),
            "null": pa.nulls(4),
            "decimal": pa.array([1, 2, None, 4]).cast(pa.decimal128(21, 2)),
        }
    )
    service.create_shuffle("s", "Hash", 1)
    for part in (batch, batch.slice(1, 2), batch.slice(0, 0)):
        service.send_partition("s", 0, part)
    received = service.receive_partitions("s", 0)
    assert received == [batch, batch.slice(1, 2), batch.slice(0, 0)]
    for each in received:
        each.validate(full=True)


def test_a_batch_larger_than_a_frame_arrives_whole(service: ShuffleService) -> None:
    large = numbers(5_000_000)
    service.create_shuffle("s", "Hash", 1)
    service.send_partition("s", 0, large)
    received = service.receive_partitions("s", 0)
    assert len(received) > 1
    assert pa.Table.from_batches(received).combine_chunks().to_batches() == [large]


def test_spill_directories_are_used_when_memory_is_short(tmp_path: object) -> None:
    config = ShuffleConfig(memory_bytes=64 << 20, spill_dirs=(str(tmp_path),), spill_reserve_bytes=0, timeout_s=20)
    with ShuffleService(config=config) as service:
        service.create_shuffle("s", "Hash", 1)
        for number in range(40):
            service.send_partition("s", 0, numbers(1 << 19, number << 19))
        stats = service.get_shuffle_stats()
        service.seal("s")
        rows = total = 0
        for batch in service.open_partition("s", 0):
            rows += batch.num_rows
            total += int(np.sum(batch.column(0).to_numpy()))
    assert stats.spilled_bytes > 80 << 20
    assert rows == 40 << 19
    assert total == sum(range(40 << 19))


# by key


def test_send_batch_partitions_as_the_kernels_say(service: ShuffleService) -> None:
    service.create_shuffle("s", ShuffleType.HASH, 7, partition_keys=["id"])
    service.send_batch("s", numbers(1000))
    service.send_batch("s", numbers(1000, 1000))
    whole = numbers(2000)
    expected = partition_ids(whole, ["id"], 7).to_numpy()
    for partition in range(7):
        assert ids(service, "s", partition) == np.flatnonzero(expected == partition).tolist()


def test_send_batch_gives_back_the_types_that_were_sent(service: ShuffleService) -> None:
    batch = pa.record_batch({"id": [1, 2, 3], "d": pa.array(["a", "b", "a"]).dictionary_encode()})
    service.create_shuffle("s", "Hash", 2, partition_keys=["id"])
    service.send_batch("s", batch)
    received = [each for p in range(2) for each in service.receive_partitions("s", p)]
    assert all(each.schema == batch.schema for each in received)
    assert sorted(pa.Table.from_batches(received).to_pylist(), key=lambda row: row["id"]) == batch.to_pylist()


def test_range(service: ShuffleService) -> None:
    service.create_shuffle("s", "Range", 3, partition_keys=["id"], boundaries=[10, 20])
    service.send_batch("s", numbers(30))
    assert [ids(service, "s", p) for p in range(3)] == [[*range(10)], [*range(10, 20)], [*range(20, 30)]]


def test_rebalance_goes_on_where_the_last_send_ended(service: ShuffleService) -> None:
    service.create_shuffle("s", "Rebalance", 4)
    for number in range(10):
        service.send_batch("s", numbers(1000, 1000 * number))
    counts = [len(ids(service, "s", p)) for p in range(4)]
    assert sum(counts) == 10_000
    assert max(counts) - min(counts) <= 1024


def test_every_partition_of_a_broadcast_holds_every_row_and_it_is_stored_once(service: ShuffleService) -> None:
    service.create_shuffle("s", "Broadcast", 5)
    service.send_batch("s", numbers(10))
    service.send_partition("s", 3, numbers(5, 10))
    assert [ids(service, "s", p) for p in range(5)] == [list(range(15))] * 5
    assert service.get_shuffle_stats().total.rows_held == 15


# writers


def test_a_writer_counts_once_however_often_it_is_tried(service: ShuffleService) -> None:
    service.create_shuffle("s", "Hash", 2, partition_keys=["id"])
    for _ in range(3):
        with service.writer("s", map_id=7) as writer:
            writer.write(numbers(50))
            writer.write(numbers(50, 50))
    assert sorted(ids(service, "s", 0) + ids(service, "s", 1)) == list(range(100))
    again = service.writer("s", 7)
    again.write_partition(0, numbers(1))
    assert again.commit() is False
    assert service.get_shuffle_stats().total.rows_held == 100


def test_nothing_of_a_writer_is_seen_before_its_commit_or_after_an_error(service: ShuffleService) -> None:
    service.create_shuffle("s", "Hash", 1)
    writer = service.writer("s", 0)
    writer.write_partition(0, numbers(5))
    assert ids(service, "s", 0) == []
    writer.abandon()
    with contextlib.suppress(ZeroDivisionError), service.writer("s", 0) as failing:
        failing.write_partition(0, numbers(5))
        raise ZeroDivisionError
    assert ids(service, "s", 0) == []
    with service.writer("s", 0) as retry:
        retry.write_partition(0, numbers(5))
    assert ids(service, "s", 0) == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="this writer has ended"):
        retry.write_partition(0, numbers(1))


# seal and close


def test_open_partition_waits_for_the_seal(service: ShuffleService) -> None:
    service.create_shuffle("s", "Hash", 1)
    service.send_partition("s", 0, numbers(2))
    reader = service.open_partition("s", 0, timeout_s=5)
    assert reader.read_next_batch() == numbers(2)
    service.send_partition("s", 0, numbers(2, 2))
    assert reader.read_next_batch() == numbers(2, 2)
    service.node.loop.call(lambda: time.sleep(0.2))
    service.seal("s")
    with pytest.raises(StopIteration):
        reader.read_next_batch()
    assert service.open_partition("s", 0).read_all().num_rows == 4


def test_open_partition_says_what_it_waited_for(service: ShuffleService) -> None:
    service.create_shuffle("s", "Hash", 2)
    with pytest.raises(
        DeadlineExceeded, match=r"waited 0.2 s for more of partition 1 of 's', or for its seal: call seal"
    ):
        service.open_partition("s", 1, timeout_s=0.2)
    service.send_partition("s", 0, numbers(1))
    reader = service.open_partition("s", 0, timeout_s=0.2)
    reader.read_next_batch()
    with pytest.raises(DeadlineExceeded, match="call seal"):
        reader.read_next_batch()


def test_a_sealed_shuffle_takes_no_more(service: ShuffleService) -> None:
    service.create_shuffle("s", "Hash", 2, partition_keys=["id"])
    service.send_partition("s", 0, numbers(1))
    service.seal("s")
    service.seal("s")
    for send in (
        lambda: service.send_partition("s", 0, numbers(1)),
        lambda: service.send_partition("s", 1, numbers(1)),
        lambda: service.send_batch("s", numbers(10)),
    ):
        with pytest.raises(UserError, match="'s' is sealed: it takes no more rows"):
            send()
    assert ids(service, "s", 0) == [0]
    assert service.open_partition("s", 1).read_all().num_rows == 0


def test_a_closed_id_can_be_used_anew(service: ShuffleService) -> None:
    for text in ("first", "second"):
        service.create_shuffle("s", "Hash", 1)
        service.send_partition("s", 0, pa.record_batch({text: [text]}))
        assert service.receive_partitions("s", 0)[0].to_pylist() == [{text: text}]
        service.close_shuffle("s")
    with pytest.raises(UserError, match="no shuffle 's' exists: create it first; the known are none"):
        service.receive_partitions("s", 0)
    assert service.get_shuffle_stats().total.rows_held == 0


# refusals


def test_refusals_name_fault_place_and_remedy(service: ShuffleService, batch: pa.RecordBatch) -> None:
    service.create_shuffle("s", "Hash", 4)
    service.send_partition("s", 0, batch)
    refusals: list[tuple[Callable[[], object], str]] = [
        (
            lambda: service.create_shuffle("s", "Hash", 4),
            r"a shuffle 's' exists already \(Hash, 4 partitions\): close it",
        ),
        (lambda: service.create_shuffle("t", "Hash", 0), "num_partitions: 0 is not within 1..65536"),
        (lambda: service.create_shuffle("t", "Hash", 65_537), "num_partitions: 65537 is not within 1..65536"),
        (
            lambda: service.create_shuffle("t", "Sort", 4),
            "no shuffle is of type 'Sort': the known types are Hash, Range",
        ),
        (lambda: service.create_shuffle("", "Hash", 4), "shuffle_id: expected a name"),
        (
            lambda: service.create_shuffle("t", "Hash", 4, partition_keys="id"),
            r"expected a list of columns, such as \['id'\]",
        ),
        (
            lambda: service.create_shuffle("t", "Range", 4, partition_keys=["id"], boundaries=[1]),
            "4 partitions have 3 bound",
        ),
        (lambda: service.send_partition("u", 0, batch), "no shuffle 'u' exists: create it first; the known are 's'"),
        (lambda: service.send_partition("s", 4, batch), r"partition 4 of 's' is out of range: it has 0\.\.3"),
        (lambda: service.receive_partitions("s", -1), r"partition -1 of 's' is out of range: it has 0\.\.3"),
        (lambda: service.send_partition("s", "0", batch), "a partition is a whole number, not '0'"),  # type: ignore[arg-type]
        (lambda: service.send_partition("s", 1, batch, "x"), "no member is named 'x': the known members are agent_0"),
        (lambda: service.send_partition("s", 0, [1]), "expected Arrow data .*, got list"),
        (lambda: service.send_partition("s", 0, pa.array([1])), "Int64Array does not hold rows of columns"),
        (
            lambda: service.send_partition("s", 0, batch.select(["id"])),
            "column 'name' .string. is missing: the shuffle 's'",
        ),
        (
            lambda: service.send_partition("s", 1, batch.rename_columns(["id", "n"])),
            "column 1 is 'n', and 'name' in the sh",
        ),
        (
            lambda: service.send_partition("s", 1, pa.record_batch({"id": ["1"], "name": ["x"]})),
            "column 'id' is string, and int64 in the shuffle 's', whose first batch fixed its schema: cast it",
        ),
        (lambda: service.send_batch("s", batch), "'s' has no partition_keys: create it with some"),
        (lambda: service.writer("s", -1), r"a map id is a whole number of 0\.\.4294967295, not -1"),
        (lambda: service.receive_partitions("s", 0, timeout_s=0), "timeout_s: expected seconds above 0"),
    ]
    for call, sentence in refusals:
        with pytest.raises(UserError, match=sentence):
            call()
    assert service.receive_partitions("s", 0) == [batch], "no refusal changed anything"


def test_a_wrong_key_is_named(service: ShuffleService, batch: pa.RecordBatch) -> None:
    service.create_shuffle("s", "Hash", 2, partition_keys=["key"])
    with pytest.raises(UserError, match="key"):
        service.send_batch("s", batch)


def test_a_row_that_is_too_large_is_refused_with_its_column() -> None:
    with ShuffleService(config=ShuffleConfig(memory_bytes=64 << 20)) as service:
        service.create_shuffle("s", "Hash", 1)
        with pytest.raises(UserError, match=r"a row has .* most of it in column 'blob'"):
            service.send_partition("s", 0, pa.record_batch({"id": [1], "blob": [b"x" * (12 << 20)]}))


def test_calls_after_the_end_say_so(batch: pa.RecordBatch) -> None:
    service = ShuffleService()
    service.shutdown()
    service.shutdown()
    with pytest.raises(Cancelled, match="the shuffle service agent_0 is shut down"):
        service.send_partition("s", 0, batch)
    assert service.fault() == "the service is shut down"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"compression": "gzip"}, "compression: no codec is named 'gzip': the known are None, LZ4, Zstd, Snappy"),
        ({"memory_bytes": 1}, "memory_bytes: .* is too little"),
        ({"host": "0.0.0.0"}, r"tokens: a service that listens on 0\.0\.0\.0 needs a token"),
        ({"spill_dirs": "/tmp"}, "spill_dirs: expected a tuple of directories"),
        ({"timeout_s": 0}, "timeout_s: expected seconds above 0"),
        ({"port": 70_000}, "port: 70000 is not within"),
    ],
)
def test_a_wrong_configuration_names_the_setting(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        ShuffleConfig(**settings)  # type: ignore[arg-type]


# engine


def test_a_local_engine_has_no_service() -> None:
    assert Engine(mode="local").shuffle_service is None


def test_a_distributed_engine_has_one(batch: pa.RecordBatch) -> None:
    with Engine(mode="distributed") as engine:
        service = engine.shuffle_service
        assert service is not None
        service.create_shuffle("s", ShuffleType.HASH, 1)
        service.send_partition("s", 0, batch, "agent_0")
        assert service.receive_partitions("s", 0) == [batch]


def test_a_distributed_engine_says_why_it_cannot_start(service: ShuffleService) -> None:
    with pytest.raises(
        UserError, match=f"cannot start its shuffle service: port {service.port} on 127.0.0.1 is in use"
    ):
        Engine(mode="distributed", config=ShuffleConfig(port=service.port))
    with pytest.raises(ShuffleError, match="cannot start its shuffle service: cannot join the shuffle service at"):
        Engine(mode="distributed", join="127.0.0.1:1", config=ShuffleConfig(timeout_s=0.5))
    with pytest.raises(SpecError, match='mode: expected "local" or "distributed"'):
        Engine(mode="remote")  # type: ignore[arg-type]
