"""`shufflectl validate`: one line for each problem, as compilers write them."""

import json
import sys
from collections.abc import Sequence

from shuffle_worker.cli.exits import Exit
from shuffle_worker.cli.manifest import read_job
from shuffle_worker.spec.model import ShuffleJob
from shuffle_worker.spec.problems import ManifestError


def validate(filenames: Sequence[str], output: str) -> Exit:
    results = [_check(filename) for filename in filenames]
    if output == "json":
        print(json.dumps([_as_json(name, outcome) for name, outcome in zip(filenames, results, strict=True)], indent=2))
    else:
        for name, outcome in zip(filenames, results, strict=True):
            print("\n".join(_as_lines(name, outcome)))
    wrong = sum(isinstance(outcome, ManifestError) for outcome in results)
    if wrong:
        print(f"{wrong} of {len(filenames)} manifests refused", file=sys.stderr)
    return Exit.REFUSED if wrong else Exit.DONE


def describe_job(job: ShuffleJob) -> str:
    """What a job does, in one line."""
    shuffle = job.spec.shuffle
    keys = ", ".join(key.name for key in shuffle.key_columns)
    by = f" by {keys}" if keys else ""
    plural = "" if shuffle.partitions == 1 else "s"
    return f"{shuffle.type}{by} into {shuffle.partitions} partition{plural}"


def _check(filename: str) -> ShuffleJob | ManifestError:
    try:
        return read_job(filename)
    except ManifestError as error:
        return error


def _as_lines(filename: str, outcome: ShuffleJob | ManifestError) -> list[str]:
    if isinstance(outcome, ManifestError):
        return [f"{outcome.source}: {problem}" for problem in outcome.problems]
    return [f"{filename}: {outcome.metadata.name}: {describe_job(outcome)}"]


def _as_json(filename: str, outcome: ShuffleJob | ManifestError) -> dict[str, object]:
    problems = outcome.problems if isinstance(outcome, ManifestError) else ()
    return {
        "file": filename,
        "valid": not problems,
        "problems": [{"at": each.at, "fault": each.fault, "remedy": each.remedy} for each in problems],
    }
