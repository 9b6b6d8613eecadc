"""What a machine asks of its shell, to be carried out in the order given. Plain values.

An effect whose docstring names events is answered by one of them, later and exactly once, unless the effect was
cancelled or the process ended. The others are done when the shell returns from them.
"""

from msgspec import Struct

from shuffle_worker.protocol.messages import AnyMessage
from shuffle_worker.protocol.values import Attempt, Placement, Plan


class Effect(Struct, frozen=True, gc=False):
    """Root of all effects."""


class Send(Effect, frozen=True):
    """Send to `message.target`, which may be this process itself. May be lost: the machine sends again."""

    message: AnyMessage


class Note(Effect, frozen=True):
    """Something an operator of the system wants to read in the log."""

    text: str


# ---- of a coordinator


class MakePlan(Effect, frozen=True):
    """Make the plan from the job's manifest for these members. PlanMade or PlanFailed."""

    members: tuple[int, ...]


class SaveManifest(Effect, frozen=True):
    """Write the manifest beside the staged files, under its digest, and wait until it is durable there.

    It is then as safe as the files it lists, whichever members are lost. ManifestSaved or SaveFailed.
    """

    digest: str
    manifest: bytes


class Publish(Effect, frozen=True):
    """Publish exactly the saved manifest of this digest. Published or PublishFailed.

    Done already, by whichever coordinator, is done. Several may be at it at once: what a zombie does with the same
    manifest must do no harm. `manifest` None: it was offered by another coordinator, and is read from where
    SaveManifest put it; if it is not there, look whether the output is there already.
    """

    digest: str
    manifest: bytes | None


class RemoveStaging(Effect, frozen=True):
    """Remove what any member staged for this job. Asked only after the supervisor's record makes it safe."""


# ---- of a participant


class AdoptPlan(Effect, frozen=True):
    """Open the shuffle, keep the plan, check shared storage, memory and disks. PlanStored or PlanRefused."""

    plan: Plan


class FenceStreams(Effect, frozen=True):
    """Refuse frames of attempts of older epochs, and discard every stream of theirs that is not in `keep`."""

    epoch: int
    keep: tuple[tuple[int, Attempt], ...]


class PlaceGroups(Effect, frozen=True):
    """This member owns these groups at this generation: take frames for them, write winners."""

    groups: tuple[int, ...]
    generation: int


class DropGroups(Effect, frozen=True):
    """Free what is held of these groups, end their writing. Files that GroupStaged reported stay."""

    groups: tuple[int, ...]


class StartMap(Effect, frozen=True):
    """Read the split, push the rows of groups whose generation in `placement` is one of these. MapPushed or MapBroke.

    Frames carry the group's generation; owners are those of `placement`.
    """

    map: int
    attempt: Attempt
    placement: Placement
    generations: frozenset[int]


class CancelMap(Effect, frozen=True):
    """End a map that was started; no event is expected any more (one that is under way is ignored)."""

    map: int
    attempt: Attempt


class ExpectStream(Effect, frozen=True):
    """Tell when that many frames of the stream are here. StreamReached or StreamBroken."""

    map: int
    attempt: Attempt
    frames: int


class WinStream(Effect, frozen=True):
    """Let the stream's frames go on to the sink. StreamWon or WinFailed."""

    map: int
    attempt: Attempt


class DiscardStream(Effect, frozen=True):
    """Free the stream's frames; refuse those still to come. Also for streams that are unknown here."""

    map: int
    attempt: Attempt


class SealGroups(Effect, frozen=True):
    """Nothing more will win in these groups: finish their files. For each group GroupStaged or GroupBroke."""

    groups: tuple[int, ...]
    generation: int


class ForgetShuffle(Effect, frozen=True):
    """Free all groups and streams, but keep the shuffle open, and every file that GroupStaged reported."""


class CloseShuffle(Effect, frozen=True):
    """The job is over: free everything, remove this incarnation's staged files. Published ones are links or copies."""
