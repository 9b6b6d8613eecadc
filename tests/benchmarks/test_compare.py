"""How runs become seconds and ratios."""

import pytest

from benchmarks.cases import GIB, Case, make_cases, reference_of, select_systems
from benchmarks.compare import Comparison, Trial
from benchmarks.measure import Measurement, MemoryKind, Outcome
from benchmarks.report import record, table
from benchmarks.systems import SYSTEMS

CASE = Case("main", 1.0, ("l_orderkey",))


def measured(wall_s: float, outcome: Outcome = Outcome.DONE) -> Measurement:
    return Measurement(outcome, wall_s, 2 * wall_s, 10**9, MemoryKind.CGROUP, None, 0, 0, "", "")


def trial(name: str, empties: list[float], runs: list[Measurement]) -> Trial:
    return Trial(SYSTEMS[name], empties=[measured(wall_s) for wall_s in empties], runs=runs)


def compared(*trials: Trial) -> Comparison:
    return Comparison(CASE, 100, "polars", list(trials))


def test_ratios_are_of_the_same_round_less_the_median_start_up() -> None:
    polars = trial("polars", [1.0, 1.0, 3.0], [measured(3.0), measured(5.0), measured(4.0)])
    ours = trial("ours", [2.0, 2.5, 2.0], [measured(4.0), measured(4.0), measured(5.0)])
    assert compared(polars, ours).ratios(ours) == pytest.approx([1.0, 0.5, 1.0])


def test_a_system_with_fewer_rounds_is_compared_with_the_first_ones() -> None:
    polars = trial("polars", [1.0], [measured(3.0), measured(5.0)])
    dask = trial("dask", [5.0], [measured(25.0)])
    assert compared(polars, dask).ratios(dask) == pytest.approx([10.0])


@pytest.mark.parametrize("bad", [Outcome.KILLED, Outcome.WRONG, Outcome.TIMED_OUT, Outcome.FAILED])
def test_no_figures_for_what_did_not_end_well(bad: Outcome) -> None:
    polars = trial("polars", [1.0], [measured(3.0)])
    other = trial("duckdb", [1.0], [measured(2.0, bad)])
    comparison = compared(polars, other)
    assert comparison.ratios(other) == []
    assert bad.upper() in table(comparison)
    assert compared(trial("polars", [1.0], [measured(3.0, bad)]), polars).ratios(polars) == []


def test_the_record_holds_each_run() -> None:
    systems = record(compared(trial("polars", [1.0], [measured(3.0), measured(4.0)])))["systems"]
    assert isinstance(systems, list)
    assert systems[0]["netSeconds"] == [2.0, 3.0]
    assert [run["wall_s"] for run in systems[0]["runs"]] == [3.0, 4.0]


def test_cases_and_references() -> None:
    every = make_cases(["main", "shuffle", "keys"], [1.0, 10.0], None)
    assert [case.title for case in every] == [
        "lineitem SF1 by l_orderkey to 64 Parquet files",
        "lineitem SF10 by l_orderkey to 64 Parquet files",
        "lineitem SF10 by l_orderkey to 64 Parquet files in 2 GiB",
        "lineitem SF1 by l_orderkey counted",
        "lineitem SF1 by l_comment to 64 Parquet files",
        "lineitem SF1 by l_partkey, l_suppkey to 64 Parquet files",
    ]
    assert [case.memory_bytes for case in make_cases(["main"], [1.0], GIB)] == [GIB]
    systems = select_systems(None)
    assert [reference_of(case, systems) for case in every[:3]] == ["polars", "polars", "polars-16k"]
    assert reference_of(every[0], select_systems(["duckdb", "ours"])) == "ours"


def test_unknown_systems_are_named() -> None:
    with pytest.raises(ValueError, match=r"no system spark: there are ours, .*pyspark"):
        select_systems(["spark", "polars"])
