"""Play schedules: `python tests/sim/run.py FIRST [COUNT]`; one seed alone (`--trace SEED`) prints what happened."""

import sys
import time
import traceback
from collections import Counter

from shuffle_sim.world import run


def trace(seed: int) -> int:
    try:
        status, world = run(seed, tracing=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, its trace is what was asked for
        print("\n".join(error.world.lines))  # type: ignore[attr-defined]
        traceback.print_exc()
        return 1
    print("\n".join(world.lines))
    print(status)
    return 0


def play(first: int, count: int) -> int:
    ends: Counter[str] = Counter()
    failed: list[tuple[int, str]] = []
    steps = reruns = handovers = 0
    began = time.perf_counter()
    for seed in range(first, first + count):
        try:
            status, world = run(seed)
        except Exception as error:  # noqa: BLE001 - every kind of failure is counted, and its seed shown
            failed.append((seed, f"{type(error).__name__}: {error}"))
            continue
        ends[status.phase.value] += 1
        steps += world.steps
        reruns += status.tasks_rerun > 0
        handovers += status.epoch > 1
    seconds = time.perf_counter() - began
    print(
        f"{count} schedules in {seconds:.1f} s ({count / seconds:.0f}/s, {steps / count:.0f} steps each): {dict(ends)}"
    )
    print(f"with maps run again for lost groups: {reruns}; with a hand-over: {handovers}; broken: {len(failed)}")
    for seed, why in failed[:20]:
        print(f"  seed {seed}: {why[:300]}")
    return 1 if failed else 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["--trace"]:
        sys.exit(trace(int(arguments[1])))
    sys.exit(play(int(arguments[0]) if arguments else 0, int(arguments[1]) if len(arguments) > 1 else 1000))
