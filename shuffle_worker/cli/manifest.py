"""Reads the manifests that arguments name: a file, or standard input for `-`."""

import sys
from pathlib import Path

from shuffle_worker.spec.loader import load_manifest
from shuffle_worker.spec.model import ShuffleJob
from shuffle_worker.spec.problems import ManifestError
from shuffle_worker.spec.rules import embedded_notes, embedded_problems

STDIN = "-"


def read_job(filename: str) -> ShuffleJob:
    """:raises ManifestError: with everything that is wrong."""
    if filename == STDIN:
        return load_manifest(sys.stdin.read(), "standard input")
    return load_manifest(Path(filename))


def read_embedded_job(filename: str) -> ShuffleJob:
    """The job, if it can run without a cluster; what then means nothing is said on standard error.

    :raises ManifestError: it is wrong, or asks for what only the operator does.
    """
    job = read_job(filename)
    problems = list(embedded_problems(job.spec))
    if problems:
        raise ManifestError(filename, problems)
    for note in embedded_notes(job.spec):
        print(f"note: {note}", file=sys.stderr)
    return job
