"""What a store tells about itself, as plain values. No behaviour."""

from typing import Literal, NamedTuple

from shuffle_worker._native.frame import Frame


class Notice(NamedTuple):
    """Something the control loop waits for. The stream's fields are empty for disk_full."""

    kind: Literal["complete", "broken", "disk_full"]
    shuffle: bytes
    map: int
    epoch: int
    attempt: int
    detail: str


class Counts(NamedTuple):
    """What has arrived of one stream. `crc_sum` and `value_sum` are sums mod 2^64 over its frames."""

    state: Literal["open", "broken", "won"]
    frames: int
    rows: int
    bytes: int
    crc_sum: int
    value_sum: int
    expected: int | None


class Ready(NamedTuple):
    """What of a group has won and was not taken."""

    group: int
    rows: int
    bytes: int
    sealed: bool


class Taken(NamedTuple):
    """Frames handed to the sink. `last`: the group is sealed and nothing is left of it."""

    group: int
    frames: list[Frame]
    last: bool
