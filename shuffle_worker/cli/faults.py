"""How errors look on the terminal: fault, place, remedy, three lines each. Pure but for `report`."""

import os
import sys
import traceback
from collections.abc import Iterator

from shuffle_worker.cli.exits import Exit
from shuffle_worker.errors import Cancelled, InternalError, ShuffleError, UserError
from shuffle_worker.spec.problems import ManifestError


def report(error: ShuffleError, job: str) -> Exit:
    """Say on standard error what happened to `job`, and the exit status it stands for."""
    if os.environ.get("SHUFFLE_DEBUG") == "1":
        traceback.print_exception(error)
    print("\n".join(error_lines(error, job)), file=sys.stderr)
    return exit_of(error)


def exit_of(error: ShuffleError) -> Exit:
    if isinstance(error, UserError):
        return Exit.REFUSED
    return Exit.CANCELLED if isinstance(error, Cancelled) else Exit.FAILED


def error_lines(error: ShuffleError, job: str) -> list[str]:
    """Three lines for each fault."""
    if isinstance(error, ManifestError):
        return [
            line
            for problem in error.problems
            for line in _three(problem.fault, ": ".join(filter(None, (error.source, problem.at))), problem.remedy)
        ]
    return list(_three(str(error), job, _remedy(error)))


def _remedy(error: ShuffleError) -> str:
    if isinstance(error, Cancelled):
        return "run it again when you like: nothing is left to clean up"
    if isinstance(error, UserError):
        return "nothing was written: mend it and run again"
    if isinstance(error, InternalError):
        return "this is a fault of shuffle-operator: please report it with what SHUFFLE_DEBUG=1 shows"
    return "nothing was published: run it again; SHUFFLE_DEBUG=1 shows where this was raised"


def _three(fault: str, place: str, remedy: str) -> Iterator[str]:
    yield f"error: {fault}"
    yield f"   at: {place}"
    yield f" help: {remedy}"
