"""One file on its way to S3: a multipart upload that nobody completes but a publisher.

An upload cannot be seen or listed by the job it is of, so each has a journal: an object below the job's staging prefix
that names it, written before the first part. Clean-up finds uploads by their journals.
"""

import base64
import contextlib
import hashlib
import io
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from shuffle_worker.errors import InternalError, OutputError, PeerLost, ShuffleError
from shuffle_worker.s3 import S3_ERRORS, s3_code, s3_reason
from shuffle_worker.sink.base import Staged, StagedFile

PART_BYTES = 5 << 20
"""The least that S3 takes but for the last part, since each open file holds as much in memory."""
PARTS_PER_SIZE = 950
"""After so many parts they become twice as large: 10,000 parts then hold more than the 5 TiB of the largest object."""
MARK = "shuffle-upload"
"""Metadata of an object: the key of the journal of the upload it came from."""
_ABSENT = ("NoSuchUpload", "NoSuchKey", "404")


class Journal(msgspec.Struct, frozen=True):
    """Which upload a journal stands for."""

    key: str
    upload_id: str


@dataclass(frozen=True)
class Bucket:
    """A bucket and the client it is reached with."""

    client: Any
    name: str


class S3File(StagedFile):
    """An upload under way. Not thread-safe."""

    def __init__(self, bucket: Bucket, key: str, journal: str) -> None:
        self._bucket = bucket
        self._key = key
        self._journal = journal
        self._done = False
        try:
            answer = bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key, Metadata={MARK: journal})
            self._upload_id: str = answer["UploadId"]
            body = msgspec.json.encode(Journal(key, self._upload_id))
            bucket.client.put_object(Bucket=bucket.name, Key=journal, Body=body)
        except S3_ERRORS as error:
            raise s3_fault(f"cannot write s3://{bucket.name}/{key}", error) from None
        self._parts = _Parts(bucket, key, self._upload_id)
        self.stream = pa.PythonFile(self._parts, mode="w")

    def finish(self, generation: int) -> Staged:  # noqa: ARG002 - an upload id is never used twice
        if self._done:
            raise InternalError(f"the upload of {self._key} was ended already")
        self._parts.send_rest()
        self._done = True
        return Staged(self._journal, self._parts.tell(), self._upload_id, tuple(self._parts.etags))

    def abort(self) -> None:
        if not self._done:
            self._done = True
            abort_upload(self._bucket, self._journal, Journal(self._key, self._upload_id))

    def fault(self, error: OSError) -> ShuffleError:
        return PeerLost(f"cannot write s3://{self._bucket.name}/{self._key}: {error}")


class _Parts(io.RawIOBase):
    """Gathers what is written into parts and uploads each as soon as it is whole."""

    def __init__(self, bucket: Bucket, key: str, upload_id: str) -> None:
        self._bucket = bucket
        self._key = key
        self._upload_id = upload_id
        self._held = bytearray()
        self._written = 0
        self.etags: list[str] = []

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._held += data
        self._written += size
        if len(self._held) >= self._part_bytes:
            self._send()
        return size

    def close(self) -> None:
        """Whoever encodes may close the stream; `send_rest` and `abort_upload` decide what becomes of it."""

    def send_rest(self) -> None:
        """Upload what is left; at least one part, for an upload of none cannot be completed."""
        if self._held or not self.etags:
            self._send()

    @property
    def _part_bytes(self) -> int:
        return PART_BYTES << (len(self.etags) // PARTS_PER_SIZE)

    def _send(self) -> None:
        body = bytes(self._held)
        self._held.clear()
        try:
            answer = self._bucket.client.upload_part(
                Bucket=self._bucket.name,
                Key=self._key,
                UploadId=self._upload_id,
                PartNumber=len(self.etags) + 1,
                Body=body,
                ContentMD5=base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode(),
            )
        except S3_ERRORS as error:
            raise s3_fault(f"cannot write s3://{self._bucket.name}/{self._key}", error) from None
        self.etags.append(answer["ETag"])


def complete_upload(bucket: Bucket, key: str, staged: Staged) -> None:
    """Make the upload an object. Done already is done. :raises OutputError: another object is there, or it is gone."""
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(staged.etags, start=1)]
    try:
        bucket.client.complete_multipart_upload(
            Bucket=bucket.name,
            Key=key,
            UploadId=staged.upload_id,
            MultipartUpload={"Parts": parts},
            IfNoneMatch="*",
        )
    except S3_ERRORS as error:
        if s3_code(error) not in (*_ABSENT, "PreconditionFailed", "412", "ConditionalRequestConflict", "409"):
            raise s3_fault(f"cannot publish s3://{bucket.name}/{key}", error) from None
        _check_completed(bucket, key, staged, error)


def _check_completed(bucket: Bucket, key: str, staged: Staged, refusal: Exception) -> None:
    """After a refusal: fine if the object is there and came from this very upload."""
    try:
        head = bucket.client.head_object(Bucket=bucket.name, Key=key)
    except S3_ERRORS as error:
        if s3_code(error) in _ABSENT:
            raise OutputError(
                f"cannot publish s3://{bucket.name}/{key}: its upload is gone ({s3_reason(refusal)}); "
                "a lifecycle rule of the bucket may have aborted it"
            ) from None
        raise s3_fault(f"cannot look at s3://{bucket.name}/{key}", error) from None
    if head.get("Metadata", {}).get(MARK) != staged.place or head["ContentLength"] != staged.bytes:
        raise OutputError(
            f"s3://{bucket.name}/{key} appeared while the job ran, and is not of this job: "
            "remove it or choose another prefix, and run the job again"
        )


def abort_upload(bucket: Bucket, journal: str, upload: Journal) -> None:
    """Drop an upload and its journal. Idempotent; what was completed stays."""
    try:
        with contextlib.suppress(bucket.client.exceptions.NoSuchUpload):
            bucket.client.abort_multipart_upload(Bucket=bucket.name, Key=upload.key, UploadId=upload.upload_id)
        bucket.client.delete_object(Bucket=bucket.name, Key=journal)
    except S3_ERRORS as error:
        raise s3_fault(f"cannot remove what was staged for s3://{bucket.name}/{upload.key}", error) from None


def s3_fault(what: str, error: Exception) -> ShuffleError:
    """A refusal is the user's to mend; a server that does not answer may do so later."""
    if s3_code(error) and s3_code(error) not in ("InternalError", "ServiceUnavailable", "SlowDown", "500", "503"):
        return OutputError(f"{what}: {s3_reason(error)}")
    return PeerLost(f"{what}, S3 did not answer: {s3_reason(error)}")
