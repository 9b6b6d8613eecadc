"""Runs one case on all systems, in interleaved rounds: A B C, A B C, ...

Before each run the input is read once, the last run's output is gone, and nothing waits to be written to disk. Each
run is paired with one of the same program on ten rows, "empty": start-up, which is taken off. The first round's
output is checked by another engine; a system whose output is wrong, or that does not end well, has no figures.
"""

import json
import os
import shutil
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.cases import Case, reference_of
from benchmarks.data import DATA, count_rows, few_rows, lineitem, warm
from benchmarks.measure import Measurement, Outcome, Program, measure
from benchmarks.outputs import Output, describe, fault_of
from benchmarks.systems import ENVIRONMENT, Job, System

SLOW_RATIO = 5.0
"""A system that needs this many times the reference in the first round is measured once: more would say no more."""

Say = Callable[[str], None]


@dataclass
class Trial:
    """All runs of one system in one case."""

    system: System
    command: list[str] = field(default_factory=list)
    empties: list[Measurement] = field(default_factory=list)
    runs: list[Measurement] = field(default_factory=list)
    output: Output | None = None

    @property
    def outcome(self) -> Outcome:
        return self.runs[-1].outcome if self.runs else self.empties[-1].outcome

    @property
    def done(self) -> bool:
        return self.outcome is Outcome.DONE

    @property
    def empty_s(self) -> float:
        return statistics.median(empty.wall_s for empty in self.empties)

    @property
    def net_s(self) -> list[float]:
        """Wall seconds of each run without start-up."""
        return [run.wall_s - self.empty_s for run in self.runs]

    @property
    def cpu_s(self) -> float:
        """CPU seconds without start-up, median."""
        return statistics.median(run.cpu_s for run in self.runs) - statistics.median(e.cpu_s for e in self.empties)

    @property
    def peak_bytes(self) -> int:
        return max(run.peak_bytes for run in self.runs)


@dataclass(frozen=True)
class Comparison:
    case: Case
    rows: int
    reference: str
    trials: list[Trial]

    def ratios(self, trial: Trial) -> list[float]:
        """Each run's time over the reference's of the same round.

        None if either did not end well, or if the job is so small that start-up is all that there is.
        """
        reference = next(each for each in self.trials if each.system.name == self.reference)
        if not (trial.done and reference.done) or min(reference.net_s) <= 0:
            return []
        return [mine / theirs for mine, theirs in zip(trial.net_s, reference.net_s, strict=False)]


@dataclass(frozen=True)
class Limits:
    rounds: int
    timeout_s: float


def compare(case: Case, systems: list[System], limits: Limits, say: Say) -> Comparison:
    """Measure one case; takes minutes to hours, and says what it does."""
    source, taking = lineitem(case.scale), [system for system in systems if case.takes(system)]
    comparison = Comparison(case, count_rows(source), reference_of(case, taking), [Trial(each) for each in taking])
    for number in range(limits.rounds):
        for trial in comparison.trials:
            if number == 0 or (trial.done and not _is_slow(comparison, trial)):
                _one_round(trial, comparison, source, limits.timeout_s)
                say(f"{case.title}, round {number + 1}, {trial.system.label}: {_last(trial)}")
    return comparison


def _one_round(trial: Trial, comparison: Comparison, source: Path, timeout_s: float) -> None:
    """The empty job, then the real one."""
    with _workspace(comparison.case, few_rows()) as job:
        trial.empties.append(_run(trial.system, job, timeout_s))
    if trial.empties[-1].outcome is not Outcome.DONE:
        return
    with _workspace(comparison.case, source) as job:
        measured = _run(trial.system, job, timeout_s)
        if measured.outcome is Outcome.DONE and not trial.runs:
            fault = _fault(job, measured, comparison.rows)
            if fault is not None:
                measured = replace(measured, outcome=Outcome.WRONG, stderr=fault)
            elif job.output is not None:
                trial.output = describe(job.output)
        trial.runs.append(measured)
        trial.command = _public(trial.system.arguments(job), job)


def _run(system: System, job: Job, timeout_s: float) -> Measurement:
    warm(job.source)
    os.sync()
    return measure(Program(system.arguments(job), ENVIRONMENT, job.memory_bytes, timeout_s))


def _fault(job: Job, measured: Measurement, rows: int) -> str | None:
    if job.output is not None:
        return fault_of(job.source, job.output, job.keys)
    counted = json.loads(measured.stdout.splitlines()[-1])["rows"]
    return None if counted == rows else f"{counted:,} rows were counted, of {rows:,}"


@contextmanager
def _workspace(case: Case, source: Path) -> Iterator[Job]:
    """A job with folders of its own on the disk that holds the data, gone afterwards."""
    DATA.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="bench-run-", dir=DATA) as home:
        scratch = Path(home) / "scratch"
        scratch.mkdir()
        output = None if case.delivers else Path(home) / "out"
        yield Job(source, output, scratch, case.keys, case.memory_bytes)
        shutil.rmtree(scratch)


def _is_slow(comparison: Comparison, trial: Trial) -> bool:
    ratios = comparison.ratios(trial)
    return bool(ratios) and ratios[0] > SLOW_RATIO


def _public(command: list[str], job: Job) -> list[str]:
    """The command without this machine's folders."""
    home = str(job.scratch.parent)
    short = [Path(command[0]).name, *command[1:]]
    return [word.replace(home, "RUN").replace(f"{DATA.parent}/", "") for word in short]


def _last(trial: Trial) -> str:
    if not trial.runs:
        return f"the empty job {trial.outcome}"
    return (
        f"{trial.runs[-1].outcome}, {trial.runs[-1].wall_s:.2f} s, of which start-up {trial.empties[-1].wall_s:.2f} s"
    )
