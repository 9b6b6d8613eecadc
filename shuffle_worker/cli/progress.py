"""Progress of a running job on standard error: live on a terminal, a line now and then elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from shuffle_worker.cli.figures import format_rows, format_seconds
from shuffle_worker.quantity import format_bytes
from shuffle_worker.spec.status import JobStatus, Phase

if TYPE_CHECKING:
    from rich.console import RenderableType

LINE_EVERY_S = 5.0


class Progress(Protocol):
    """Shows statuses between enter and exit."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def show(self, status: JobStatus) -> None:
        """Called for each status heard of, several times a second."""


def make_progress(name: str, quiet: bool, stream: TextIO = sys.stderr) -> Progress:
    """What fits the stream."""
    if quiet:
        return NoProgress()
    return LiveProgress(name, stream) if stream.isatty() else LineProgress(name, stream)


def describe(status: JobStatus) -> str:
    """Where a job stands, in less than a line of a terminal."""
    tasks, partitions, stats = status.map_tasks, status.partitions, status.stats
    parts = [f"map {tasks.done}/{tasks.total}"] if tasks.total else []
    if partitions.sealed:
        parts.append(f"sealed {partitions.sealed}/{partitions.total}")
    if partitions.staged:
        parts.append(f"written {partitions.staged}/{partitions.total}")
    if stats.rows_in:
        parts.append(f"{format_rows(stats.rows_in)} rows")
    if stats.bytes_spilled:
        parts.append(f"{format_bytes(stats.bytes_spilled)} spilled")
    if stats.retries:
        parts.append(f"{stats.retries} retried")
    if stats.tasks_rerun:
        parts.append(f"{stats.tasks_rerun} run again")
    if status.epoch > 1:
        parts.append(f"coordinator {status.epoch}")
    return ", ".join(parts)


class NoProgress:
    """For --quiet."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, status: JobStatus) -> None:
        """Nothing."""


class LineProgress:
    """A line when the phase changes, and every few seconds while something moves."""

    def __init__(self, name: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._stream = stream
        self._clock = clock
        self._began_at = clock()
        self._wrote_at = -LINE_EVERY_S
        self._phase: Phase | None = None
        self._line = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, status: JobStatus) -> None:
        now = self._clock()
        line = f"{status.phase} {status.progress}"
        if details := describe(status):
            line = f"{line}: {details}"
        due = now - self._wrote_at >= LINE_EVERY_S and line != self._line
        if status.phase is self._phase and not due:
            return
        self._phase, self._wrote_at, self._line = status.phase, now, line
        print(f"{self._name} [{format_seconds(now - self._began_at)}] {line}", file=self._stream, flush=True)


class LiveProgress:
    """A bar with a line of details, redrawn in place and removed at the end."""

    def __init__(self, name: str, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}", style="bold"),
            TextColumn("{task.fields[phase]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
        )
        self._task = self._bar.add_task(name, total=100, phase="Starting")
        self._details = ""
        self._live = Live(console=Console(file=stream), get_renderable=self._render, transient=True)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, status: JobStatus) -> None:
        done = float(status.progress.rstrip("%") or 0)
        self._bar.update(self._task, completed=done, phase=str(status.phase))
        self._details = describe(status)

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        return Group(self._bar, Text(f"  {self._details}", style="dim", no_wrap=True, overflow="ellipsis"))
