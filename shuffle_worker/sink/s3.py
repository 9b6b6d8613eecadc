"""Output on S3: uploads that are completed when the job is published, and a manifest that makes it so.

    <prefix>/part-00007.parquet     invisible until its upload is completed
    <prefix>/_manifest.json         the commit point: written last, never replaced
    <parent>/.<name>.staging/<job uid>/nonce, prepared.<digest>
    <parent>/.<name>.staging/<job uid>/<incarnation>/part-00007.<token>    the journal of an upload

Readers that find no manifest find no output. There is no exchange of prefixes, so nothing is ever replaced.
"""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from shuffle_worker.errors import OutputError
from shuffle_worker.s3 import S3_ERRORS, is_missing, s3_client, s3_code, split_s3_path
from shuffle_worker.sink.base import FileRecord, Output, Staged, StagedFile
from shuffle_worker.sink.manifest import MANIFEST, SUCCESS, OutputManifest, format_manifest, parse_manifest
from shuffle_worker.sink.s3_upload import Bucket, Journal, S3File, abort_upload, complete_upload, s3_fault

NONCE = "nonce"
PREPARED = "prepared"
REQUESTS = 8


class S3Output(Output):
    def __init__(
        self,
        path: str,
        uid: bytes,
        incarnation: int,
        replace: bool = False,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`step` is called with the name of each step of a publication before it is taken: tests interrupt there.

        :raises OutputError: the path names a whole bucket.
        """
        bucket, key = split_s3_path(path)
        self._prefix = "/".join(part for part in key.split("/") if part)
        self._path = f"s3://{bucket}/{self._prefix}"
        if not self._prefix:
            raise OutputError(f"{path} is a whole bucket: name a prefix in it, such as {self._path}output")
        parent, _, name = self._prefix.rpartition("/")
        self._staging = f"{parent}/.{name}.staging/{uid.hex()}/".removeprefix("/")
        self._own = f"{incarnation:016x}"
        self._replace = replace
        self._step = step
        self._bucket = Bucket(s3_client(), bucket)

    # ---- before the job

    def check_free(self) -> None:
        if not self._list(f"{self._prefix}/", 1):
            return
        if self._replace:
            raise OutputError(
                f"the output {self._path} exists, and S3 cannot replace a prefix in one step: "
                "remove it, or choose another prefix"
            )
        raise OutputError(f"the output {self._path} exists: choose another prefix, or remove it")

    def write_nonce(self, nonce: str) -> None:
        self._put(f"{self._staging}{NONCE}", nonce.encode())

    def check_nonce(self, nonce: str, member: str) -> None:
        found = self._get(f"{self._staging}{NONCE}")
        if found != nonce.encode():
            raise OutputError(
                f"the worker {member} does not see what the planner wrote to s3://{self._bucket.name}/{self._staging}"
                f"{NONCE}: give every worker the same S3 endpoint and credentials"
            )

    # ---- staging

    def create(self, name: str) -> StagedFile:
        stem = name.partition(".")[0]
        journal = f"{self._staging}{self._own}/{stem}.{secrets.token_hex(8)}"
        return S3File(self._bucket, f"{self._prefix}/{name}", journal)

    def remove_incarnation(self) -> None:
        self._remove(f"{self._staging}{self._own}/")

    def remove_staging(self) -> None:
        self._remove(self._staging)

    # ---- publishing

    def save_manifest(self, digest: str, prepared: bytes) -> None:
        self._put(f"{self._staging}{PREPARED}.{digest}", prepared)

    def load_manifest(self, digest: str) -> bytes | None:
        return self._get(f"{self._staging}{PREPARED}.{digest}")

    def is_published(self, digest: str) -> bool:
        found = self._published()
        return found is not None and found.digest == digest

    def publish(self, manifest: OutputManifest, records: list[FileRecord]) -> None:
        if self.is_published(manifest.digest):
            return
        self._check_alone(manifest)
        with ThreadPoolExecutor(REQUESTS, "publish") as threads:
            list(threads.map(self._complete, records))
        self._step("success")
        self._put(f"{self._prefix}/{SUCCESS}", b"")
        self._step("manifest")
        self._commit(manifest)

    def _complete(self, record: FileRecord) -> None:
        self._step(f"complete {record.name}")
        staged = Staged(record.staged, record.bytes, record.upload_id, record.etags)
        complete_upload(self._bucket, f"{self._prefix}/{record.name}", staged)

    def _check_alone(self, manifest: OutputManifest) -> None:
        """:raises OutputError: there is something that this manifest does not name."""
        ours = {f"{self._prefix}/{name}" for name in (*(file.name for file in manifest.files), SUCCESS)}
        others = [key for key in self._list(f"{self._prefix}/") if key not in ours]
        if others:
            raise OutputError(
                f"s3://{self._bucket.name}/{others[0]} appeared while the job ran: nothing was published; "
                "remove it or choose another prefix, and run the job again"
            )

    def _commit(self, manifest: OutputManifest) -> None:
        key = f"{self._prefix}/{MANIFEST}"
        try:
            self._bucket.client.put_object(
                Bucket=self._bucket.name, Key=key, Body=format_manifest(manifest), IfNoneMatch="*"
            )
        except S3_ERRORS as error:
            conflict = s3_code(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")
            # An answer may have been lost on its way: what counts is what is there.
            if self.is_published(manifest.digest):
                return
            if conflict:
                raise OutputError(
                    f"{self._path} was published by another job meanwhile: choose another prefix, and run the job again"
                ) from None
            raise s3_fault(f"cannot publish s3://{self._bucket.name}/{key}", error) from None

    def _published(self) -> OutputManifest | None:
        """:raises OutputError: the prefix has a manifest that is not one of a shuffle."""
        key = f"{self._prefix}/{MANIFEST}"
        body = self._get(key)
        return None if body is None else parse_manifest(body, f"s3://{self._bucket.name}/{key}")

    # ---- objects

    def _put(self, key: str, body: bytes) -> None:
        try:
            self._bucket.client.put_object(Bucket=self._bucket.name, Key=key, Body=body)
        except S3_ERRORS as error:
            raise s3_fault(f"cannot write s3://{self._bucket.name}/{key}", error) from None

    def _get(self, key: str) -> bytes | None:
        try:
            body: bytes = self._bucket.client.get_object(Bucket=self._bucket.name, Key=key)["Body"].read()
        except S3_ERRORS as error:
            if is_missing(error):
                return None
            raise s3_fault(f"cannot read s3://{self._bucket.name}/{key}", error) from None
        return body

    def _list(self, prefix: str, most: int = 1000) -> list[str]:
        """Keys that begin so; at least one if there is any, and all unless `most` is less than a page."""
        keys: list[str] = []
        try:
            pages = self._bucket.client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket.name, Prefix=prefix, PaginationConfig={"PageSize": most}):
                keys += [item["Key"] for item in page.get("Contents", [])]
                if keys and most == 1:
                    break
        except S3_ERRORS as error:
            raise s3_fault(f"cannot list s3://{self._bucket.name}/{prefix}", error) from None
        return keys

    def _remove(self, prefix: str) -> None:
        """Abort the uploads whose journals begin so, and delete everything else there."""
        with ThreadPoolExecutor(REQUESTS, "remove") as threads:
            list(threads.map(self._remove_one, self._list(prefix)))

    def _remove_one(self, key: str) -> None:
        name = key.removeprefix(self._staging)
        if "/" in name:
            body = self._get(key)
            if body is not None:
                abort_upload(self._bucket, key, msgspec.json.decode(body, type=Journal))
            return
        try:
            self._bucket.client.delete_object(Bucket=self._bucket.name, Key=key)
        except S3_ERRORS as error:
            raise s3_fault(f"cannot remove s3://{self._bucket.name}/{key}", error) from None
