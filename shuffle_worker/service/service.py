"""`ShuffleService`: the one entry to shuffles in a process. Assembles the parts; the work is in theirs.

A service is a cluster of its own, or a member of the one it joins. All methods may be called from any thread, have a
deadline (`ShuffleConfig.timeout_s` unless given) and raise errors of `shuffle_worker.errors`.
"""

import atexit
import contextlib
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import pyarrow as pa

from shuffle_worker.cluster.members import ClusterCoordinator
from shuffle_worker.errors import Cancelled, ShuffleError, SpecError, UserError
from shuffle_worker.partitioning import MAX_PARTITIONS
from shuffle_worker.service.attempt import Ways
from shuffle_worker.service.calls import Calls
from shuffle_worker.service.codec import Encoder
from shuffle_worker.service.config import ShuffleConfig
from shuffle_worker.service.directory import Directory
from shuffle_worker.service.holdings import Holdings
from shuffle_worker.service.keyed import Scatterers, encode_boundaries
from shuffle_worker.service.membership import MembershipService
from shuffle_worker.service.messages import Info
from shuffle_worker.service.node import Node
from shuffle_worker.service.owner import OwnerServer
from shuffle_worker.service.reader import Reader
from shuffle_worker.service.registrar import Registrar
from shuffle_worker.service.sender import Outbound, Sender, Writer
from shuffle_worker.service.stats import Counters, ServiceStats, ShuffleStats, total_of
from shuffle_worker.settings import Settings
from shuffle_worker.spec.model import ShuffleType

T = TypeVar("T")
DEFAULT_NAME = "agent_0"


class ShuffleService:
    """One member. A context manager; `shutdown` ends it, and what it held."""

    def __init__(
        self,
        name: str = DEFAULT_NAME,
        *,
        join: str | None = None,
        config: ShuffleConfig | None = None,
        _settings: Settings | None = None,
    ) -> None:
        """Start listening, and enter the service of the member at `join` ("host:port") if there is one.

        :raises UserError: the port is in use, the name is taken. :raises PeerError: nobody answers at `join`.
        """
        check_name(name)
        self.config = config or ShuffleConfig()
        self._closing = threading.Lock()
        self._closed = False
        settings = _settings or self.config.settings(name)
        self.cluster = ClusterCoordinator(settings.timers.suspect_s, settings.timers.dead_s)
        """Who is in the service, as far as this member knows; use it through `ask`."""
        self.node = Node(settings)
        """For the job layer, which runs its own protocol over the same transport and store."""
        self._membership = MembershipService(self.node, self.cluster)
        self._calls = Calls(self.node, self._membership.reach)
        self._holdings = Holdings(self.node.store)
        self._owner = OwnerServer(self.node, self._calls, self._holdings)
        self._directory = Directory(self._calls, self._membership, self._free)
        self._counters = Counters()
        if join is None:
            registrar = Registrar(self.node, self._calls, self.cluster, self.config.timeout_s)
            self._membership.on_change(registrar.on_members_changed)
        ways = Ways(self.node, self._calls, self._holdings)
        limit_bytes, codec = self.node.limit_bytes, self.config.codec
        encoder = Encoder(self.node.pool, codec, self.node.window_bytes, limit_bytes // 8)
        self._scatterers = Scatterers(self.node.pool, encoder, codec, limit_bytes)
        self._sender = Sender(
            Outbound(ways, self._directory, self._membership, encoder, self._scatterers, self._counters)
        )
        self._reader = Reader(ways, self._directory, self._counters)
        atexit.register(self.shutdown)
        try:
            self._membership.start(self._calls, self.config.timeout_s, join)
        except BaseException:
            self.shutdown()
            raise

    @classmethod
    def of_settings(cls, settings: Settings) -> "ShuffleService":
        """The service of a worker process, whose settings came from its environment."""
        return cls(settings.name, config=ShuffleConfig.of_settings(settings), _settings=settings)

    # who this is
    @property
    def name(self) -> str:
        return self.node.name

    @property
    def incarnation(self) -> int:
        return self.node.incarnation

    @property
    def port(self) -> int:
        """Where other members connect to."""
        return self.node.member.port

    @property
    def address(self) -> str:
        """What to give to another process as `join`."""
        member = self.node.member
        return f"[{member.host}]:{member.port}" if ":" in member.host else member.address

    def members(self) -> list[str]:
        """Names of all members, as far as this one knows."""
        return [member.name for member in self.ask(self.cluster.membership).members]

    def ask(self, function: Callable[[], T]) -> T:
        """Run a function on the control loop, where the member list and the jobs' machines live."""
        return self.node.loop.ask(function)

    # shuffles
    def create_shuffle(
        self,
        shuffle_id: str,
        shuffle_type: ShuffleType | str,
        num_partitions: int,
        *,
        partition_keys: Sequence[str] = (),
        boundaries: Sequence[Any] = (),
    ) -> None:
        """Make a shuffle that every member can use by its id.

        `partition_keys`: columns by which `send_batch` and writers partition rows (Hash, Range). `boundaries` (Range):
        num_partitions - 1 values, or tuples of one value for each key, in order; a row equal to one goes right of it.

        :raises UserError: the id is taken, or an argument is wrong.
        """
        self._check_open()
        kind = _shuffle_type(shuffle_type)
        if not isinstance(shuffle_id, str) or not shuffle_id:
            raise SpecError(f"expected a name, got {shuffle_id!r}", "shuffle_id")
        if isinstance(num_partitions, bool) or not isinstance(num_partitions, int):
            raise SpecError(f"expected a whole number, got {num_partitions!r}", "num_partitions")
        if not 1 <= num_partitions <= MAX_PARTITIONS:
            raise SpecError(f"{num_partitions} is not within 1..{MAX_PARTITIONS}", "num_partitions")
        if isinstance(partition_keys, str):
            raise SpecError(f"expected a list of columns, such as [{partition_keys!r}]", "partition_keys")
        if boundaries and kind != ShuffleType.RANGE:
            raise SpecError(f"a {kind.value} shuffle has no boundaries", "boundaries")
        if partition_keys and kind in (ShuffleType.REBALANCE, ShuffleType.BROADCAST):
            raise SpecError(f"a {kind.value} shuffle has no keys", "partition_keys")
        cuts = encode_boundaries(partition_keys, num_partitions, boundaries) if boundaries else b""
        info = Info(shuffle_id, uuid.uuid4().bytes, kind, num_partitions, tuple(partition_keys), cuts)
        self._directory.create(info, self.config.timeout_s)

    def send_partition(
        self, shuffle_id: str, partition: int, data: Any, target: str = "", *, timeout_s: float | None = None
    ) -> None:
        """Send rows to one partition, and commit them. The first send fixes the partition's owner to `target`.

        `data`: anything with `__arrow_c_array__` or `__arrow_c_stream__`. The first rows fix the shuffle's schema.

        :raises UserError: the shuffle, member, partition or schema is not as it must be. :raises OutcomeUnknown: no
        answer in time. :raises ShuffleLost: the partition's owner is gone.
        """
        self._check_open()
        self._sender.send_partition(shuffle_id, partition, data, target, self._timeout(timeout_s))

    def send_batch(self, shuffle_id: str, data: Any, *, timeout_s: float | None = None) -> None:
        """Partition rows by the shuffle's rule, send each to its partition's owner, and commit them all at once."""
        self._check_open()
        self._sender.send_batch(shuffle_id, data, self._timeout(timeout_s))

    def writer(self, shuffle_id: str, map_id: int, *, timeout_s: float | None = None) -> Writer:
        """Many writes with one commit. Of all writers with one map id, exactly one counts."""
        self._check_open()
        return self._sender.writer(shuffle_id, map_id, self._timeout(timeout_s))

    def receive_partitions(
        self, shuffle_id: str, partition_id: int, *, timeout_s: float | None = None
    ) -> list[pa.RecordBatch]:
        """What is committed in a partition, at once: may be called again, and later returns more.

        Batches of one sender come in the order of its sends. :raises ShuffleLost: the owner is gone.
        """
        self._check_open()
        return self._reader.receive(shuffle_id, partition_id, self._timeout(timeout_s))

    def open_partition(
        self, shuffle_id: str, partition_id: int, timeout_s: float | None = None
    ) -> pa.RecordBatchReader:
        """Batches as they are committed; ends when the shuffle is sealed. Keeps one window of them in memory.

        Reading raises DeadlineExceeded when nothing came for `timeout_s` and there was no seal.
        """
        self._check_open()
        return self._reader.open(shuffle_id, partition_id, self._timeout(timeout_s))

    def seal(self, shuffle_id: str) -> None:
        """Nothing more is taken: readers of `open_partition` come to their end. Idempotent."""
        self._check_open()
        self._directory.seal(shuffle_id, self.config.timeout_s)

    def close_shuffle(self, shuffle_id: str) -> None:
        """Free the shuffle everywhere; its id may be used anew. Batches that were received stay readable."""
        self._check_open()
        known = self._directory.known(shuffle_id, self.config.timeout_s)
        self._directory.close(shuffle_id, self.config.timeout_s)
        self._directory.forget(shuffle_id)
        self._free(shuffle_id, known.info.uid)

    def _free(self, shuffle_id: str, uid: bytes) -> None:
        """What a sender keeps of a shuffle; what its owners keep is theirs. Idempotent."""
        self._scatterers.forget(uid)
        self._counters.forget(shuffle_id)
        self.node.transport.close_shuffle(uid)

    # figures
    def get_shuffle_stats(self) -> ServiceStats:
        """What this member sent, holds and received, for each shuffle and in total."""
        shuffles = self.list_shuffles()
        store, wire = self.node.store.stats(), self.node.transport.stats()
        return ServiceStats(
            shuffles={each.id: each for each in shuffles},
            total=total_of(shuffles),
            memory_used_bytes=self.node.budget.used_bytes,
            memory_limit_bytes=self.node.limit_bytes,
            spilled_bytes=store["spilled_bytes"],
            spilled_bytes_total=store["spilled_bytes_total"],
            wire_bytes_out=int(wire["bytes_out"]),  # type: ignore[arg-type]
            wire_bytes_in=int(wire["bytes_in"]),  # type: ignore[arg-type]
        )

    def list_shuffles(self) -> list[ShuffleStats]:
        """The shuffles that this member knows or holds something of."""
        held = {each.info.id: each for each in self._holdings.all_held()}
        infos = {known.info.id: known.info for known in self._directory.all_known()}
        infos.update({shuffle_id: each.info for shuffle_id, each in held.items() if shuffle_id not in infos})
        found = []
        for shuffle_id, info in infos.items():
            moved, holding = self._counters.moved(shuffle_id), held.get(shuffle_id)
            found.append(
                ShuffleStats(
                    id=shuffle_id,
                    type=info.kind.value,
                    partitions=info.partitions,
                    sealed=info.sealed or (holding is not None and holding.sealed),
                    partitions_held=len(holding.groups) if holding else 0,
                    sends=moved.sends,
                    rows_sent=moved.rows_sent,
                    bytes_sent=moved.bytes_sent,
                    rows_held=holding.rows if holding else 0,
                    bytes_held=holding.bytes if holding else 0,
                    frames_held=holding.frames if holding else 0,
                    rows_received=moved.rows_received,
                    bytes_received=moved.bytes_received,
                )
            )
        return found

    def figures(self) -> Mapping[str, float | Mapping[str, float]]:
        """Everything that store, budget and transport count, by the names that `figures.DESCRIBED` knows."""
        free = {str(each["path"]): float(str(each["free_bytes"])) for each in self.node.store.directories()}
        return {**self.node.store.stats(), **self.node.transport.stats(), "disk_free_bytes": free}

    def fault(self) -> str:
        """Why this member can take no partitions now, or an empty string."""
        return "the service is shut down" if self._closed else self.node.store.disk_full()

    # the end
    def shutdown(self) -> None:
        """Leave, and free everything held: partitions of this member are lost to others. Idempotent."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self.shutdown)
        with contextlib.suppress(ShuffleError):  # the loop is gone: then nobody waits either
            self._membership.leave()
            self.ask(self._calls.close)
        self._owner.close()
        self.node.close()

    def __enter__(self) -> "ShuffleService":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def _timeout(self, timeout_s: float | None) -> float:
        if timeout_s is None:
            return self.config.timeout_s
        if not timeout_s > 0:
            raise SpecError(f"expected seconds above 0, got {timeout_s!r}", "timeout_s")
        return timeout_s

    def _check_open(self) -> None:
        if self._closed:
            raise Cancelled(f"the shuffle service {self.name} is shut down")


def check_name(name: str) -> None:
    """:raises SpecError: not a member's name. A colon would make it look like an address."""
    if not isinstance(name, str) or not name or ":" in name or not name.isprintable() or len(name.encode()) > 255:
        raise SpecError(f"a member's name is 1 to 255 printable bytes without a colon, not {name!r}", "name")


def _shuffle_type(given: ShuffleType | str) -> ShuffleType:
    for each in ShuffleType:
        if str(given).lower() == each.value.lower():
            return each
    names = ", ".join(each.value for each in ShuffleType)
    raise UserError(f"shuffle_type: no shuffle is of type {given!r}: the known types are {names}")
