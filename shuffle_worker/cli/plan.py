"""`shufflectl plan`: a dry run. What a run would do and need, with figures, and whether it would be refused."""

import msgspec

from shuffle_worker.cli.exits import Exit
from shuffle_worker.cli.faults import report
from shuffle_worker.cli.figures import format_rows
from shuffle_worker.cli.manifest import read_embedded_job
from shuffle_worker.cli.output import print_json
from shuffle_worker.cli.validate import describe_job
from shuffle_worker.errors import ShuffleError
from shuffle_worker.quantity import format_bytes
from shuffle_worker.spec.model import ShuffleJob
from shuffle_worker.supervisor.estimate import Estimate, Need
from shuffle_worker.supervisor.options import RunOptions


def plan(filename: str, options: RunOptions, output: str) -> Exit:
    name = filename
    try:
        job = read_embedded_job(filename)
        name = job.metadata.name
        estimate = _estimate(job, options)
    except ShuffleError as error:
        return report(error, name)
    if output == "json":
        print_json({**msgspec.to_builtins(estimate), "fits": estimate.fits})
    else:
        print("\n".join(plan_lines(job, estimate)))
    return Exit.DONE if estimate.fits else Exit.REFUSED


def plan_lines(job: ShuffleJob, estimate: Estimate) -> list[str]:
    """What would be done, what it takes, and the verdict."""
    grouped = f" in {estimate.groups} groups" if estimate.groups < estimate.partitions else ""
    facts = {
        "input": f"{estimate.files} files, {format_rows(estimate.rows)} rows, {format_bytes(estimate.bytes_in)}, "
        f"about {format_bytes(estimate.bytes_decoded)} decoded",
        "splits": f"{estimate.splits}, over {estimate.workers} workers",
        "partitions": f"{estimate.partitions}{grouped}",
        "memory": _bytes(estimate.memory, "for each worker"),
        "  staging": _bytes(estimate.staging, "for each worker"),
        "  uncommitted": _bytes(estimate.uncommitted, "for each worker"),
        "spill disk": _bytes(estimate.spill_disk, "free"),
        "output disk": _bytes(estimate.output_disk, "free"),
        "open files": f"{estimate.open_files.need} of {estimate.open_files.have} for each worker"
        f"{_mark(estimate.open_files)}",
    }
    lines = [f"{job.metadata.name}: {describe_job(job)}"]
    lines += [f"  {label:<14} {fact}" for label, fact in facts.items()]
    return [*lines, *([f"refused: {reason}" for reason in estimate.refusals] or ["fits"])]


def _bytes(amount: Need, of_what: str) -> str:
    return f"{format_bytes(amount.need)} of {format_bytes(amount.have)} {of_what}{_mark(amount)}"


def _mark(amount: Need) -> str:
    return "" if amount.fits else "  <- too little"


def _estimate(job: ShuffleJob, options: RunOptions) -> Estimate:
    from shuffle_worker.supervisor.admission import estimate_job

    estimate: Estimate = estimate_job(job, options)
    return estimate
