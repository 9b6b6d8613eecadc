"""Schedules of the simulator, and the mutations it must notice.

`SHUFFLE_SIM_FIRST` and `SHUFFLE_SIM_COUNT` choose the seeds (0 and 10,000). A broken seed is played again, with a
trace, by `python tests/sim/run.py --trace SEED`.
"""

import os

import pytest
from shuffle_sim.checks import Broken
from shuffle_sim.mutations import MUTATIONS, applied
from shuffle_sim.scenario import scenario
from shuffle_sim.world import World, run

from shuffle_worker.protocol.order import Phase

FIRST = int(os.environ.get("SHUFFLE_SIM_FIRST", "0"))
COUNT = int(os.environ.get("SHUFFLE_SIM_COUNT", "10000"))
PART = 1000
MOST_SEEDS_FOR_A_MUTATION = 3000


@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT, PART))
def test_promises_hold_in_every_schedule(first: int) -> None:
    ends: dict[Phase, int] = {}
    reruns = handovers = 0
    for seed in range(first, min(first + PART, FIRST + COUNT)):
        try:
            status, _ = run(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed} (python tests/sim/run.py --trace {seed}): {error}") from error
        ends[status.phase] = ends.get(status.phase, 0) + 1
        reruns += status.tasks_rerun > 0
        handovers += status.epoch > 1
    played = min(PART, COUNT)
    assert ends[Phase.COMPLETE] > 0.9 * played
    # The schedules are worth playing: losses in the middle, and coordinators replaced.
    assert reruns > 0.03 * played
    assert handovers > 0.3 * played


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_missing_fence_is_noticed(mutation: str) -> None:
    with applied(mutation):
        for seed in range(MOST_SEEDS_FOR_A_MUTATION):
            try:
                run(seed)
            except (Broken, AssertionError):
                return
    pytest.fail(f"{MOST_SEEDS_FOR_A_MUTATION} schedules did not notice the mutation {mutation}")


def test_a_seed_replays_exactly() -> None:
    first, second = World(scenario(11), tracing=True), World(scenario(11), tracing=True)
    first.run()
    second.run()
    assert first.lines == second.lines
    assert len(first.lines) > 100


def test_a_quiet_job_reruns_nothing() -> None:
    seeds = [seed for seed in range(400) if (chosen := scenario(seed)).quiet and chosen.map_failure == 0][:20]
    for seed in seeds:
        if scenario(seed).loss == 0:
            status, _ = run(seed)
            assert (status.phase, status.epoch, status.tasks_rerun, status.attempts_failed) == (Phase.COMPLETE, 1, 0, 0)
