"""Input files on S3, through boto3. The endpoint, region and credentials come from the usual AWS environment."""

import fnmatch
import io
import re
from typing import Any

import boto3
import pyarrow as pa
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shuffle_worker.errors import InputError
from shuffle_worker.plan import FileIdentity
from shuffle_worker.source.files import S3, FileStore

READ_AHEAD_BYTES = 1 << 20


def s3_client() -> Any:
    """A client with bounded retries and time-outs."""
    config = Config(connect_timeout=10, read_timeout=60, retries={"max_attempts": 5, "mode": "standard"})
    return boto3.client("s3", config=config)


def split_s3_path(path: str) -> tuple[str, str]:
    """(bucket, key) of s3://bucket/key."""
    bucket, _, key = path.removeprefix(S3).partition("/")
    return bucket, key


class S3Files(FileStore):
    def __init__(self) -> None:
        self._client = s3_client()

    def find(self, pattern: str, suffixes: tuple[str, ...]) -> list[str]:
        bucket, key = split_s3_path(pattern)
        magic = re.search(r"[*?\[]", key)
        prefix = key[: magic.start()] if magic else key
        if not magic and not key.endswith(suffixes):
            prefix = key.rstrip("/") + "/" if key else ""
        found = []
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                found += [item["Key"] for item in page.get("Contents", [])]
        except (ClientError, BotoCoreError) as error:
            raise InputError(f"cannot list s3://{bucket}/{prefix}: {error}") from None
        if magic:
            # `*` stays within a folder, as in a shell; `**` does not.
            expression = re.compile(
                fnmatch.translate(key.replace("**", "\0")).replace(".*", "[^/]*").replace("\0", ".*")
            )
            chosen = [name for name in found if expression.match(name)]
        else:
            chosen = [name for name in found if name == key or name.endswith(suffixes)]
        chosen = [name for name in chosen if not name.rsplit("/", 1)[-1].startswith(("_", "."))]
        if not chosen:
            raise InputError(f"no object matches {pattern}: {len(found)} objects begin with s3://{bucket}/{prefix}")
        return [f"{S3}{bucket}/{name}" for name in sorted(chosen)]

    def identity(self, path: str) -> FileIdentity:
        bucket, key = split_s3_path(path)
        try:
            head = self._client.head_object(Bucket=bucket, Key=key)
        except (ClientError, BotoCoreError) as error:
            raise InputError(f"cannot read {path}: {error}") from None
        return FileIdentity(head["ContentLength"], int(head["LastModified"].timestamp() * 1e9), head["ETag"])

    def open(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(_S3File(self._client, path, self.identity(path)), mode="r")


class _S3File(io.RawIOBase):
    """Random reads of one object, fenced by its ETag: an object that was replaced is not read half and half."""

    def __init__(self, client: Any, path: str, identity: FileIdentity) -> None:
        self._client = client
        self._path = path
        self._bucket, self._key = split_s3_path(path)
        self._identity = identity
        self._position = 0
        self._held = b""
        self._held_at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._identity.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._identity.size - self._position)
        size = left if size < 0 else min(size, left)
        if size == 0:
            return b""
        start = self._position - self._held_at
        if not 0 <= start <= len(self._held) - size:
            self._held = self._fetch(self._position, max(size, min(READ_AHEAD_BYTES, left)))
            self._held_at = self._position
            start = 0
        self._position += size
        return self._held[start : start + size]

    def _fetch(self, start: int, size: int) -> bytes:
        try:
            answer = self._client.get_object(
                Bucket=self._bucket,
                Key=self._key,
                Range=f"bytes={start}-{start + size - 1}",
                IfMatch=self._identity.tag,
            )
            data: bytes = answer["Body"].read()
        except (ClientError, BotoCoreError) as error:
            raise InputError(f"cannot read {self._path} at {start}: {error}") from None
        if len(data) != size:
            raise InputError(f"{self._path}: {len(data)} of {size} bytes came at {start}")
        return data
