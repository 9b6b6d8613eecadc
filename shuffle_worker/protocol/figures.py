"""What a coordinator's status says of its members, and in figures of its job. Pure; reads, changes nothing."""

from shuffle_worker.protocol.census import Census, Standing
from shuffle_worker.protocol.order import MemberView
from shuffle_worker.protocol.values import MASK64, add_row_digests
from shuffle_worker.protocol.working import Working


def view_members(now: float, census: Census, working: Working | None) -> tuple[MemberView, ...]:
    """Every member this epoch has known, the lost ones too."""
    return tuple(_view_member(now, census, working, member) for member in census)


def _view_member(now: float, census: Census, working: Working | None, member: int) -> MemberView:
    running = groups = 0
    if working is not None:
        running = sum(live.member == member for live in working.maps.live.values())
        groups = working.placement.owners.count(member)
    standing = census.standing(member)
    if standing is Standing.LOST:
        state = "lost"
    elif standing is Standing.JOINING:
        state = "joining"
    elif census.suspect(now, member):
        state = "suspect"
    else:
        state = "slow" if running and census.slow(now, member) else "live"
    return MemberView(census.name(member), member, state, running, groups, census.cause(member))


def figures_of(working: Working) -> dict[str, object]:
    """Fields of Status: sums over the table of winners and the staged groups. O(maps + groups)."""
    splits = [split for split in working.maps.splits if split is not None]
    staged = [each for each in working.staged if each is not None]
    return {
        "maps": working.maps.maps,
        "maps_done": working.maps.done(),
        "maps_running": working.maps.running(),
        "groups": len(working.staged),
        "groups_sealed": working.sealed_groups(),
        "groups_staged": len(staged),
        "rows_in": sum(split.rows for split in splits),
        "bytes_in": sum(split.memory_bytes for split in splits),
        "rows_sent": sum(rows for rows, _ in working.maps.sent),
        "bytes_sent": sum(payload_bytes for _, payload_bytes in working.maps.sent),
        "rows_running": sum(live.rows for live in working.maps.live.values()),
        "rows_out": sum(each.rows for each in staged),
        "bytes_out": sum(each.file_bytes for each in staged),
        "key_digest": sum(each.key_digest for each in staged) & MASK64,
        "row_digest_in": add_row_digests([split.row_digest for split in splits]),
        "row_digest_out": add_row_digests([each.row_digest for each in staged if each.rows]),
        "tasks_rerun": working.tasks_rerun,
        "attempts_failed": working.attempts_failed,
        "retries": working.retries,
    }
