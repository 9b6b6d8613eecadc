"""Which member gets which group. Pure functions: balanced, and sticky (a group moves only when it must)."""

from collections.abc import Iterable, Sequence

from shuffle_worker.protocol.values import NOBODY, Placement, Split, Staged


def spread(groups: Sequence[int], members: Sequence[int], load: dict[int, int]) -> dict[int, int]:
    """An owner for each group: always the member with the least groups, the earlier in `members` among equals.

    `load`: groups that members hold already. O(groups x members).
    """
    counts = {member: load.get(member, 0) for member in members}
    owners: dict[int, int] = {}
    for group in groups:
        owner = min(members, key=counts.__getitem__)
        counts[owner] += 1
        owners[group] = owner
    return owners


def first_placement(version: int, plan: bytes, groups: int, members: Sequence[int]) -> Placement:
    """All groups, in contiguous runs: neighbours have one owner."""
    owners = tuple(members[group * len(members) // groups] for group in range(groups))
    return Placement(version, plan, owners, (version,) * groups)


def moved(
    placement: Placement,
    version: int,
    groups: Iterable[int],
    members: Sequence[int],
    kept: Sequence[Staged] = (),
) -> Placement:
    """The next table: `groups` go to `members` at generation `version`; groups of `kept` are nobody's from now on."""
    owners, generations = list(placement.owners), list(placement.generations)
    for staged in kept:
        owners[staged.group] = NOBODY
    moving = sorted(groups)
    for group in moving:
        owners[group] = NOBODY
    load: dict[int, int] = {}
    for owner in owners:
        load[owner] = load.get(owner, 0) + 1
    for group, owner in spread(moving, members, load).items():
        owners[group] = owner
        generations[group] = version
    survivors = [staged for staged in placement.kept if owners[staged.group] == NOBODY]
    return Placement(
        version=version,
        plan=placement.plan,
        owners=tuple(owners),
        generations=tuple(generations),
        kept=tuple(sorted([*survivors, *kept], key=lambda staged: staged.group)),
        splits=placement.splits,
        tasks_rerun=placement.tasks_rerun,
    )


def with_figures(placement: Placement, splits: Sequence[Split | None], tasks_rerun: int) -> Placement:
    """The same table carrying what the coordinator alone would know otherwise. `splits` only where something is kept:
    then every map has won, so none is None."""
    carried = tuple(split for split in splits if split is not None) if placement.kept else ()
    return Placement(
        placement.version,
        placement.plan,
        placement.owners,
        placement.generations,
        placement.kept,
        carried if len(carried) == len(splits) else (),
        tasks_rerun,
    )
