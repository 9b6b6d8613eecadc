"""What `shufflectl` ends with."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses; 130 is what shells expect of a process that Ctrl-C ended."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    CANCELLED = 130
