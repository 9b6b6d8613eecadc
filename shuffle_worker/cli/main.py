"""`shufflectl`: arguments, and which command they ask for.

Commands import what they need when they run: `--help` and `validate` start without Arrow.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from shuffle_worker.cli.exits import Exit
from shuffle_worker.quantity import format_bytes, parse_bytes
from shuffle_worker.supervisor.options import DEFAULT_MEMORY_BYTES, DEFAULT_WORKERS, RunOptions

MAX_WORKERS = 64


_EXIT_HELP = "exit status: 0 done, 1 failed, 2 refused (nothing was written), 130 cancelled by Ctrl-C"
_EXAMPLES = {
    "run": """\
examples:
  shufflectl run -f examples/lineitem-by-order.yaml
  shufflectl run -f examples/lineitem-by-order.yaml --workers 2 --memory 2Gi
  shufflectl run -f job.yaml --memory 512Mi --spill-dir /disk1/spill /disk2/spill
  shufflectl run -f job.yaml --quiet --output json > status.json
""",
    "plan": """\
examples:
  shufflectl plan -f examples/lineitem-by-order.yaml
  shufflectl plan -f job.yaml --workers 4 --memory 512Mi --output json
""",
    "validate": """\
examples:
  shufflectl validate -f examples/lineitem-by-order.yaml
  shufflectl validate -f job.yaml other-job.yaml --output json
  kubectl get shufflejob lineitem-by-order -o yaml | shufflectl validate -f -
""",
    "version": """\
examples:
  shufflectl version
""",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status."""
    options = build_parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        print("cancelled", file=sys.stderr)
        return Exit.CANCELLED
    except BrokenPipeError:
        # The reader of our output has gone, as with `| head`: that is no failure to shout about.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shufflectl",
        description="Shuffle Arrow and Parquet files by key, range, evenly or by broadcast: exactly once, in bounded "
        "memory.",
        epilog=f"{_EXAMPLES['run']}\n{_EXIT_HELP}\nSHUFFLE_DEBUG=1 shows where an error was raised.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    run = _command(commands, "run", "run a ShuffleJob on this machine", _run)
    _add_manifest(run)
    _add_resources(run)
    run.add_argument("--quiet", action="store_true", help="show no progress")

    plan = _command(commands, "plan", "show what a run would do and need, and write nothing", _plan)
    _add_manifest(plan)
    _add_resources(plan)

    validate = _command(commands, "validate", "say everything that is wrong with manifests", _validate)
    validate.add_argument(
        "-f", "--filename", metavar="FILE", nargs="+", action="extend", required=True, help=_FILE_HELP
    )
    _add_output(validate)

    _command(commands, "version", "print the version", _version)
    return parser


_FILE_HELP = "a ShuffleJob manifest, YAML or JSON; - is standard input"
_Commands = argparse._SubParsersAction  # its only name


def _command(
    commands: "_Commands[argparse.ArgumentParser]", name: str, summary: str, run: object
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"{_EXAMPLES[name]}\n{_EXIT_HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=run)
    return command


def _add_manifest(command: argparse.ArgumentParser) -> None:
    command.add_argument("-f", "--filename", metavar="JOB.yaml", required=True, help=_FILE_HELP)


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="of the result, on standard output"
    )


def _add_resources(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--workers", metavar="N", type=worker_count, default=DEFAULT_WORKERS, help="worker processes (%(default)s)"
    )
    command.add_argument(
        "--memory",
        metavar="SIZE",
        type=byte_count,
        default=DEFAULT_MEMORY_BYTES,
        help=f"of all processes together, such as 2Gi or 500M ({format_bytes(DEFAULT_MEMORY_BYTES)})",
    )
    command.add_argument(
        "--spill-dir",
        metavar="DIR",
        nargs="+",
        action="extend",
        default=[],
        help="where to put what does not fit into memory; several disks are used in turn (a temporary folder)",
    )
    _add_output(command)


def worker_count(text: str) -> int:
    """The type of `--workers`."""
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {MAX_WORKERS}, got {text!r}")
    return int(text)


def byte_count(text: str) -> int:
    """The type of `--memory`."""
    try:
        count = parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if count <= 0:
        raise argparse.ArgumentTypeError(f"expected more than nothing, got {text!r}")
    return count


def run_options(options: argparse.Namespace) -> RunOptions:
    """The resources that the arguments of `run` and `plan` name."""
    return RunOptions(options.workers, options.memory, tuple(Path(each).absolute() for each in options.spill_dir))


def _run(options: argparse.Namespace) -> int:
    from shuffle_worker.cli.run import run

    return run(options.filename, run_options(options), options.output, options.quiet)


def _plan(options: argparse.Namespace) -> int:
    from shuffle_worker.cli.plan import plan

    return plan(options.filename, run_options(options), options.output)


def _validate(options: argparse.Namespace) -> int:
    from shuffle_worker.cli.validate import validate

    return validate(options.filename, options.output)


def _version(_: argparse.Namespace) -> int:
    from importlib.metadata import PackageNotFoundError, version

    try:
        print(f"shufflectl {version('shuffle-operator')}")
    except PackageNotFoundError:
        print("shufflectl, from a source tree that was not installed")
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(main())
