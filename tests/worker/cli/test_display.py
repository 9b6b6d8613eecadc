"""What a job looks like while it runs and when it has ended."""

import io
import os
import re
import select

import msgspec
import pytest

from shuffle_worker.cli.exits import Exit
from shuffle_worker.cli.faults import error_lines, exit_of
from shuffle_worker.cli.figures import format_rows, format_seconds, histogram
from shuffle_worker.cli.plan import plan_lines
from shuffle_worker.cli.progress import LineProgress, LiveProgress, NoProgress, describe, make_progress
from shuffle_worker.cli.run import conclude
from shuffle_worker.cli.summary import summary_lines
from shuffle_worker.errors import AdmissionError, Cancelled, InternalError, PeerLost
from shuffle_worker.spec import load_manifest
from shuffle_worker.spec.status import (
    REFUSED,
    Condition,
    ConditionStatus,
    JobStatus,
    MapTasks,
    Partitions,
    Phase,
    Stats,
)
from shuffle_worker.supervisor.estimate import Estimate, Need

MANIFEST = """\
apiVersion: shuffle-operator.dev/v1alpha1
kind: ShuffleJob
metadata: {name: by-order}
spec:
  source: {parquet: {paths: [data/*.parquet]}}
  shuffle: {type: Hash, keys: [k], partitions: 8}
  sink: {parquet: {path: out/x}}
"""
RUNNING = JobStatus(
    phase=Phase.RUNNING,
    progress="42%",
    epoch=1,
    map_tasks=MapTasks(total=24, done=10, running=2),
    partitions=Partitions(total=8, sealed=3, staged=1),
    stats=Stats(rows_in=2_500_000, bytes_spilled=12 << 20),
)
COMPLETE = JobStatus(
    phase=Phase.COMPLETE,
    progress="100%",
    map_tasks=MapTasks(total=24, done=24),
    partitions=Partitions(total=8, sealed=8, staged=8),
    stats=Stats(
        rows_in=6_001_215,
        rows_out=6_001_215,
        seconds=3.214,
        rows_per_second=1_867_210.0,
        bytes_shuffled=850 << 20,
        bytes_wire=420 << 20,
        bytes_out=200 << 20,
        files_out=8,
        skew=1.034,
        partition_rows=(700, 0, 800, 10, 400, 400, 100, 790),
        key_digest="00112233445566ff",
        row_digest_in="aa",
        row_digest_out="aa",
    ),
)


def test_a_job_in_progress_fits_a_line():
    assert describe(RUNNING) == "map 10/24, sealed 3/8, written 1/8, 2.50 M rows, 12.0Mi spilled"
    assert describe(JobStatus()) == ""


def test_lines_come_at_a_change_of_phase_and_every_five_seconds():
    clock = iter([100.0, 100.0, 100.5, 101.0, 104.0, 105.5, 112.0, 113.0])
    stream = io.StringIO()
    with LineProgress("by-order", stream, lambda: next(clock)) as progress:
        progress.show(JobStatus(phase=Phase.PLANNING))
        progress.show(RUNNING)
        progress.show(JobStatus(phase=Phase.RUNNING, progress="43%"))
        progress.show(JobStatus(phase=Phase.RUNNING, progress="44%"))
        progress.show(JobStatus(phase=Phase.RUNNING, progress="45%"))
        progress.show(JobStatus(phase=Phase.RUNNING, progress="45%"))
        progress.show(COMPLETE)
    assert stream.getvalue().splitlines() == [
        "by-order [0.00 s] Planning 0%",
        "by-order [0.50 s] Running 42%: map 10/24, sealed 3/8, written 1/8, 2.50 M rows, 12.0Mi spilled",
        "by-order [5.50 s] Running 45%",
        "by-order [13.0 s] Complete 100%: map 24/24, sealed 8/8, written 8/8, 6.00 M rows",
    ]


def test_a_terminal_gets_a_bar_that_is_removed_at_the_end():
    ours, theirs = os.openpty()
    with open(theirs, "w", encoding="utf-8") as terminal:
        progress = make_progress("by-order", quiet=False, stream=terminal)
        assert isinstance(progress, LiveProgress)
        with progress:
            progress.show(RUNNING)
        drawn = b""
        while select.select([ours], [], [], 0.2)[0]:
            drawn += os.read(ours, 65_536)
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode())
    assert re.search(r"by-order Running [━╸╺ ]+ +42% 0:00:00", text)
    assert "  map 10/24, sealed 3/8, written 1/8, 2.50 M rows, 12.0Mi spilled" in text
    assert drawn.decode().endswith("\x1b[2K"), "the bar is erased"


def test_no_terminal_gets_lines_and_quiet_gets_nothing():
    assert isinstance(make_progress("x", quiet=False, stream=io.StringIO()), LineProgress)
    stream = io.StringIO()
    with make_progress("x", quiet=True, stream=stream) as progress:
        progress.show(RUNNING)
    assert isinstance(progress, NoProgress)
    assert stream.getvalue() == ""


def test_summary():
    assert list(summary_lines(load_manifest(MANIFEST), COMPLETE)) == [
        "by-order: Complete",
        "  output      out/x (8 files, 200Mi)",
        "  rows        6001215 in = 6001215 out",
        "  checksum    keys 00112233445566ff",
        "  shuffled    850Mi, 420Mi of it on the wire, 0 spilled",
        "  time        3.21 s, 1.87 Mrow/s",
        "  tasks       24, 0 run again for lost partitions, 0 retried",
        "  partitions  8, the largest 1.03x the mean",
        "              ▇ █▁▄▄▁█",
    ]


def test_summary_of_all_columns_checksums_and_of_copies():
    job = load_manifest(MANIFEST.replace("Hash, keys: [k]", "Broadcast") + "  verify: Rows\n")
    lines = list(summary_lines(job, COMPLETE))
    assert "  rows        6001215 in x 8 partitions != 6001215 out" in lines
    assert "  checksum    keys 00112233445566ff, rows aa in = aa out" in lines


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (COMPLETE, Exit.DONE, ""),
        (JobStatus(phase=Phase.FAILED, message="worker-1 is gone"), Exit.FAILED, "error: worker-1 is gone"),
        (
            JobStatus(
                phase=Phase.FAILED,
                message="no such column",
                conditions=(Condition("Failed", ConditionStatus.TRUE, REFUSED),),
            ),
            Exit.REFUSED,
            "error: no such column",
        ),
        (JobStatus(phase=Phase.CANCELLED, message="cancelled"), Exit.CANCELLED, "error: cancelled"),
    ],
)
def test_the_last_status_decides_the_exit_status(status, code, sentence, capsys):
    assert conclude(load_manifest(MANIFEST), status, "text") is code
    assert capsys.readouterr().err.splitlines()[:1] == ([sentence] if sentence else [])


@pytest.mark.parametrize(
    ("error", "code", "remedy"),
    [
        (AdmissionError("too large"), Exit.REFUSED, "nothing was written: mend it and run again"),
        (Cancelled("interrupted"), Exit.CANCELLED, "run it again when you like: nothing is left to clean up"),
        (
            PeerLost("gone"),
            Exit.FAILED,
            "nothing was published: run it again; SHUFFLE_DEBUG=1 shows where this was raised",
        ),
        (
            InternalError("broken"),
            Exit.FAILED,
            "this is a fault of shuffle-operator: please report it with what SHUFFLE_DEBUG=1 shows",
        ),
    ],
)
def test_errors_take_three_lines(error, code, remedy):
    assert error_lines(error, "by-order") == [f"error: {error}", "   at: by-order", f" help: {remedy}"]
    assert exit_of(error) is code


ESTIMATE = Estimate(
    files=4,
    splits=24,
    rows=6_001_215,
    bytes_in=200 << 20,
    bytes_decoded=850 << 20,
    workers=2,
    partitions=8,
    groups=8,
    staging=Need(8 << 20, 250 << 20),
    uncommitted=Need(100 << 20, 250 << 20),
    memory=Need(300 << 20, 1000 << 20),
    spill_disk=Need(850 << 20, 40 << 30),
    output_disk=Need(200 << 20, 40 << 30),
    open_files=Need(40, 1024),
)


def test_a_plan_that_fits():
    assert plan_lines(load_manifest(MANIFEST), ESTIMATE) == [
        "by-order: Hash by k into 8 partitions",
        "  input          4 files, 6.00 M rows, 200Mi, about 850Mi decoded",
        "  splits         24, over 2 workers",
        "  partitions     8",
        "  memory         300Mi of 1000Mi for each worker",
        "    staging      8.0Mi of 250Mi for each worker",
        "    uncommitted  100Mi of 250Mi for each worker",
        "  spill disk     850Mi of 40.0Gi free",
        "  output disk    200Mi of 40.0Gi free",
        "  open files     40 of 1024 for each worker",
        "fits",
    ]


def test_a_plan_that_does_not_fit_says_where_and_why():
    tight = msgspec.structs.replace(
        ESTIMATE, groups=4, output_disk=Need(200 << 20, 100 << 20), refusals=("the output disk is too small",)
    )
    lines = plan_lines(load_manifest(MANIFEST), tight)
    assert "  partitions     8 in 4 groups" in lines
    assert "  output disk    200Mi of 100Mi free  <- too little" in lines
    assert lines[-1] == "refused: the output disk is too small"
    assert not tight.fits


@pytest.mark.parametrize(
    ("rows", "text"), [(0, "0"), (9_999, "9999"), (10_000, "10.00 k"), (2_500_000, "2.50 M"), (6e9, "6.00 G")]
)
def test_rows(rows, text):
    assert format_rows(rows) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.214, "3.21 s"), (99.96, "100.0 s"), (125.2, "2 min 05 s"), (3_600 * 3, "3 h 00 min")]
)
def test_seconds(seconds, text):
    assert format_seconds(seconds) == text


def test_histogram():
    assert histogram([]) == ""
    assert histogram([0, 0]) == "  "
    assert histogram([1, 8, 4, 0]) == "▁█▄ "
    assert histogram([1, 10**9]) == "▁█"
