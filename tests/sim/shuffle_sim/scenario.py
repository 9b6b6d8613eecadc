"""What one seed means: the size of the job, the quality of the network, and which faults strike when. Pure data."""

import random
from dataclasses import dataclass, field

from shuffle_worker.protocol.values import Limits, Timers

TIMERS = Timers(
    retry_s=0.5,
    suspect_s=1.5,
    dead_s=4.0,
    slow_s=3.0,
    stuck_s=20.0,
    answer_s=8.0,
    backoff_s=0.2,
    ping_s=5.0,
    orphan_s=90.0,
    wind_down_s=3.0,
)
FAULTS_END_S = 30.0
LIVENESS_S = 240.0
"""Virtual seconds after the last fault within which every job must have ended."""


@dataclass(frozen=True)
class Strike:
    """A fault at a moment. `kind`: crash, restart, pause, block, appoint, join, cancel, change."""

    at: float
    kind: str
    target: int = 0
    other: int = 0
    duration: float = 0.0


@dataclass(frozen=True)
class Scenario:
    seed: int
    members: int
    maps: int
    groups: int
    rows: tuple[int, ...]
    limits: Limits
    rows_known: bool
    durable: bool
    loss: float
    duplicate: float
    delay: tuple[float, float]
    late: float
    """The part of messages that are delayed by up to `late_by` seconds."""
    late_by: float
    data_loss: float
    map_failure: float
    seal_failure: float
    slowness: float
    """How many times longer than usual maps and writing take: more faults then strike in the middle."""
    silent_loss: float
    """The part of groups whose store loses a row without knowing."""
    encode: bool
    """Messages go through their encoding."""
    strikes: tuple[Strike, ...] = field(default=())

    @property
    def quiet(self) -> bool:
        return not self.strikes


def scenario(seed: int) -> Scenario:
    """The same seed always means the same scenario."""
    rng = random.Random(seed * 2_654_435_761 + 12_345)
    members = rng.choice((2, 2, 3, 3, 3, 4))
    maps = rng.randint(2, 6)
    rough = rng.random() < 0.5
    failing = rng.random() < 0.2
    return Scenario(
        seed=seed,
        members=members,
        maps=maps,
        groups=rng.randint(1, 6),
        rows=tuple(rng.choice((0, 1, 3, 5, 8)) for _ in range(maps)),
        limits=Limits(backoff_limit=1000, slots=rng.choice((1, 2)), speculate=rng.random() < 0.3),
        rows_known=rng.random() < 0.5,
        durable=rng.random() < 0.7,
        loss=rng.choice((0.02, 0.1, 0.25)) if rough else 0.0,
        duplicate=rng.choice((0.0, 0.1, 0.3)) if rough else 0.0,
        delay=(0.001, rng.choice((0.01, 0.05, 0.3))),
        late=rng.choice((0.0, 0.05, 0.2)) if rough else 0.0,
        late_by=rng.choice((1.0, 5.0, 12.0)),
        data_loss=rng.choice((0.0, 0.0, 0.02, 0.05)) if rough else 0.0,
        map_failure=0.15 if failing else 0.0,
        seal_failure=0.15 if failing and rng.random() < 0.5 else 0.0,
        slowness=rng.choice((1.0, 1.0, 4.0, 10.0)),
        silent_loss=0.1 if rng.random() < 0.03 else 0.0,
        encode=seed % 16 == 0,
        strikes=tuple(sorted(_strikes(rng, members, maps), key=lambda strike: strike.at)),
    )


def _strikes(rng: random.Random, members: int, maps: int) -> list[Strike]:
    """Mostly soon after the start, when most is under way; of every kind."""
    found: list[Strike] = []
    for _ in range(rng.choice((0, 1, 1, 2, 3, 5))):
        at = min(FAULTS_END_S, rng.expovariate(1 / rng.choice((0.4, 2.0, 6.0))))
        target, other = rng.randrange(members), rng.randrange(members)
        kind = rng.choice(
            ("crash", "crash", "crash", "pause", "pause", "block", "oneway", "appoint", "appoint", "double")
        )
        duration = rng.choice((0.5, 2.0, 5.0, 10.0))
        found.append(Strike(at, kind, target, other, duration))
        if kind == "crash" and rng.random() < 0.6:
            found.append(Strike(at + rng.choice((0.05, 1.0, 6.0)), "restart", target))
    if rng.random() < 0.03:
        found.append(Strike(rng.uniform(0, 2), "cancel"))
    if rng.random() < 0.05:
        found.append(Strike(rng.uniform(0, 1), "change", rng.randrange(maps)))
    if rng.random() < 0.1:
        found.append(Strike(rng.uniform(0, 3), "grow"))
    return found
