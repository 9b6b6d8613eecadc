"""Output on S3: invisible until it is published, published once, and nothing left behind. Against a real server."""

import contextlib
import json
import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError

from shuffle_worker.errors import OutputError, PeerLost, ShuffleError
from shuffle_worker.plan import Plan
from shuffle_worker.sink.base import Digests, FileRecord
from shuffle_worker.sink.manifest import ManifestFile, OutputManifest
from shuffle_worker.sink.open import open_output, open_writer
from shuffle_worker.sink.s3 import S3Output
from shuffle_worker.sink.s3_upload import PART_BYTES, PARTS_PER_SIZE
from shuffle_worker.spec.model import Overwrite, ParquetCompression, ParquetSink, Sink

UID, OTHER_UID = bytes(range(16)), bytes(16)
SCHEMA = pa.schema([("a", pa.int64()), ("s", pa.binary())])
KEYS = ["t/out/_SUCCESS", "t/out/_manifest.json", "t/out/part-00000.parquet", "t/out/part-00001.parquet"]


class Interrupted(Exception):
    """As if the process had died there."""


@contextlib.contextmanager
def granted(_size: int, _what: str) -> Iterator[None]:
    yield


class Job:
    """Writes partitions of a job whose output is s3://<bucket>/t/out."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self.path = f"s3://{bucket}/t/out"
        self.sink = Sink(parquet=ParquetSink(path=self.path, compression=ParquetCompression.NONE))

    def output(self, incarnation: int = 1, uid: bytes = UID, **options: Any) -> S3Output:
        return S3Output(self.path, uid, incarnation, **options)

    def write(self, partition: int, rows: int = 3, uid: bytes = UID, incarnation: int = 1) -> FileRecord:
        writer = self.writer(partition, uid, incarnation)
        chance = random.Random(partition)
        writer.write(pa.record_batch([range(rows), [chance.randbytes(100) for _ in range(rows)]], schema=SCHEMA))
        return writer.finish(1)

    def writer(self, partition: int, uid: bytes = UID, incarnation: int = 1) -> Any:
        digests = Digests(lambda batch, _: batch.num_rows)
        return open_writer(self.output(incarnation, uid), self.sink, plan(), partition, digests, granted)

    def keys(self, prefix: str = "") -> list[str]:
        found = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix).get("Contents", [])
        return [item["Key"] for item in found]

    def uploads(self) -> int:
        return len(self._s3.list_multipart_uploads(Bucket=self._bucket).get("Uploads") or [])

    def read(self, key: str) -> bytes:
        body: bytes = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return body


def plan() -> Plan:
    return Plan(UID, b"", SCHEMA.serialize().to_pybytes(), (), 2, 2, (), "", (), b"", 0, 0, "None", "")


def manifest_of(records: list[FileRecord], digest: str = "d1", uid: bytes = UID) -> OutputManifest:
    return OutputManifest(
        job=uid.hex(),
        digest=digest,
        format="parquet",
        type="Hash",
        partitions=len(records),
        keys=(),
        hash_function="XxHash64",
        rows=sum(record.rows for record in records),
        bytes=sum(record.bytes for record in records),
        key_digest="",
        row_digest=None,
        files=tuple(ManifestFile(each.name, each.partition, each.rows, each.bytes, "") for each in records),
        columns=(),
    )


@pytest.fixture
def job(s3: Any, bucket: str) -> Job:
    return Job(s3, bucket)


def test_files_of_many_parts_appear_at_publication(job: Job) -> None:
    records = [job.write(0, rows=120_000), job.write(1, rows=0)]
    assert len(records[0].etags) == -(-records[0].bytes // PART_BYTES) >= 3
    assert job.keys("t/out/") == []
    output = open_output(job.sink, UID, 2)
    output.check_free()
    output.publish(manifest_of(records), records)
    assert job.keys("t/out/") == KEYS
    table = pq.read_table(pa.BufferReader(job.read(KEYS[2])))
    assert (table.schema, table.column("a").to_pylist()) == (SCHEMA, list(range(120_000)))
    assert len(job.read(KEYS[2])) == records[0].bytes
    assert pq.read_table(pa.BufferReader(job.read(KEYS[3]))).num_rows == 0
    assert json.loads(job.read(KEYS[1]))["digest"] == "d1"
    output.remove_staging()
    assert (job.keys(), job.uploads()) == (KEYS, 0)


@pytest.mark.parametrize("stop_at", range(4))
def test_interrupted_anywhere_it_is_done_again_by_another(job: Job, stop_at: int) -> None:
    records = [job.write(0), job.write(1)]
    names = ["complete part-00000.parquet", "complete part-00001.parquet", "success", "manifest"]

    def step(name: str) -> None:
        if name == names[stop_at]:
            raise Interrupted(name)

    with pytest.raises(Interrupted):
        job.output(3, step=step).publish(manifest_of(records), records)
    assert not job.output().is_published("d1")
    for _ in range(2):
        job.output(4).publish(manifest_of(records), records)
    assert job.keys("t/out/") == KEYS
    assert job.output().is_published("d1")


def test_two_jobs_do_not_mix(job: Job) -> None:
    """Both found the prefix free. The one that publishes second is refused, and changes nothing."""
    ours, theirs = [job.write(0)], [job.write(0, rows=5, uid=OTHER_UID)]
    job.output().publish(manifest_of(ours), ours)
    before = {key: job.read(key) for key in job.keys("t/out/")}
    with pytest.raises(OutputError, match=r"out/_manifest\.json appeared while the job ran: nothing was published"):
        job.output(uid=OTHER_UID).publish(manifest_of(theirs, "d2", OTHER_UID), theirs)
    assert {key: job.read(key) for key in job.keys("t/out/")} == before


def test_an_object_of_another_job_is_not_overwritten(job: Job, put: Any) -> None:
    records = [job.write(0)]
    put("t/out/part-00000.parquet", b"another's")
    with pytest.raises(OutputError, match=r"part-00000\.parquet appeared while the job ran, and is not of this job"):
        job.output().publish(manifest_of(records), records)
    assert job.read("t/out/part-00000.parquet") == b"another's"
    assert not job.output().is_published("d1")


def test_the_manifest_is_never_replaced(job: Job) -> None:
    """Another job publishes between this one's last look and its commit."""
    records = [job.write(0)]

    def step(name: str) -> None:
        if name == "manifest":
            job.output(9, uid=OTHER_UID)._commit(manifest_of([], "d2", OTHER_UID))

    with pytest.raises(OutputError, match="was published by another job meanwhile"):
        job.output(step=step).publish(manifest_of(records), records)
    assert job.output().is_published("d2")


def test_an_upload_that_was_aborted_is_said(job: Job) -> None:
    records = [job.write(0)]
    job.output().remove_staging()
    with pytest.raises(
        OutputError, match=r"cannot publish .*part-00000\.parquet: its upload is gone .* lifecycle rule"
    ):
        job.output().publish(manifest_of(records), records)


def test_a_zombie_cannot_change_what_is_published(job: Job, s3: Any, bucket: str) -> None:
    records = [job.write(0)]
    job.output().publish(manifest_of(records), records)
    before = job.read("t/out/part-00000.parquet")
    with pytest.raises(ClientError, match="NoSuchUpload"):
        s3.upload_part(
            Bucket=bucket, Key="t/out/part-00000.parquet", UploadId=records[0].upload_id, PartNumber=1, Body=b"late"
        )
    job.write(0, rows=9)
    assert job.read("t/out/part-00000.parquet") == before


def test_only_the_own_jobs_uploads_are_aborted(job: Job) -> None:
    job.write(0)
    job.write(1, incarnation=2)
    job.write(0, uid=OTHER_UID)
    job.writer(2).abort()
    job.output().save_manifest("d1", b"body")
    assert job.uploads() == 3
    job.output(incarnation=2).remove_incarnation()
    assert job.uploads() == 2
    for _ in range(2):
        job.output().remove_staging()
    assert job.uploads() == 1
    assert [key.split("/")[2] for key in job.keys("t/.out.staging/")] == [OTHER_UID.hex()]


def test_the_nonce_and_the_prepared_manifest_are_seen_by_all(job: Job) -> None:
    job.output(1).write_nonce("n1")
    job.output(2).check_nonce("n1", "worker-1")
    with pytest.raises(
        OutputError, match=r"worker worker-1 does not see what the planner wrote to s3://.*same S3 endpoi"
    ):
        job.output(2, uid=OTHER_UID).check_nonce("n1", "worker-1")
    assert job.output().load_manifest("d1") is None
    job.output(1).save_manifest("d1", b"body")
    assert job.output(2).load_manifest("d1") == b"body"


def test_what_is_there_is_refused_early(job: Job, put: Any, bucket: str) -> None:
    put("t/out2/x", b"")
    job.output().check_free()
    put("t/out/x", b"")
    with pytest.raises(OutputError, match=r"the output s3://.*/t/out exists: choose another prefix, or remove it"):
        job.output().check_free()
    replacing = Sink(parquet=ParquetSink(path=job.path), overwrite=Overwrite.REPLACE)
    with pytest.raises(OutputError, match="S3 cannot replace a prefix in one step"):
        open_output(replacing, UID, 1).check_free()
    with pytest.raises(
        OutputError, match=rf"s3://{bucket} is a whole bucket: name a prefix in it, such as s3://{bucket}/"
    ):
        open_output(Sink(parquet=ParquetSink(path=f"s3://{bucket}")), UID, 1)


def test_a_bucket_that_is_not_there_and_a_server_that_is_not(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match=r"cannot write s3://no-such-bucket/out/part-0: .*NoSuchBucket"):
        S3Output("s3://no-such-bucket/out", UID, 1).create("part-0")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setattr("shuffle_worker.s3.ATTEMPTS", 1)
    with pytest.raises(PeerLost, match=r"cannot list s3://.*, S3 did not answer: Could not connect"):
        job.output().check_free()


def test_parts_grow_so_that_ten_thousand_hold_the_largest_object() -> None:
    most = sum(PART_BYTES << (number // PARTS_PER_SIZE) for number in range(10_000))
    assert most >= 5 << 40


def test_other_schemes_are_refused_by_name() -> None:
    with pytest.raises(ShuffleError, match=r"the scheme gs:// of gs://b/x is not supported: use a local path or s3://"):
        open_output(Sink(parquet=ParquetSink(path="gs://b/x")), UID, 1)
