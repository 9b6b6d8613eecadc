"""A coordinator's last phase: offer the manifest, publish what the supervisor recorded, tell members the end. Pure.

    all staged -> sums agree -> the manifest is saved beside the files -> PREPARED, until the supervisor's word
               -> commit recorded -> Publish -> Published -> members released -> COMPLETE

From PREPARED on nothing but the supervisor's record decides: this coordinator neither fails nor publishes by itself,
since the record may have been written already. A later coordinator that is given a record publishes the same bytes:
the manifest does not live in members, of whom any may be out of reach, but where the files are.
"""

from shuffle_worker.protocol.context import Context
from shuffle_worker.protocol.effects import Note, Publish, RemoveStaging, SaveManifest
from shuffle_worker.protocol.messages import End
from shuffle_worker.protocol.order import Phase
from shuffle_worker.protocol.values import (
    MASK64,
    CommitRecord,
    EndKind,
    Fault,
    Outcome,
    Plan,
    Split,
    Staged,
    add_row_digests,
    encode_manifest,
    manifest_digest,
)

MOST_BACKOFF_DOUBLINGS = 6


class Offer:
    """Manifest to commit. `phase` is RUNNING while the manifest is being saved."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.phase = Phase.RUNNING
        self.digest = ""
        self.manifest: bytes | None = None
        """What was offered here; None when a record of another coordinator is carried out."""
        self._failures = 0
        self._again_at: float | None = None

    # ---- the first time

    def offer(self, plan: Plan, splits: list[Split | None], staged: list[Staged | None]) -> None:
        """All groups are staged: check the sums, save the manifest."""
        complete = tuple(each for each in staged if each is not None)
        if not _sums_agree(self._context, plan, splits, complete):
            return
        self.manifest = encode_manifest(complete)
        self.digest = manifest_digest(self.manifest)
        self._act()

    def on_saved(self, digest: str) -> None:
        if self.phase is Phase.RUNNING and digest == self.digest:
            self.phase = Phase.PREPARED

    def commit(self, record: CommitRecord) -> None:
        """The supervisor's word, when it is about what was offered."""
        if self.phase is not Phase.PREPARED:
            return
        if record.digest != self.digest or record.epoch != self._context.order.epoch:
            refused = f"refused a commit of {record.digest} at epoch {record.epoch}: not what is offered"
            self._context.voice.do(Note(refused))
            return
        self.resume(record)

    # ---- with a record

    def resume(self, record: CommitRecord) -> None:
        """A record exists: publish what it says, as often as it takes."""
        self.phase = Phase.PUBLISHING
        self.digest = record.digest
        self._failures = 0
        self._act()

    def on_published(self, digest: str) -> None:
        if self.phase is Phase.PUBLISHING and digest == self.digest and self._context.outcome is None:
            self._context.outcome = (Outcome.COMPLETE, None)

    # ---- both

    def on_failed(self, digest: str, fault: Fault) -> None:
        """Saving or publishing did not work."""
        context = self._context
        if self.phase is Phase.PREPARED or digest != self.digest:
            return
        what = "published" if self.phase is Phase.PUBLISHING else "prepared"
        self._failures += 1
        if not fault.retryable or self._failures > context.order.limits.backoff_limit:
            context.fail(fault.kind, f"the output could not be {what}: {fault.sentence}")
            return
        context.voice.do(Note(f"the output could not be {what}, and it is tried again: {fault.sentence}"))
        doublings = min(self._failures - 1, MOST_BACKOFF_DOUBLINGS)
        self._again_at = context.voice.now + context.order.timers.backoff_s * (1 << doublings)

    def tick(self) -> None:
        if self._again_at is not None and self._context.voice.now >= self._again_at:
            self._again_at = None
            self._act()

    def _act(self) -> None:
        if self.phase is Phase.PUBLISHING:
            self._context.voice.do(Publish(self.digest, self.manifest))
        elif self.manifest is not None:
            self._context.voice.do(SaveManifest(self.digest, self.manifest))


class Farewell:
    """Members are told the outcome; it is final when they have answered, or after `wind_down_s`."""

    def __init__(self, context: Context, outcome: Outcome, fault: Fault | None) -> None:
        self._context = context
        self.outcome = outcome
        self.fault = fault
        context.voice.settle_all()
        self._waiting = set(context.census.live())
        self._until = context.voice.now + context.order.timers.wind_down_s
        self._removed = False
        self.final = not self._waiting
        kind = EndKind.RELEASED if outcome is Outcome.COMPLETE else EndKind.ABORTED
        for member in self._waiting:
            context.voice.ask(member, ("end",), End, kind, fault)
        self._finish_if_done()

    @property
    def phase(self) -> Phase:
        return Phase(self.outcome.value) if self.final else Phase.ENDING

    def on_ended(self, member: int) -> None:
        self._context.voice.settle(member, ("end",))
        self._waiting.discard(member)
        self._finish_if_done()

    def tick(self) -> None:
        self._finish_if_done()

    def conclude(self) -> None:
        """The supervisor has recorded the end: no other coordinator will come."""
        if self.final and not self._removed:
            self._removed = True
            self._context.voice.do(RemoveStaging())

    def _finish_if_done(self) -> None:
        if self._waiting and self._context.voice.now < self._until:
            return
        self.final = True
        self._context.voice.settle_all()
        if self.outcome is Outcome.COMPLETE:
            self.conclude()


def _sums_agree(context: Context, plan: Plan, splits: list[Split | None], staged: tuple[Staged, ...]) -> bool:
    """Whether the output holds what the input held: rows, keys and, where computed, all columns. Else the job fails."""
    inputs = [split for split in splits if split is not None]
    rows_in = sum(split.rows for split in inputs) * plan.copies
    rows_out = sum(each.rows for each in staged)
    keys_in = sum(split.key_digest for split in inputs) * plan.copies & MASK64
    keys_out = sum(each.key_digest for each in staged) & MASK64
    all_in = add_row_digests([split.row_digest for split in inputs] * plan.copies)
    all_out = add_row_digests([each.row_digest for each in staged if each.rows])
    if len(inputs) != plan.maps:
        sentence = f"all groups are written, but the figures of {plan.maps - len(inputs)} splits are unknown"
    elif rows_in != rows_out:
        sentence = f"{rows_out} rows were written, and {rows_in} were read"
    elif keys_in != keys_out:
        sentence = f"the keys of {rows_out} rows written are not those of the rows read"
    elif all_in and all_out and all_in != all_out:
        sentence = f"the values of {rows_out} rows written are not those of the rows read"
    else:
        return True
    context.fail("InternalError", sentence)
    return False
