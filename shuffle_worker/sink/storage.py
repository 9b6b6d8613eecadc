"""Where output is staged and how it is published, whatever the storage. See `local` and `s3`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from shuffle_worker.sink.base import FileRecord, Output

SUCCESS = "_SUCCESS"
MANIFEST = "_manifest.json"


class Storage(ABC):
    """The output of one job (`uid`), as one member (`incarnation`) stages it and as a coordinator publishes it."""

    @abstractmethod
    def check_free(self, replace: bool) -> None:
        """:raises OutputError: there is an output already, or it cannot be replaced here."""

    @abstractmethod
    def leave_nonce(self, nonce: str) -> None:
        """Put a nonce where all members must see it. :raises OutputError: the place cannot be written."""

    @abstractmethod
    def read_nonce(self) -> str:
        """The nonce that this member sees; empty when it sees none."""

    @abstractmethod
    def open_output(self, partition: int, generation: int) -> Output:
        """A new staged file. :raises OutputError:"""

    @abstractmethod
    def publish(self, records: Sequence[FileRecord], manifest: dict[str, Any], replace: bool) -> None:
        """Make exactly these files the output, under their final names, in one step; done already is done.

        `manifest["digest"]` tells one output from another. :raises OutputError: another output is there.
        """

    @abstractmethod
    def remove_own(self) -> None:
        """Remove what this incarnation staged."""

    @abstractmethod
    def remove_all(self) -> None:
        """Remove what any incarnation staged for this job. Only when nobody stages any more."""


def part_name(partition: int, suffix: str) -> str:
    return f"part-{partition:05d}{suffix}"
