"""What the kernel says that this process holds: anonymous and shared pages, which a memory limit counts."""

from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident_bytes() -> int:
    """RssAnon + RssShmem. File pages are left out: the kernel drops them when memory is short."""
    total = 0
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(("RssAnon:", "RssShmem:")):
            total += int(line.split()[1]) << 10
    return total
