"""A coordinator's first phase: bind every member to this epoch, learn what it holds, and agree on the plan. Pure.

    Join all -> all Joined or lost -> ended already? | commit recorded? | a plan is held: fetch it | make one
             -> every member keeps the plan and admits the job -> ready to place and run

Nothing is decided before every member has answered or is lost: an answer is given after the member has fenced every
older epoch, so what it says is all that older coordinators will ever have decided there.

Members may disagree about the plan, when one was out of reach while another plan was made. The plan of the newest
placement table counts (a table of a later epoch was made knowing what could be known); where no table is, the newest
plan. What was held under another plan is forgotten.
"""

from shuffle_worker.protocol.census import Standing
from shuffle_worker.protocol.context import Context
from shuffle_worker.protocol.effects import MakePlan, Note
from shuffle_worker.protocol.messages import FetchPlan, Join, Joined, PlanCopy, Planned, StorePlan
from shuffle_worker.protocol.order import Phase
from shuffle_worker.protocol.values import EndKind, Fault, Plan, first_version


class Gathering:
    def __init__(self, context: Context) -> None:
        self._context = context
        self.joined: dict[int, Joined] = {}
        self._holders: set[int] = set()
        self._source = 0
        self._making = False
        self.working = False
        """Whether the job works already, so that a member more or less does not matter."""
        self.phase = Phase.JOINING

    @property
    def done(self) -> bool:
        """The plan is known and every live member has it."""
        census = self._context.census
        return self.phase is Phase.ADMITTING and all(
            census.standing(member) is Standing.READY for member in census.live()
        )

    @property
    def all_joined(self) -> bool:
        return not self._context.census.joining()

    def begin(self) -> None:
        for member in self._context.census.live():
            self.ask(member)

    def ask(self, member: int) -> None:
        context = self._context
        context.voice.ask(member, ("join",), Join, context.order.membership, context.order.timers)

    def on_joined(self, message: Joined) -> None:
        context = self._context
        context.voice.settle(message.sender, ("join",))
        if context.census.standing(message.sender) is not Standing.JOINING:
            return
        context.census.set_standing(message.sender, Standing.JOINED)
        self.joined[message.sender] = message
        if context.plan is not None:
            self._join_late(message)

    def _join_late(self, message: Joined) -> None:
        """A member that was added after the plan was settled: it starts from nothing."""
        self.joined[message.sender] = _without_holdings(message)
        if message.ended is None:
            self.store_plan(message.sender, fresh=True)
        else:
            self._context.unfit.append((message.sender, "the job has ended there"))

    def adopt_end(self) -> Fault | None:
        """How the job ended for some member already; that is then how it ends."""
        for message in self.joined.values():
            if message.ended is EndKind.ABORTED:
                return message.fault or Fault("Cancelled", "the job was ended by an earlier coordinator")
            if message.ended is EndKind.RELEASED:
                who = self._context.census.address(message.sender)
                return Fault("InternalError", f"{who} was told that the output is published, but no commit is recorded")
        return None

    def choose_plan(self) -> None:
        """All have joined: fetch the plan that counts, or have one made."""
        self.phase = Phase.PLANNING
        self._holders = {member for member, message in self.joined.items() if message.plan}
        self._fetch_or_make()

    def _fetch_or_make(self) -> None:
        context = self._context
        if self._holders:
            best = max(self._allegiance(self.joined[member]) for member in self._holders)
            sources = [member for member in self._holders if self._allegiance(self.joined[member]) == best]
            host = context.order.host
            self._source = host if host in sources else min(sources)
            context.voice.ask(self._source, ("plan",), FetchPlan, self.joined[self._source].plan)
        elif not self._making:
            self._making = True
            context.voice.do(MakePlan(tuple(context.census.live())))

    @staticmethod
    def _allegiance(message: Joined) -> tuple[int, bytes]:
        """Orders what members hold: by the version of their table, or the first of the epoch that stored their plan."""
        if message.placement is not None:
            return message.placement.version, message.plan
        return first_version(message.plan_epoch), message.plan

    def on_plan_copy(self, message: PlanCopy) -> None:
        context = self._context
        if message.sender != self._source or not context.voice.settle(message.sender, ("plan",)):
            return
        if message.plan is None or message.plan.digest != self.joined[message.sender].plan:
            context.unfit.append((message.sender, "it does not hold the plan that it said it held"))
            return
        self._admit(message.plan)

    def on_plan_made(self, plan: Plan) -> None:
        if self._making and self._context.plan is None:
            self._admit(plan)

    def _admit(self, plan: Plan) -> None:
        context = self._context
        context.plan = plan
        self._source = 0
        self.phase = Phase.ADMITTING
        for member in context.census.live():
            if context.census.standing(member) is Standing.JOINING:
                continue
            if self.joined[member].plan == plan.digest:
                context.census.set_standing(member, Standing.READY)
            else:
                self.joined[member] = _without_holdings(self.joined[member])
                self.store_plan(member, fresh=False)

    def store_plan(self, member: int, fresh: bool) -> None:
        self._context.voice.ask(member, ("store",), StorePlan, self._context.plan, fresh)

    def on_planned(self, message: Planned) -> bool:
        """Whether the member has just become ready."""
        context = self._context
        if not context.voice.settle(message.sender, ("store",)):
            return False
        if message.fault is None:
            context.census.set_standing(message.sender, Standing.READY)
            return True
        who = context.census.address(message.sender)
        if message.fault.retryable or self.working:
            context.unfit.append((message.sender, f"it cannot take part: {message.fault.sentence}"))
        else:
            context.fail(message.fault.kind, f"{who}: {message.fault.sentence}")
        return False

    def on_lost(self, member: int) -> None:
        """Go on without it. What it held is lost."""
        self.joined.pop(member, None)
        self._holders.discard(member)
        if member == self._source and self.phase is Phase.PLANNING:
            self._source = 0
            self._context.voice.do(Note("the member that was asked for the plan is lost"))
            self._fetch_or_make()


def _without_holdings(message: Joined) -> Joined:
    """What is left of a member's answer when it holds another plan, or none."""
    return Joined(
        message.uid, message.epoch, message.sender, message.target, b"", 0, None, (), (), message.ended, message.fault
    )
