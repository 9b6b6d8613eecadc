"""What a path of a manifest names: a local file or an S3 object, perhaps by a pattern. Lexical only; no I/O."""

import os.path
import re
from fnmatch import fnmatchcase
from pathlib import Path

S3 = "s3"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://?")
_PATTERN = re.compile(r"[*?\[]")


def scheme_of(path: str) -> str:
    """The URI scheme in lower case; empty for a local path."""
    match = _SCHEME.match(path)
    return match[1].lower() if match else ""


def is_pattern(path: str) -> bool:
    return _PATTERN.search(path) is not None


def absolute(path: str) -> str:
    """The path in the one form in which two can be compared: `s3://bucket/a/b`, `/a/b`."""
    if scheme_of(path) == S3:
        return f"s3://{'/'.join(part for part in path[5:].split('/') if part)}"
    return os.path.abspath(path)


def within(path: str, folder: str) -> bool:
    """Whether the path is the folder or lies in it; both `absolute`."""
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def fixed_part(pattern: str) -> str:
    """The folder of a pattern that holds no wildcard, the whole path if none does; of `absolute` form."""
    kept: list[str] = []
    for part in absolute(pattern).split("/"):
        if is_pattern(part):
            break
        kept.append(part)
    return "/".join(kept) or "/"


def reads(pattern: str, path: str) -> bool:
    """Whether an input pattern takes in the path, or a folder above it. A pattern without wildcards that names a
    folder takes in all that lies in it."""
    wanted, parts = absolute(pattern).split("/"), absolute(path).split("/")
    return _covers(wanted, parts)


def _covers(wanted: list[str], parts: list[str]) -> bool:
    """Whether the pattern's parts match all parts or the first few. Keeps the set of places in the path that the
    pattern may have reached, so that many `**` cost no more than one."""
    reached = {0}
    for want in wanted:
        if want == "**":
            reached = set(range(min(reached), len(parts) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(parts) and fnmatchcase(parts[at], want)}
        if not reached:
            return False
    return True


def staging_folder(output: str, uid: bytes) -> Path:
    """Where a job stages what will be the local output `output`: beside it, on the same file system."""
    final = Path(os.path.abspath(output))
    return final.parent / f".{final.name}.staging" / uid.hex()
