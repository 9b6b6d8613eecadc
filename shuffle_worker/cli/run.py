"""`shufflectl run`: an embedded job, its progress on standard error and its result on standard output."""

from shuffle_worker.cli.exits import Exit
from shuffle_worker.cli.faults import exit_of, report
from shuffle_worker.cli.manifest import read_embedded_job
from shuffle_worker.cli.output import print_json
from shuffle_worker.cli.progress import make_progress
from shuffle_worker.cli.summary import summary_lines
from shuffle_worker.errors import Cancelled, ShuffleError, UserError
from shuffle_worker.spec.model import ShuffleJob
from shuffle_worker.spec.status import REFUSED, Condition, ConditionStatus, JobStatus, Phase
from shuffle_worker.supervisor.options import RunOptions


def run(filename: str, options: RunOptions, output: str, quiet: bool) -> Exit:
    name = filename
    try:
        job = read_embedded_job(filename)
        name = job.metadata.name
        status = _run_shown(job, options, quiet)
    except ShuffleError as error:
        if output == "json":
            print_json(_status_of(error))
        return report(error, name)
    return conclude(job, status, output)


def conclude(job: ShuffleJob, status: JobStatus, output: str) -> Exit:
    """Show the last status of a job; the exit status it stands for."""
    if output == "json":
        print_json(status)
    elif status.phase is Phase.COMPLETE:
        print("\n".join(summary_lines(job, status)))
    return Exit.DONE if status.phase is Phase.COMPLETE else report(_error_of(status), job.metadata.name)


def _run_shown(job: ShuffleJob, options: RunOptions, quiet: bool) -> JobStatus:
    from shuffle_worker.supervisor.run import run_job

    with make_progress(job.metadata.name, quiet) as progress:
        return run_job(job, options, progress.show)


def _status_of(error: ShuffleError) -> JobStatus:
    """The status of a job that ended in an error before anybody could write one."""
    code = exit_of(error)
    reason = {Exit.REFUSED: REFUSED, Exit.CANCELLED: "Cancelled"}.get(code, type(error).__name__)
    return JobStatus(
        phase=Phase.CANCELLED if code is Exit.CANCELLED else Phase.FAILED,
        message=str(error),
        conditions=(Condition("Failed", ConditionStatus.TRUE, reason, str(error)),),
    )


def _error_of(status: JobStatus) -> ShuffleError:
    """The error that a worker put into words."""
    if status.phase is Phase.CANCELLED:
        return Cancelled(status.message)
    return UserError(status.message) if status.refused else ShuffleError(status.message)
