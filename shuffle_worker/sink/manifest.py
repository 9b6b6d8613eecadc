"""`_manifest.json`: what a published output holds and how it was made. Pure; the same job always gives the same bytes.

Digests are hexadecimal, because a JSON number does not hold them.
"""

import msgspec

from shuffle_worker.errors import OutputError

MANIFEST = "_manifest.json"
SUCCESS = "_SUCCESS"
VERSION = 1


class _Part(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Every object of the manifest. Unknown fields are ignored, so that an older reader takes a newer writer's."""


class ManifestFile(_Part, frozen=True):
    """One file of the output."""

    name: str
    partition: int
    rows: int
    bytes: int
    key_digest: str
    row_digest: str | None = None


class ManifestKey(_Part, frozen=True):
    """A key, and the type it was hashed or ordered as."""

    name: str
    type: str
    descending: bool = False
    nulls_first: bool = False


class ManifestColumn(_Part, frozen=True):
    name: str
    type: str
    nullable: bool


class OutputManifest(_Part, frozen=True):
    """All files of an output. `digest` is the one that the supervisor committed; `job` the job's uid in hexadecimal."""

    job: str
    digest: str
    format: str
    type: str
    partitions: int
    keys: tuple[ManifestKey, ...]
    hash_function: str | None
    rows: int
    bytes: int
    key_digest: str
    row_digest: str | None
    files: tuple[ManifestFile, ...]
    columns: tuple[ManifestColumn, ...]
    version: int = VERSION


def format_manifest(manifest: OutputManifest) -> bytes:
    """The file's content."""
    body = msgspec.to_builtins(manifest) | {"version": manifest.version}
    return msgspec.json.format(msgspec.json.encode(body), indent=1) + b"\n"


def parse_manifest(body: bytes, place: str) -> OutputManifest:
    """:raises OutputError: it is not a manifest."""
    try:
        return msgspec.json.decode(body, type=OutputManifest)
    except msgspec.MsgspecError as error:
        raise OutputError(f"{place} is no manifest of a shuffle: {error}") from None
