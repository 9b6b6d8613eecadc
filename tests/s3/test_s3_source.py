"""Reading from S3: finding objects, ranges, and every fault with its object's name. Against a real server."""

import contextlib
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shuffle_worker.s3 as client_s3
import shuffle_worker.source.s3 as source_s3
from shuffle_worker.errors import InputError, PeerLost
from shuffle_worker.source.base import cut_splits
from shuffle_worker.source.open import open_source
from shuffle_worker.source.s3 import S3Files, glob_expression
from shuffle_worker.spec.model import FileSource
from shuffle_worker.spec.model import Source as SourceSpec

ROWS = 30_000


def granted(_size, _what):
    return contextlib.nullcontext()


def table():
    return pa.table({"id": range(ROWS), "flag": [("A", "N")[n % 2] for n in range(ROWS)], "text": ["x" * 50] * ROWS})


def parquet(rows=None, **options):
    sink = io.BytesIO()
    pq.write_table(table() if rows is None else rows, sink, row_group_size=7_000, **options)
    return sink.getvalue()


def arrow(new=pa.ipc.new_file):
    sink = pa.BufferOutputStream()
    with new(sink, table().schema) as writer:
        writer.write_table(table(), max_chunksize=7_000)
    return sink.getvalue().to_pybytes()


def scan(*paths, format="parquet"):
    source = open_source(SourceSpec(**{format: FileSource(paths=paths)}))
    return source, source.scan()


def read(source, info, split_bytes=1 << 20):
    batches = []
    for split in cut_splits(info, split_bytes, 1):
        for batch in source.read(split, info.schema, info.dictionary_columns, granted):
            columns = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
            batches.append(pa.RecordBatch.from_arrays(columns, schema=info.schema))
    return pa.Table.from_batches(batches)


def test_parquet_is_read_whole(put, bucket):
    put("in/a.parquet", parquet())
    put("in/b.parquet", parquet())
    source, info = scan(f"s3://{bucket}/in/*.parquet")
    assert info.rows == 2 * ROWS
    assert info.dictionary_columns == ("flag", "text")
    assert read(source, info).equals(pa.concat_tables([table(), table()]))


@pytest.mark.parametrize("new", [pa.ipc.new_file, pa.ipc.new_stream])
def test_arrow_is_read_whole(put, new):
    source, info = scan(put("in.arrow", arrow(new)), format="arrow")
    assert len(info.files[0].pieces) == 5
    assert read(source, info, 1).equals(table())


def test_a_scan_fetches_the_footer_and_not_the_body(put, monkeypatch):
    fetched = []
    fetch = source_s3._S3File._fetch

    def counted(self, start, size):
        fetched.append(size)
        return fetch(self, start, size)

    monkeypatch.setattr(source_s3._S3File, "_fetch", counted)
    wide = pa.table({"x": pa.array([str(n) * 20 for n in range(100_000)])})
    body = parquet(wide, use_dictionary=False, compression="none")
    scan(put("big.parquet", body))
    assert sum(fetched) < len(body) / 4


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a/*.parquet", ["a/1.parquet", "a/2.parquet"]),
        ("a/", ["a/1.parquet", "a/2.parquet"]),
        ("a", ["a/1.parquet", "a/2.parquet"]),
        ("a/[!1].parquet", ["a/2.parquet"]),
        ("**/*.parquet", ["a/1.parquet", "a/2.parquet", "a/deep/3.parquet", "ab/4.parquet"]),
        ("a/deep/3.parquet", ["a/deep/3.parquet"]),
        ("?b/*", ["ab/4.parquet"]),
    ],
)
def test_what_a_pattern_finds(put, bucket, pattern, found):
    for key in ("a/1.parquet", "a/2.parquet", "a/_SUCCESS.parquet", "a/x.txt", "a/deep/3.parquet", "ab/4.parquet"):
        put(key, b"x")
    assert S3Files().find(f"s3://{bucket}/{pattern}", (".parquet",)) == [f"s3://{bucket}/{key}" for key in found]


def test_more_objects_than_a_listing_page_holds(put, bucket, monkeypatch):
    for number in range(7):
        put(f"p/{number}.parquet", b"x")
    store = S3Files()
    pages = store._client.get_paginator("list_objects_v2")
    monkeypatch.setattr(store._client, "get_paginator", lambda _name: _Small(pages))
    assert len(store.find(f"s3://{bucket}/p/", (".parquet",))) == 7


class _Small:
    """A paginator whose pages hold two objects."""

    def __init__(self, pages):
        self._pages = pages

    def paginate(self, **options):
        return self._pages.paginate(**options, PaginationConfig={"PageSize": 2})


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("a/*.p", "a/x.p", True),
        ("a/*.p", "a/b/x.p", False),
        ("a/**/x", "a/x", True),
        ("a/**/x", "a/b/c/x", True),
        ("a**", "a/b/c", True),
        ("a.b", "aXb", False),
        ("[]]", "]", True),
        ("[a", "[a", True),
        ("[!/]x", "/x", False),
    ],
)
def test_patterns_over_keys(pattern, key, matches):
    assert bool(glob_expression(pattern).fullmatch(key)) is matches


def test_no_match_tells_what_is_there(put, bucket):
    put("in/lineitem.parquet", b"x")
    with pytest.raises(InputError, match=r"no object matches s3://.*/in/line\*\.orc: there are in/lineitem\.parquet"):
        S3Files().find(f"s3://{bucket}/in/line*.orc", (".orc",))
    with pytest.raises(InputError, match=r"nothing begins with s3://.*/out"):
        S3Files().find(f"s3://{bucket}/out/*.parquet", (".parquet",))


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_is_not_there():
    with pytest.raises(InputError, match=r"cannot list s3://no-such-bucket/x: ListObjectsV2: NoSuchBucket"):
        S3Files().find("s3://no-such-bucket/x*", (".parquet",))


def test_an_object_that_was_replaced_is_not_read_half_and_half(put):
    path = put("in.parquet", parquet())
    source, info = scan(path)
    put("in.parquet", parquet(table().slice(0, ROWS - 1)))
    with pytest.raises(InputError, match=r"in\.parquet changed while it was read"):
        read(source, info)


def test_an_object_replaced_by_one_as_long_is_seen_by_its_etag(put):
    files = S3Files()
    path = put("x.bin", b"a" * 100)
    identity = files.identity(path)
    put("x.bin", b"b" * 100)
    with files.open(path, identity) as file, pytest.raises(InputError, match=r"x\.bin changed while it was read"):
        file.read(10)


def test_an_object_that_is_gone(put, s3, bucket):
    source, info = scan(put("in.parquet", parquet()))
    s3.delete_object(Bucket=bucket, Key="in.parquet")
    with pytest.raises(InputError, match=r"cannot read s3://.*/in\.parquet: there is no such object"):
        read(source, info)


@pytest.mark.usefixtures("s3")
def test_a_server_that_does_not_answer_is_a_peer_that_is_lost(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setattr(client_s3, "ATTEMPTS", 1)
    with pytest.raises(PeerLost, match=r"cannot read s3://b/x, S3 did not answer: .*127\.0\.0\.1:9"):
        S3Files().identity("s3://b/x")


def test_random_reads_equal_the_object(put):
    body = bytes(range(256)) * 20_000
    files = S3Files()
    path = put("x.bin", body)
    with files.open(path, files.identity(path)) as file:
        for start, size in ((0, 10), (5, 3_000_000), (len(body) - 5, 100), (7, 7), (1_048_570, 20), (len(body), 4)):
            file.seek(start)
            assert file.read(size) == body[start : start + size]
