"""Removes what dead processes of the same cluster left in the spill directories.

It touches `<root>/<its own cluster uid>/<16 hex digits>/` only, only when it gets that directory's lock, and in it
only segment files: a directory with anything else in it stays, and the report says so.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from shuffle_worker.store.directories import (
    INCARNATION_NAME,
    SEGMENT_NAME,
    check_cluster_uid,
    remove_if_empty,
    remove_segments,
    still_named,
    try_lock,
)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Swept:
    """What one sweep did."""

    removed: list[str] = field(default_factory=list)
    alive: list[str] = field(default_factory=list)
    """Locked by a process that lives."""
    left: dict[str, str] = field(default_factory=dict)
    """Not removed, and why."""
    freed_bytes: int = 0


def sweep(roots: Sequence[str | os.PathLike[str]], cluster_uid: str) -> Swept:
    """Look at every incarnation under every root once. Call it at start, and from time to time."""
    report = Swept()
    check_cluster_uid(cluster_uid)
    for root in roots:
        cluster = os.path.join(os.path.abspath(os.fspath(root)), cluster_uid)
        for name in _entries(cluster, report):
            _sweep_incarnation(os.path.join(cluster, name), name, report)
    if report.removed:
        log.info("removed spill of %d dead processes: %d bytes", len(report.removed), report.freed_bytes)
    for path, reason in report.left.items():
        log.warning("left %s: %s", path, reason)
    return report


def _entries(cluster: str, report: Swept) -> list[str]:
    try:
        descriptor = os.open(cluster, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    except OSError as error:
        report.left[cluster] = error.strerror or str(error)
        return []
    try:
        return sorted(os.listdir(descriptor))
    finally:
        os.close(descriptor)


def _sweep_incarnation(path: str, name: str, report: Swept) -> None:
    if not INCARNATION_NAME.fullmatch(name):
        report.left[path] = "not the name of an incarnation"
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        report.left[path] = error.strerror or str(error)
        return
    try:
        if not try_lock(descriptor):
            report.alive.append(path)
        elif still_named(path, descriptor):
            _remove(path, descriptor, report)
    except OSError as error:
        report.left[path] = error.strerror or str(error)
    finally:
        os.close(descriptor)


def _remove(path: str, descriptor: int, report: Swept) -> None:
    """The lock is held. All or nothing: a directory with something foreign in it keeps its segments too."""
    foreign = [name for name in os.listdir(descriptor) if not SEGMENT_NAME.fullmatch(name)]
    if foreign:
        report.left[path] = f"holds {sorted(foreign)[0]}, which is not a segment file"
        return
    report.freed_bytes += remove_segments(descriptor)
    if remove_if_empty(path):
        report.removed.append(path)
    else:
        report.left[path] = "something was written into it meanwhile"
