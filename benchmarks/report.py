"""A comparison as a table for people and as JSON for the record."""

import statistics
from dataclasses import asdict

from benchmarks.compare import Comparison, Trial
from benchmarks.outputs import Output

_COLUMNS = (
    ("system", 26),
    ("seconds", 9),
    ("start-up", 9),
    ("ratio", 7),
    ("of rounds", 13),
    ("CPU s", 8),
    ("peak MB", 9),
    ("out MB", 8),
    ("rows/group", 11),
    ("rounds", 7),
)


def table(comparison: Comparison) -> str:
    """Lines of fixed width."""
    heading = "".join(f"{name:<{width}}" if not place else f"{name:>{width}}" for place, (name, width) in _numbered())
    reference = next(each.system.label for each in comparison.trials if each.system.name == comparison.reference)
    lines = [
        f"{comparison.case.title}: {comparison.rows:,} rows; ratio is to {reference}",
        heading,
        *(_line(comparison, trial) for trial in comparison.trials),
    ]
    return "\n".join(lines)


def record(comparison: Comparison) -> dict[str, object]:
    """Everything measured."""
    case = comparison.case
    return {
        "case": {**asdict(case), "title": case.title, "shortTitle": case.short_title},
        "rows": comparison.rows,
        "reference": comparison.reference,
        "systems": [_record(comparison, trial) for trial in comparison.trials],
    }


def _numbered() -> list[tuple[int, tuple[str, int]]]:
    return list(enumerate(_COLUMNS))


def _line(comparison: Comparison, trial: Trial) -> str:
    label = f"{trial.system.label:<{_COLUMNS[0][1]}}"
    if not trial.done:
        spent = f" after {trial.runs[-1].wall_s:.0f} s" if trial.runs else " with ten rows"
        return f"{label}{trial.outcome.upper()}{spent}"
    ratios = comparison.ratios(trial)
    output = trial.output
    cells = (
        f"{statistics.median(trial.net_s):.2f}",
        f"{trial.empty_s:.2f}",
        f"{statistics.median(ratios):.2f}x" if ratios else "",
        f"{min(ratios):.2f}-{max(ratios):.2f}" if ratios else "",
        f"{trial.cpu_s:.1f}",
        f"{trial.peak_bytes / 1e6:,.0f}",
        "" if output is None else f"{output.bytes / 1e6:,.0f}",
        "" if output is None else f"{output.rows_per_group:,.0f}",
        str(len(trial.runs)),
    )
    return label + "".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, _COLUMNS[1:], strict=True))


def _record(comparison: Comparison, trial: Trial) -> dict[str, object]:
    ratios = comparison.ratios(trial)
    return {
        "name": trial.system.name,
        "label": trial.system.label,
        "settings": trial.system.settings,
        "command": trial.command,
        "outcome": trial.outcome,
        "netSeconds": trial.net_s if trial.done else None,
        "ratios": ratios or None,
        "medianRatio": statistics.median(ratios) if ratios else None,
        "output": None if trial.output is None else _output(trial.output),
        "runs": [run.figures() for run in trial.runs],
        "empties": [empty.figures() for empty in trial.empties],
    }


def _output(output: Output) -> dict[str, object]:
    return {**asdict(output), "rowsPerGroup": output.rows_per_group}
