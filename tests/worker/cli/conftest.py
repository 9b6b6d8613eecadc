"""`shufflectl` as a user runs it: a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
Shufflectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def root() -> Path:
    return ROOT


@pytest.fixture
def shufflectl() -> Shufflectl:
    def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "shuffle_worker.cli.main", *arguments]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **environment}
        return subprocess.run(command, input=stdin, capture_output=True, text=True, env=env, cwd=ROOT, timeout=60)

    return run
