"""What a job would do and need on this machine, and whether it fits: the result of `shufflectl plan`. Pure data.

Admission fills it, from the manifest, the input's metadata and what the machine has; nothing is read but metadata.
"""

import msgspec


class Need(msgspec.Struct, frozen=True, rename="camel"):
    """An amount that a job needs, against the amount there is."""

    need: int
    have: int

    @property
    def fits(self) -> bool:
        return self.need <= self.have


class Estimate(msgspec.Struct, frozen=True, rename="camel"):
    """Bytes and counts; those of memory and open files are of one worker, those of disks of all together.

    `refusals`: why the job would be refused, each a sentence with its figures; none when it fits.
    """

    files: int
    splits: int
    rows: int
    bytes_in: int
    bytes_decoded: int
    workers: int
    partitions: int
    groups: int
    staging: Need
    uncommitted: Need
    memory: Need
    spill_disk: Need
    output_disk: Need
    open_files: Need
    refusals: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return not self.refusals
