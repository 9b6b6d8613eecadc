"""What is compared: which jobs, at which scale, within which memory. Pure."""

from dataclasses import dataclass

from benchmarks.systems import OURS, SYSTEMS, System

ORDER_KEY = ("l_orderkey",)
OTHER_KEYS = (("l_comment",), ("l_partkey", "l_suppkey"))
MIB = 1 << 20
GIB = 1 << 30
KINDS = ("main", "shuffle", "keys")


@dataclass(frozen=True)
class Case:
    """One job for all systems."""

    kind: str
    scale: float
    keys: tuple[str, ...]
    memory_bytes: int | None = None

    @property
    def delivers(self) -> bool:
        """Rows go to consumers that count them, not to files."""
        return self.kind == "shuffle"

    @property
    def title(self) -> str:
        what = "counted" if self.delivers else "to 64 Parquet files"
        return f"lineitem SF{self.scale:g} by {', '.join(self.keys)} {what}{self._within}"

    @property
    def short_title(self) -> str:
        return f"SF{self.scale:g}{self._within}"

    @property
    def _within(self) -> str:
        if self.memory_bytes is None:
            return ""
        whole = self.memory_bytes % GIB == 0
        return f" in {self.memory_bytes // GIB} GiB" if whole else f" in {self.memory_bytes / MIB:.0f} MiB"

    def takes(self, system: System) -> bool:
        """Whether a system has such a job."""
        return system.delivers or not self.delivers


def make_cases(kinds: list[str], scales: list[float], memory_bytes: int | None) -> list[Case]:
    """The cases asked for. With a memory limit, those within it; without, SF10 is also run in 2 GiB."""
    cases = []
    if "main" in kinds:
        cases += [Case("main", scale, ORDER_KEY, memory_bytes) for scale in scales]
        if memory_bytes is None:
            cases += [Case("main", scale, ORDER_KEY, 2 * GIB) for scale in scales if scale >= 10]
    smallest = min(scales)
    if "shuffle" in kinds:
        cases.append(Case("shuffle", smallest, ORDER_KEY, memory_bytes))
    if "keys" in kinds:
        cases += [Case("keys", smallest, keys, memory_bytes) for keys in OTHER_KEYS]
    return cases


def reference_of(case: Case, systems: list[System]) -> str:
    """The system that the others are compared with: the fastest rival that is expected to finish."""
    small = case.memory_bytes is not None and case.scale >= 10
    wanted = ("polars-16k", "polars") if small else ("polars", "polars-16k")
    names = [system.name for system in systems]
    return next((name for name in wanted if name in names), OURS if OURS in names else names[0])


def select_systems(names: list[str] | None) -> list[System]:
    """Systems by name, in the order of the list; None is all.

    :raises ValueError: naming those that are not known
    """
    if names is None:
        return list(SYSTEMS.values())
    if unknown := [name for name in names if name not in SYSTEMS]:
        raise ValueError(f"no system {', '.join(unknown)}: there are {', '.join(SYSTEMS)}")
    return [SYSTEMS[name] for name in names]
