"""A coordinator's last phase: offer the manifest, publish what the supervisor recorded, tell members the end. Pure.

    all staged -> sums agree -> every live member keeps the manifest -> PREPARED, until the supervisor's word
               -> commit recorded -> Publish -> Published -> members released -> COMPLETE

From PREPARED on nothing but the supervisor's record decides: this coordinator neither fails nor publishes by itself,
since the record may have been written already. A later coordinator that is given a record publishes the same bytes.
"""

from shuffle_worker.protocol.context import Context
from shuffle_worker.protocol.effects import Note, Publish, RemoveStaging
from shuffle_worker.protocol.messages import End, FetchManifest, Joined, Keep, Kept, ManifestCopy
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


class Offer:
    """Manifest to commit. `phase` is RUNNING while members still have to keep the manifest."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.phase = Phase.RUNNING
        self.digest = ""
        self._manifest: bytes | None = None
        self._keeping: set[int] = set()
        self._sources: list[int] = []
        self._failures = 0
        self._again_at: float | None = None

    # ---- the first time

    def offer(self, plan: Plan, splits: list[Split | None], staged: list[Staged | None]) -> None:
        """All groups are staged: check the sums, let members keep the manifest."""
        context = self._context
        complete = tuple(each for each in staged if each is not None)
        if not _sums_agree(context, plan, splits, complete):
            return
        self._manifest = encode_manifest(complete)
        self.digest = manifest_digest(self._manifest)
        self._keeping = set(context.census.live())
        for member in self._keeping:
            context.voice.ask(member, ("keep",), Keep, self.digest, self._manifest)
        self._prepare_if_kept()

    @property
    def manifest(self) -> bytes | None:
        return self._manifest

    def on_kept(self, message: Kept) -> None:
        if message.digest == self.digest:
            self._context.voice.settle(message.sender, ("keep",))
            self._keeping.discard(message.sender)
            self._prepare_if_kept()

    def _prepare_if_kept(self) -> None:
        if self.phase is Phase.RUNNING and not self._keeping:
            self.phase = Phase.PREPARED

    def commit(self, record: CommitRecord) -> None:
        """The supervisor's word, when it is about what was offered."""
        if self.phase is not Phase.PREPARED:
            return
        if record.digest != self.digest or record.epoch != self._context.order.epoch:
            self._context.voice.do(
                Note(f"refused a commit of {record.digest} at epoch {record.epoch}: not what is offered")
            )
            return
        self._publish()

    # ---- with a record

    def resume(self, record: CommitRecord, joined: dict[int, Joined]) -> None:
        """A record exists: find the manifest, publish it again."""
        self.phase = Phase.PUBLISHING
        self.digest = record.digest
        self._sources = sorted(member for member, message in joined.items() if message.manifest == record.digest)
        self._fetch_or_look()

    def _fetch_or_look(self) -> None:
        if self._sources:
            self._context.voice.ask(self._sources[0], ("manifest",), FetchManifest, self.digest)
        else:
            self._publish()

    def on_manifest_copy(self, message: ManifestCopy) -> None:
        if self._manifest is not None or message.sender not in self._sources or message.digest != self.digest:
            return
        self._context.voice.settle(message.sender, ("manifest",))
        if manifest_digest(message.manifest) == self.digest:
            self._manifest = message.manifest
            self._publish()
        else:
            self._sources.remove(message.sender)
            self._fetch_or_look()

    def _publish(self) -> None:
        self.phase = Phase.PUBLISHING
        self._context.voice.do(Publish(self.digest, self._manifest))

    # ---- both

    def on_published(self, digest: str) -> None:
        if self.phase is Phase.PUBLISHING and digest == self.digest and self._context.outcome is None:
            self._context.outcome = (Outcome.COMPLETE, None)

    def on_publish_failed(self, digest: str, fault: Fault) -> None:
        context = self._context
        if self.phase is not Phase.PUBLISHING or digest != self.digest:
            return
        self._failures += 1
        if not fault.retryable or self._failures > context.order.limits.backoff_limit:
            context.fail(fault.kind, f"the output could not be published: {fault.sentence}")
            return
        context.voice.do(Note(f"publishing failed and is tried again: {fault.sentence}"))
        self._again_at = context.voice.now + context.order.timers.backoff_s * (1 << min(self._failures - 1, 6))

    def tick(self) -> None:
        if self._again_at is not None and self._context.voice.now >= self._again_at:
            self._again_at = None
            self._publish()

    def on_lost(self, member: int) -> None:
        self._keeping.discard(member)
        self._prepare_if_kept()
        if self.phase is Phase.PUBLISHING and self._manifest is None and member in self._sources:
            first = self._sources[0] == member
            self._sources.remove(member)
            if first:
                self._fetch_or_look()


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

    @property
    def until(self) -> float:
        return self._until

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
