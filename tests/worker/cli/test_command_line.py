"""Arguments, exit statuses and what goes where, by running the real command."""

import argparse
import json
import re
import shlex
import subprocess
import sys

import pytest

from shuffle_worker.cli.main import _EXAMPLES, build_parser, byte_count, run_options

WRONG = """\
apiVersion: shuffle-operator.dev/v1alpha1
kind: ShuffleJob
metadata: {name: by-order}
spec:
  source: {parquet: {paths: [data/*.parquet]}}
  shuffle: {type: hash, keys: [k], partitons: 4}
  sink: {parquet: {path: out/x}}
"""
RIGHT = WRONG.replace("hash", "Hash").replace("partitons", "partitions")


def example_lines():
    return [line.strip() for text in _EXAMPLES.values() for line in text.splitlines() if "shufflectl " in line]


@pytest.mark.parametrize("line", example_lines())
def test_every_example_of_the_help_parses(line):
    command = line[line.index("shufflectl") :].split(" > ")[0]
    words = shlex.split(command)
    assert build_parser().parse_args(words[1:]).command


@pytest.mark.parametrize("command", ["", "run", "plan", "validate", "version"])
def test_help_has_examples_and_says_what_the_exit_status_means(shufflectl, command):
    result = shufflectl(*filter(None, [command]), "--help")
    assert result.returncode == 0
    assert "examples:\n  shufflectl" in result.stdout
    assert "exit status: 0 done, 1 failed, 2 refused" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], ["pyarrow", "msgspec", "yaml", "rich"]),
        (["validate", "-f", "examples/lineitem-by-order.yaml"], ["pyarrow", "rich", "boto3", "starlette"]),
        (["run", "-f", "examples/lineitem-by-order.yaml", "--memory", "1Mi"], ["pyarrow", "boto3", "starlette"]),
    ],
)
def test_commands_import_only_what_they_need(root, arguments, unwanted):
    code = (
        "import sys; from shuffle_worker.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('IMPORTED', *sorted(sys.modules))"
    )
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=root, env={"PYTHONPATH": str(root)}, timeout=60
    )
    modules = result.stdout.partition("IMPORTED ")[2].split()
    assert modules
    assert not set(unwanted) & set(modules)


def test_version(shufflectl):
    result = shufflectl("version")
    assert re.fullmatch(r"shufflectl( \d+\.\d+\.\d+\S*|, from a source tree that was not installed)\n", result.stdout)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["run"], "the following arguments are required: -f/--filename"),
        (["rum"], "invalid choice: 'rum'"),
        (["run", "-f", "x", "--memory", "lots"], "expected a quantity such as 2Gi, 500M or 1048576, got 'lots'"),
        (["run", "-f", "x", "--memory", "0"], "expected more than nothing, got '0'"),
        (["run", "-f", "x", "--workers", "0"], "expected a number from 1 to 64, got '0'"),
        (["run", "-f", "x", "--workers", "two"], "expected a number from 1 to 64, got 'two'"),
        (["run", "-f", "x", "--output", "xml"], "invalid choice: 'xml'"),
    ],
)
def test_wrong_arguments_are_refused(shufflectl, arguments, sentence):
    result = shufflectl(*arguments)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(("text", "count"), [("2Gi", 2 << 30), ("500M", 500_000_000), ("1048576", 1 << 20)])
def test_quantities(text, count):
    assert byte_count(text) == count


def test_arguments_become_run_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["run", "-f", "job.yaml", "--workers", "3", "--memory", "1Gi", "--spill-dir", "a", "b", "--spill-dir", "/c"]
    options = run_options(build_parser().parse_args(words))
    assert (options.workers, options.memory_bytes) == (3, 1 << 30)
    assert list(map(str, options.spill_dirs)) == [f"{tmp_path}/a", f"{tmp_path}/b", "/c"]
    assert isinstance(build_parser(), argparse.ArgumentParser)


def test_every_example_manifest_is_valid(shufflectl, root):
    files = sorted(str(path.relative_to(root)) for path in root.glob("examples/*.yaml"))
    result = shufflectl("validate", "-f", *files)
    assert (result.returncode, result.stderr) == (0, "")
    assert "examples/lineitem-by-order.yaml: lineitem-by-order: Hash by l_orderkey into 64 partitions" in result.stdout
    assert len(result.stdout.splitlines()) == len(files) >= 4


def test_validate_tells_all_problems_of_all_files(shufflectl, tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(WRONG)
    result = shufflectl("validate", "-f", "examples/lineitem-by-order.yaml", str(wrong), "-f", "nowhere.yaml")
    assert result.returncode == 2
    assert result.stdout.splitlines()[1:] == [
        f'{wrong}: spec.shuffle.type: "hash" is not one of Hash, Range, Rebalance, Broadcast: did you mean Hash?',
        f"{wrong}: spec.shuffle.partitons: unknown field: did you mean partitions?",
        "nowhere.yaml: cannot be read (No such file or directory): check the path",
    ]
    assert result.stderr == "2 of 3 manifests refused\n"


def test_validate_reads_standard_input_and_writes_json(shufflectl):
    result = shufflectl("validate", "-f", "-", "-o", "json", stdin=WRONG)
    (verdict,) = json.loads(result.stdout)
    assert (verdict["file"], verdict["valid"], len(verdict["problems"])) == ("-", False, 2)
    assert verdict["problems"][1] == {
        "at": "spec.shuffle.partitons",
        "fault": "unknown field",
        "remedy": "did you mean partitions?",
    }
    assert shufflectl("validate", "-f", "-", stdin=RIGHT).stdout == "-: by-order: Hash by k into 4 partitions\n"


def test_run_refuses_a_wrong_manifest_in_three_lines_for_each_problem(shufflectl):
    result = shufflectl("run", "-f", "-", stdin=WRONG)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[3:] == [
        "error: unknown field",
        "   at: standard input: spec.shuffle.partitons",
        " help: did you mean partitions?",
    ]


def test_run_refuses_what_only_the_operator_does(shufflectl):
    result = shufflectl("run", "-f", "-", stdin=f"{RIGHT}  suspend: true\n  managedBy: example.com/other\n")
    assert result.returncode == 2
    assert [line for line in result.stderr.splitlines() if line.startswith("error")] == [
        "error: a suspended job does not run",
        'error: "example.com/other" runs this job, not we',
    ]


def test_run_refuses_too_little_memory_and_says_so_on_both_outputs(shufflectl):
    manifest = f"{RIGHT}  ttlSecondsAfterFinished: 5\n"
    result = shufflectl("run", "-f", "-", "--memory", "64Mi", "--output", "json", stdin=manifest)
    assert result.returncode == 2
    status = json.loads(result.stdout)
    assert status["phase"] == "Failed"
    assert status["message"].startswith("--memory 64.0Mi is too small for 2 workers")
    assert [(each["type"], each["reason"]) for each in status["conditions"]] == [("Failed", "Refused")]
    lines = result.stderr.splitlines()
    assert lines[0] == "note: spec.ttlSecondsAfterFinished is ignored: an embedded job leaves nothing to delete"
    assert [line[:7] for line in lines[1:]] == ["error: ", "   at: ", " help: "]
    assert lines[2] == "   at: by-order"


def test_a_traceback_comes_only_when_asked_for(shufflectl):
    arguments = ("run", "-f", "-", "--memory", "64Mi")
    assert "Traceback" not in shufflectl(*arguments, stdin=RIGHT).stderr
    assert "Traceback" in shufflectl(*arguments, stdin=RIGHT, SHUFFLE_DEBUG="1").stderr


def test_a_reader_that_leaves_is_no_fault(root):
    shell = f"PYTHONPATH={root} {sys.executable} -m shuffle_worker.cli.main validate -f " + "examples/*.yaml " * 200
    result = subprocess.run(f"{shell} | head -1", shell=True, capture_output=True, text=True, cwd=root, timeout=60)
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == ""
