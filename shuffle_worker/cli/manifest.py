"""Reads the manifests that arguments name: a file, or standard input for `-`."""

import sys
from pathlib import Path

from shuffle_worker.spec.loader import load_manifest
from shuffle_worker.spec.model import ShuffleJob

STDIN = "-"


def read_job(filename: str) -> ShuffleJob:
    """:raises ManifestError: with everything that is wrong."""
    if filename == STDIN:
        return load_manifest(sys.stdin.read(), "standard input")
    return load_manifest(Path(filename))
