"""Runs the micro benchmarks: every module `benchmarks/micro_*.py`, each as a program of its own.

What they have in common: they print for people, take `--json FILE` for the figures as a JSON object, and end with 0.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.data import ROOT

TIMEOUT_S = 600


def micro_names() -> list[str]:
    """All there are, in order."""
    return sorted(file.stem for file in Path(__file__).parent.glob("micro_*.py"))


def run_micro(name: str) -> dict[str, Any]:
    """Run one to its end, printing what it prints; the record of it."""
    with TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(figures)]
        print(f"\n{name}", flush=True)
        try:
            status = subprocess.run(command, cwd=ROOT, timeout=TIMEOUT_S, check=False).returncode
        except subprocess.TimeoutExpired:
            print(f"{name}: not done after {TIMEOUT_S} s")
            return {"name": name, "outcome": "timed out"}
        outcome = "done" if status == 0 else f"failed with {status}"
        return {
            "name": name,
            "outcome": outcome,
            "figures": json.loads(figures.read_text()) if figures.exists() else None,
        }
