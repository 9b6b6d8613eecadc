"""Runs the micro benchmarks: every module `benchmarks/micro_*.py`, each as a program of its own.

Such a module prints what it measured for people; if its last line is a JSON object, that goes into the record.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.data import ROOT

TIMEOUT_S = 600


def micro_names() -> list[str]:
    """All there are, in order."""
    return sorted(file.stem for file in Path(__file__).parent.glob("micro_*.py"))


def run_micro(name: str) -> dict[str, Any]:
    """Run one to its end, printing as it prints; the record of it."""
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    try:
        ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        print(f"{name}: not done after {TIMEOUT_S} s")
        return {"name": name, "outcome": "timed out"}
    print(f"{name}\n{ran.stdout}", flush=True)
    lines = ran.stdout.splitlines()
    outcome = "done" if ran.returncode == 0 else f"failed with {ran.returncode}"
    return {"name": name, "outcome": outcome, "figures": _object(lines[-1]) if lines else None, "lines": lines}


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
