"""`python -m benchmarks`: measures, prints tables, and writes JSON to benchmarks/results/."""

import argparse
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.cases import KINDS, Case, make_cases, select_systems
from benchmarks.cgroup import CgroupUnavailable
from benchmarks.compare import Limits, compare
from benchmarks.machine import busy_warning, machine, versions
from benchmarks.micro import micro_names, run_micro
from benchmarks.picture import draw
from benchmarks.report import record, table
from benchmarks.systems import SYSTEMS, System
from shuffle_worker.quantity import parse_bytes

RESULTS = Path(__file__).parent / "results"
EXAMPLES = """\
examples:
  python -m benchmarks                                      all of it: hours
  python -m benchmarks --only main --scale 1                the main job, SF1: a quarter of an hour
  python -m benchmarks --only main --scale 10 --memory 2Gi  SF10 in a 2 GiB memory cgroup (as root)
  python -m benchmarks --only main --scale 1 --systems ours,polars --rounds 5
  python -m benchmarks --only micro
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=(*KINDS, "micro"), nargs="+", default=[*KINDS, "micro"])
    parser.add_argument("--scale", type=float, nargs="+", default=[1.0, 10.0], help="TPC-H scale factors (1 10)")
    parser.add_argument("--systems", type=lambda text: text.split(","), help=f"among {','.join(SYSTEMS)}")
    parser.add_argument("--memory", type=parse_bytes, help="limit of all processes of a system, such as 2Gi (as root)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=900, metavar="SECONDS", help="of one run (%(default)s)")
    return parser


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    try:
        systems = select_systems(options.systems)
    except ValueError as error:
        parser.error(str(error))
    if (warning := busy_warning()) is not None:
        _say(f"note: {warning}")

    cases = make_cases(options.only, options.scale, options.memory)
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(systems),
        "arguments": sys.argv[1:],
        "cases": [],
        "micro": [],
    }
    path = RESULTS / f"{result['date']}-{_name(options.only, cases)}.json"
    try:
        for case in cases:
            result["cases"].append(_run_case(case, systems, Limits(options.rounds, options.timeout)))
            _save(result, path)
    except CgroupUnavailable as error:
        _say(f"error: {error}")
        return 1
    if "micro" in options.only:
        result["micro"] = [run_micro(name) for name in micro_names()]
        _save(result, path)
    if options == parser.parse_args([]):
        # The README's picture shows all, or nothing new.
        draw(result["cases"])
    _say(f"wrote {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return 0


def _run_case(case: Case, systems: list[System], limits: Limits) -> dict[str, Any]:
    comparison = compare(case, systems, limits, _say)
    print(f"\n{table(comparison)}\n", flush=True)
    return record(comparison)


def _name(kinds: list[str], cases: list[Case]) -> str:
    """What was measured, in a file's name."""
    if len(kinds) > 1 or not cases:
        return "all" if len(kinds) > 1 else kinds[0]
    return "-".join(dict.fromkeys([kinds[0], *(case.short_title.replace(" ", "-").lower() for case in cases)]))


def _save(result: dict[str, Any], path: Path) -> None:
    """After each case: an interrupted run leaves what it has."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
