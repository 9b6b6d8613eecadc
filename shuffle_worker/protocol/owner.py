"""A member's owner: says PREPARED only to what it holds whole, lets winners through, seals, and reports. Pure.

    a stream:  FIN -> EXPECTED --counts agree--> PREPARED --Winner--> WINNING --StreamWon--> WON
                          \\--they differ, or it broke--> refused and discarded

Rules it holds by itself, whatever it is told:
- PREPARED is a promise: the stream stays until it wins or is discarded by the coordinator.
- One winner for each (map, generation): a second one is a fault of the coordinator, and ends the job.
- A generation is sealed only when it has a winner of every map.
- What the sink wrote must be what the winners carried, in rows and in key digest.
"""

from dataclasses import dataclass

from shuffle_worker.protocol.effects import (
    DiscardStream,
    DropGroups,
    ExpectStream,
    FenceStreams,
    ForgetShuffle,
    PlaceGroups,
    SealGroups,
    WinStream,
)
from shuffle_worker.protocol.messages import (
    Discard,
    Discarded,
    Fin,
    FinRefused,
    GroupsLost,
    GroupsLostSeen,
    GroupStagedMsg,
    Prepared,
    Seal,
    Sealing,
    StagedSeen,
    Waiting,
    Winner,
    Won,
)
from shuffle_worker.protocol.values import (
    MASK64,
    Attempt,
    Fault,
    Placement,
    Split,
    Staged,
    StreamCounts,
    StreamReport,
    StreamState,
)
from shuffle_worker.protocol.voice import Voice

REMEMBERED_DISCARDS = 16_384


@dataclass(slots=True)
class _Stream:
    state: StreamState
    mapper: int
    generations: tuple[int, ...]
    counts: StreamCounts
    split: Split


class Owner:
    """Streams and groups of one job on one member. The participant has checked the fences of all messages."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self.coordinator = 0
        self._reset()

    def _reset(self) -> None:
        self._maps = 0
        self.placement: Placement | None = None
        self._held: dict[int, int] = {}
        self._streams: dict[tuple[int, Attempt], _Stream] = {}
        self._discarded: dict[tuple[int, Attempt], None] = {}
        self._won: dict[int, dict[int, Attempt]] = {}
        """generation -> map -> winner, from the moment the coordinator named it"""
        self._won_counts: dict[int, int] = {}
        """generation -> maps whose winner the store has let through"""
        self._seal_asked: set[int] = set()
        self._sealed: dict[int, int] = {}
        """group -> generation, from SealGroups on"""
        self._staged: dict[int, Staged] = {}
        self._lost: dict[int, Fault] = {}
        self._dropped = False

    @property
    def busy(self) -> bool:
        return any(group not in self._staged for group in self._sealed)

    def open(self, maps: int) -> None:
        """The plan is known."""
        self._maps = maps

    # ---- a new epoch

    def on_epoch(self) -> None:
        """Bound to a new coordinator: streams that are not whole never will be."""
        for name in [name for name, stream in self._streams.items() if stream.state is StreamState.EXPECTED]:
            self._forget_stream(name)
        self._voice.do(FenceStreams(self._voice.epoch, tuple(self._streams)))
        for group, fault in self._lost.items():
            self._report_lost(self._held[group], (group,), fault)

    def reports(self) -> tuple[tuple[StreamReport, ...], tuple[Staged, ...]]:
        """What JOINED says of streams and groups."""
        streams = tuple(
            StreamReport(
                map,
                attempt,
                stream.generations,
                stream.state is not StreamState.PREPARED,
                stream.split,
                stream.counts.rows,
                stream.counts.payload_bytes,
            )
            for (map, attempt), stream in self._streams.items()
            if stream.state is not StreamState.EXPECTED
        )
        return streams, tuple(self._staged.values())

    def forget(self) -> None:
        """Nothing is held any more; files already staged stay."""
        self._reset()
        self._voice.do(ForgetShuffle())

    # ---- the coordinator's word

    def on_place(self, placement: Placement) -> None:
        """Take a newer table: drop what is not ours any more, take what is."""
        self.placement = placement
        mine = {group: placement.generations[group] for group in placement.groups_of(self._voice.incarnation)}
        gone = tuple(group for group, generation in self._held.items() if mine.get(group) != generation)
        if gone:
            self._dropped = True
            for group in gone:
                self._drop_group(group)
            self._voice.do(DropGroups(gone))
        new: dict[int, list[int]] = {}
        for group, generation in mine.items():
            if self._held.get(group) != generation:
                new.setdefault(generation, []).append(group)
        for generation, groups in sorted(new.items()):
            self._voice.do(PlaceGroups(tuple(groups), generation))
        self._held = mine

    def on_winner(self, message: Winner) -> None:
        name = (message.map, message.attempt)
        stream = self._streams.get(name)
        if stream is None or stream.state is StreamState.EXPECTED:
            sentence = f"the frames of map {message.map}, attempt {message.attempt}, that had been promised are gone"
            self._lose_generations(message.generations, Fault("Corrupted", sentence))
            return
        if stream.state is StreamState.WON:
            self._voice.tell(message.sender, Won, message.map, message.attempt)
            return
        if stream.state is StreamState.WINNING:
            return
        for generation in message.generations:
            winner = self._won.setdefault(generation, {}).setdefault(message.map, message.attempt)
            if winner != message.attempt:
                sentence = (
                    f"map {message.map} has two winners at generation {generation}, {winner} and {message.attempt}"
                )
                self._lose_generations((generation,), Fault("InternalError", sentence))
                return
        stream.state = StreamState.WINNING
        stream.generations = message.generations
        self._voice.do(WinStream(*name))

    def on_discard(self, message: Discard) -> None:
        name = (message.map, message.attempt)
        stream = self._streams.get(name)
        if stream is None or stream.state in (StreamState.EXPECTED, StreamState.PREPARED):
            self._discard(name)
        self._voice.tell(message.sender, Discarded, message.map, message.attempt)

    def on_seal(self, message: Seal) -> None:
        self._seal_asked.add(message.generation)
        self._voice.tell(message.sender, Sealing, message.generation)
        self._seal_if_complete(message.generation)

    def on_staged_seen(self, message: StagedSeen) -> None:
        self._voice.settle(self.coordinator, ("staged", message.group, message.generation))

    def on_groups_lost_seen(self, message: GroupsLostSeen) -> None:
        self._voice.settle(self.coordinator, ("lost", message.generation, *message.groups))

    # ---- a mapper's word

    def on_fin(self, message: Fin) -> None:
        """Compare at once if everything is here, else as soon as the store says so."""
        name = (message.map, message.attempt)
        if self.placement is None or self.placement.version < message.version:
            return
        if name in self._discarded:
            fault = Fault("Fenced", f"attempt {message.attempt} of map {message.map} was discarded")
            self._voice.tell(message.sender, FinRefused, message.map, message.attempt, fault)
            return
        stream = self._streams.get(name)
        if stream is None:
            self._streams[name] = _Stream(
                StreamState.EXPECTED, message.sender, message.generations, message.counts, message.split
            )
            self._voice.do(ExpectStream(message.map, message.attempt, message.counts.frames))
        elif stream.state is StreamState.EXPECTED:
            self._voice.tell(message.sender, Waiting, message.map, message.attempt)
        else:
            self._voice.tell(message.sender, Prepared, message.map, message.attempt)

    # ---- what the shell did

    def on_reached(self, map: int, attempt: Attempt, counts: StreamCounts) -> None:
        name = (map, attempt)
        stream = self._streams.get(name)
        if stream is None or stream.state is not StreamState.EXPECTED:
            return
        if counts != stream.counts:
            sentence = (
                f"map {map}, attempt {attempt}: {counts.frames} frames with {counts.rows} rows arrived of "
                f"{stream.counts.frames} with {stream.counts.rows}, or their checksums differ"
            )
            self._refuse(name, stream, Fault("Corrupted", sentence))
            return
        stream.state = StreamState.PREPARED
        self._voice.tell(stream.mapper, Prepared, map, attempt)

    def on_broken(self, map: int, attempt: Attempt, fault: Fault) -> None:
        name = (map, attempt)
        stream = self._streams.get(name)
        if stream is None:
            return
        if stream.state is StreamState.EXPECTED:
            self._refuse(name, stream, fault)
        elif stream.state is StreamState.PREPARED:
            # The promise cannot be kept. If it is named a winner, its generations are lost here.
            self._discard(name)

    def on_won(self, map: int, attempt: Attempt) -> None:
        stream = self._streams.get((map, attempt))
        if stream is None or stream.state is not StreamState.WINNING:
            return
        stream.state = StreamState.WON
        self._voice.tell(self.coordinator, Won, map, attempt)
        for generation in stream.generations:
            self._won_counts[generation] = self._won_counts.get(generation, 0) + 1
            self._seal_if_complete(generation)

    def on_win_failed(self, map: int, attempt: Attempt, fault: Fault) -> None:
        stream = self._streams.get((map, attempt))
        if stream is not None and stream.state is StreamState.WINNING:
            self._lose_generations(stream.generations, fault)

    def on_staged(self, staged: Staged) -> None:
        if self._sealed.get(staged.group) != staged.generation or staged.group in self._lost:
            return
        self._staged[staged.group] = staged
        if self._sums_agree():
            self._voice.ask(self.coordinator, ("staged", staged.group, staged.generation), GroupStagedMsg, staged)

    def on_group_broke(self, group: int, generation: int, fault: Fault) -> None:
        if self._held.get(group) == generation:
            self._lose(generation, (group,), fault)

    # ---- inside

    def _refuse(self, name: tuple[int, Attempt], stream: _Stream, fault: Fault) -> None:
        self._discard(name)
        self._voice.tell(stream.mapper, FinRefused, *name, fault)

    def _discard(self, name: tuple[int, Attempt]) -> None:
        self._forget_stream(name)
        self._voice.do(DiscardStream(*name))

    def _forget_stream(self, name: tuple[int, Attempt]) -> None:
        self._streams.pop(name, None)
        self._discarded[name] = None
        if len(self._discarded) > REMEMBERED_DISCARDS:
            del self._discarded[next(iter(self._discarded))]

    def _seal_if_complete(self, generation: int) -> None:
        if generation not in self._seal_asked or self._won_counts.get(generation, 0) != self._maps:
            return
        groups = tuple(
            group
            for group, held in self._held.items()
            if held == generation and group not in self._sealed and group not in self._lost
        )
        if groups:
            self._sealed.update(dict.fromkeys(groups, generation))
            self._voice.do(SealGroups(groups, generation))

    def _sums_agree(self) -> bool:
        """When all this member ever held is staged, it must be the sum of the winners' streams; else all is lost.

        Looked at before the last group is reported, so that the coordinator never takes all of them for good.
        """
        if self._dropped or self._lost or len(self._staged) != len(self._held):
            return True
        winners = [stream.counts for stream in self._streams.values() if stream.state is StreamState.WON]
        rows = sum(counts.rows for counts in winners)
        digest = sum(counts.key_digest for counts in winners) & MASK64
        staged = self._staged.values()
        staged_rows = sum(each.rows for each in staged)
        if staged_rows != rows or sum(each.key_digest for each in staged) & MASK64 != digest:
            sentence = f"{staged_rows} rows were written of {rows} that arrived, or their keys differ"
            for generation in sorted(set(self._held.values())):
                self._lose_generations((generation,), Fault("Corrupted", sentence))
            return False
        return True

    def _lose_generations(self, generations: tuple[int, ...], fault: Fault) -> None:
        for generation in generations:
            groups = tuple(group for group, held in self._held.items() if held == generation)
            if groups:
                self._lose(generation, groups, fault)

    def _lose(self, generation: int, groups: tuple[int, ...], fault: Fault) -> None:
        self._lost.update(dict.fromkeys(groups, fault))
        for group in groups:
            self._staged.pop(group, None)
            self._voice.settle(self.coordinator, ("staged", group, generation))
        self._report_lost(generation, groups, fault)

    def _report_lost(self, generation: int, groups: tuple[int, ...], fault: Fault) -> None:
        self._voice.ask(self.coordinator, ("lost", generation, *groups), GroupsLost, generation, groups, fault)

    def _drop_group(self, group: int) -> None:
        generation = self._held[group]
        self._sealed.pop(group, None)
        self._staged.pop(group, None)
        self._lost.pop(group, None)
        self._voice.settle(self.coordinator, ("staged", group, generation))
