"""Input files on S3: listed, and read by ranges that are fenced by the object's ETag."""

import io
import re
from typing import Any

import pyarrow as pa

from shuffle_worker.errors import InputError, PeerLost
from shuffle_worker.plan import FileIdentity
from shuffle_worker.s3 import S3_ERRORS, is_missing, s3_client, s3_code, s3_reason, split_s3_path
from shuffle_worker.source.files import FileStore, nearest, visible

READ_AHEAD_BYTES = 1 << 20
FETCHES = 3
_MAGIC = re.compile(r"[*?\[]")


class S3Files(FileStore):
    read_bytes = 8 << 20

    def __init__(self) -> None:
        self._client = s3_client()

    def find(self, pattern: str, suffixes: tuple[str, ...]) -> list[str]:
        bucket, key = split_s3_path(pattern)
        magic = _MAGIC.search(key)
        if magic:
            names = self._list(bucket, key[: magic.start()])
            matches = glob_expression(key).fullmatch
            found = visible([name for name in names if matches(name)], key)
        else:
            names = self._list(bucket, key)
            folder = key if not key or key.endswith("/") else f"{key}/"
            inside = [n for n in names if n.startswith(folder) and "/" not in n[len(folder) :] and n.endswith(suffixes)]
            found = [key] if key in names and not key.endswith("/") else visible(inside, folder)
        if not found:
            prefix = key[: magic.start()] if magic else key
            held = nearest(key, names) if names else f"nothing begins with s3://{bucket}/{prefix}"
            raise InputError(f"no object matches {pattern}: {f'there are {held}' if names else held}")
        return [f"s3://{bucket}/{name}" for name in sorted(found)]

    def _list(self, bucket: str, prefix: str) -> list[str]:
        names = []
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                names += [item["Key"] for item in page.get("Contents", [])]
        except S3_ERRORS as error:
            raise InputError(f"cannot list s3://{bucket}/{prefix}: {s3_reason(error)}") from None
        return names

    def identity(self, path: str) -> FileIdentity:
        bucket, key = split_s3_path(path)
        try:
            head = self._client.head_object(Bucket=bucket, Key=key)
        except S3_ERRORS as error:
            if is_missing(error):
                raise InputError(f"cannot read {path}: there is no such object") from None
            raise _read_error(path, error) from None
        return FileIdentity(head["ContentLength"], int(head["LastModified"].timestamp()) * 10**9, head["ETag"])

    def open(self, path: str, identity: FileIdentity) -> pa.NativeFile:
        return pa.PythonFile(_S3File(self._client, path, identity), mode="r")


def glob_expression(pattern: str) -> re.Pattern[str]:
    """A shell pattern over keys as an expression: `*`, `?` and `[..]` stay within a folder, `**/` takes any number."""
    parts, at = [], 0
    while at < len(pattern):
        char = pattern[at]
        end = pattern.find("]", at + 2) if char == "[" else -1
        if pattern.startswith("**/", at):
            parts.append("(?:.*/)?")
            at += 3
        elif char == "*":
            stars = len(pattern[at:]) - len(pattern[at:].lstrip("*"))
            parts.append(".*" if stars > 1 else "[^/]*")
            at += stars
        elif char == "?":
            parts.append("[^/]")
            at += 1
        elif end > 0:
            inner = pattern[at + 1 : end].replace("\\", "\\\\")
            parts.append(f"[^/{inner[1:]}]" if inner.startswith("!") else f"[{inner}]")
            at = end + 1
        else:
            parts.append(re.escape(char))
            at += 1
    return re.compile("".join(parts), re.DOTALL)


def _read_error(path: str, error: Exception) -> InputError | PeerLost:
    """A refusal is the user's to mend; a server that does not answer may do so later."""
    if s3_code(error) and not s3_code(error).startswith(("5", "Slow", "Internal", "ServiceUnavailable")):
        return InputError(f"cannot read {path}: {s3_reason(error)}")
    return PeerLost(f"cannot read {path}, S3 did not answer: {s3_reason(error)}")


class _S3File(io.RawIOBase):
    """Random reads of one object. One that was replaced since is refused, not read half and half."""

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

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._identity.size - self._position)
        size = left if size is None or size < 0 else min(size, left)
        if size == 0:
            return b""
        start = self._position - self._held_at
        if not 0 <= start <= len(self._held) - size:
            self._held = b""  # before the next is fetched, so that only one is held
            self._held = self._fetch(self._position, max(size, min(READ_AHEAD_BYTES, left)))
            self._held_at = self._position
            start = 0
        self._position += size
        return self._held if size == len(self._held) else self._held[start : start + size]

    def _fetch(self, start: int, size: int) -> bytes:
        """A body that breaks off is fetched anew: the client's own retries end where the body begins."""
        for _ in range(FETCHES - 1):
            try:
                return self._fetch_once(start, size)
            except PeerLost:
                continue
        return self._fetch_once(start, size)

    def _fetch_once(self, start: int, size: int) -> bytes:
        try:
            answer = self._client.get_object(
                Bucket=self._bucket,
                Key=self._key,
                Range=f"bytes={start}-{start + size - 1}",
                IfMatch=self._identity.tag,
            )
            data: bytes = answer["Body"].read()
        except S3_ERRORS as error:
            if is_missing(error) or s3_code(error) in ("PreconditionFailed", "412"):
                raise InputError(
                    f"{self._path} changed while it was read (it was replaced or removed): "
                    "run the job again when nobody writes to it"
                ) from None
            raise _read_error(self._path, error) from None
        except OSError as error:
            raise PeerLost(f"cannot read {self._path} at {start}: {error}") from None
        if len(data) != size:
            raise PeerLost(f"cannot read {self._path}: {len(data)} of {size} bytes came at {start}")
        return data
