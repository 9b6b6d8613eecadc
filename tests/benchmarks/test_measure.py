"""What the benchmark measures: a program with all its descendants, and nothing left of it."""

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.cgroup import CgroupUnavailable, make_group
from benchmarks.measure import Measurement, MemoryKind, Outcome, Program, measure

MIB = 1 << 20


def run(code: str, limit_bytes: int | None = None, timeout_s: float = 30.0) -> Measurement:
    return measure(Program([sys.executable, "-S", "-c", code], {"ANSWER": "42"}, limit_bytes, timeout_s))


@pytest.fixture
def memory_cgroup() -> None:
    try:
        with make_group(f"shuffle-benchmark-test-{os.getpid()}", 64 * MIB):
            pass
    except CgroupUnavailable as error:
        pytest.skip(str(error))


def test_takes_time_output_and_environment() -> None:
    measured = run("import os, time; time.sleep(0.3); print(os.environ['ANSWER'])")
    assert measured.outcome is Outcome.DONE
    assert 0.3 <= measured.wall_s < 10
    assert measured.stdout == "42\n"


HOLDS_THEN_BURNS = """
import time
held = bytearray(b"x" * (100 << 20))
print(flush=True)
end = time.process_time() + 0.5
while time.process_time() < end:
    pass
"""
LEAVES_IT_BEHIND = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", {HOLDS_THEN_BURNS!r}], stdout=subprocess.PIPE)
child.stdout.readline()
time.sleep(0.3)
"""


def test_counts_cpu_and_memory_of_a_child_that_outlives_the_program() -> None:
    measured = run(LEAVES_IT_BEHIND)
    assert measured.outcome is Outcome.DONE
    assert measured.cpu_s >= 0.5
    assert measured.peak_bytes > 100 * MIB


def test_a_failure_keeps_what_was_said() -> None:
    measured = run("raise SystemExit('no such file')")
    assert measured.outcome is Outcome.FAILED
    assert measured.exit_status == 1
    assert "no such file" in str(measured.figures()["stderr"])


def test_ends_all_of_a_program_at_its_time_out(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    started_at = time.monotonic()
    measured = run(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])", timeout_s=2.0)
    assert measured.outcome is Outcome.TIMED_OUT
    assert time.monotonic() - started_at < 20
    assert not Path(f"/proc/{pid_file.read_text()}").exists()


@pytest.mark.usefixtures("memory_cgroup")
def test_says_that_the_kernel_killed_it() -> None:
    measured = run("held = bytearray(b'x' * (256 << 20))", limit_bytes=64 * MIB)
    assert measured.outcome is Outcome.KILLED
    assert measured.oom_kills == 1
    assert measured.peak_kind is MemoryKind.CGROUP
    assert measured.peak_usage_bytes is not None
    assert measured.peak_usage_bytes <= 64 * MIB


@pytest.mark.usefixtures("memory_cgroup")
def test_a_part_that_was_killed_is_no_success() -> None:
    code = (
        "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'bytearray(b\"x\" * (256 << 20))']))"
    )
    assert run(code, limit_bytes=64 * MIB).outcome is Outcome.KILLED
