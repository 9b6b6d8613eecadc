"""What a result must be read with: the machine and the versions. Names neither host nor folders."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.systems import System

BUSY_LOAD = 0.5


def machine() -> dict[str, object]:
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memoryBytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "loadBefore": os.getloadavg()[0],
    }


def versions(systems: list[System]) -> dict[str, str]:
    """Of every package that a system names."""
    found = {}
    for package in sorted({package for system in systems for package in system.packages}):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def busy_warning() -> str | None:
    """A sentence if other programs use the machine now."""
    load = os.getloadavg()[0]
    if load <= BUSY_LOAD:
        return None
    return f"the machine is busy (load {load:.1f}): times will be too long, and ratios unsteady"


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
