"""What a program says about its shuffle service, as one frozen value; and how that becomes a process's settings."""

from dataclasses import dataclass, field
from pathlib import Path

from shuffle_worker.errors import SpecError
from shuffle_worker.quantity import format_bytes
from shuffle_worker.service.memory import resident_bytes
from shuffle_worker.settings import LOOPBACK, Settings, Timers
from shuffle_worker.spec.model import Compression

LEAST_MEMORY_BYTES = 64 << 20
SLACK_BYTES = 24 << 20


@dataclass(frozen=True)
class ShuffleConfig:
    """Settings of a `ShuffleService`. All have defaults that suit one machine."""

    compression: Compression | str = Compression.NONE
    """Of frames on the wire, in memory and on disk: None, LZ4, Zstd or Snappy."""
    memory_bytes: int = 512 << 20
    """What shuffles may hold in this process, on top of what the program itself uses."""
    spill_dirs: tuple[str | Path, ...] = ()
    """Where to spill what does not fit. Without any, senders wait when memory is full."""
    spill_reserve_bytes: int = 256 << 20
    """Stay away from a spill disk with less than this free."""
    host: str = "127.0.0.1"
    port: int = 0
    """Where to listen for other members; 0: any free port."""
    advertise_host: str = ""
    """What other members are told to connect to, if it is not `host`."""
    tokens: tuple[str, ...] = ()
    """Shown to (the first) and accepted from (all) other members; demanded as soon as `host` is not loopback."""
    timeout_s: float = 30.0
    """How long any call waits unless it says otherwise."""
    timers: Timers = field(default_factory=Timers)
    """Heartbeats, and when a silent member is given up."""

    def __post_init__(self) -> None:
        known = {codec.value.lower(): codec for codec in Compression}
        codec = known.get(str(self.compression).lower())
        if codec is None:
            names = ", ".join(each.value for each in Compression)
            raise SpecError(f"no codec is named {self.compression!r}: the known are {names}", "compression")
        object.__setattr__(self, "compression", codec)
        if isinstance(self.spill_dirs, (str, Path)):
            raise SpecError("expected a tuple of directories, not one path", "spill_dirs")
        if self.memory_bytes < LEAST_MEMORY_BYTES:
            raise SpecError(
                f"{format_bytes(self.memory_bytes)} is too little: give at least {format_bytes(LEAST_MEMORY_BYTES)}",
                "memory_bytes",
            )
        if not self.timeout_s > 0:
            raise SpecError(f"expected seconds above 0, got {self.timeout_s!r}", "timeout_s")
        if not 0 <= self.port <= 65535:
            raise SpecError(f"{self.port} is not within 0..65535", "port")
        if self.host not in LOOPBACK and not self.tokens:
            raise SpecError(f"a service that listens on {self.host} needs a token: set `tokens`", "tokens")

    @property
    def codec(self) -> Compression:
        return Compression(self.compression)

    def settings(self, name: str) -> Settings:
        """As the node of this process takes them: its limit counts what is resident already."""
        return Settings(
            name=name,
            data_host=self.host,
            data_port=self.port,
            advertise_host=self.advertise_host,
            memory_bytes=resident_bytes() + SLACK_BYTES + (4 << 20) + self.memory_bytes,
            spill_dirs=tuple(Path(each) for each in self.spill_dirs),
            spill_reserve_bytes=self.spill_reserve_bytes,
            tokens=self.tokens,
            timers=self.timers,
        )

    @staticmethod
    def of_settings(settings: Settings) -> "ShuffleConfig":
        """The view of a worker process whose settings came from its environment."""
        return ShuffleConfig(
            memory_bytes=max(LEAST_MEMORY_BYTES, settings.memory_bytes),
            spill_dirs=settings.spill_dirs,
            spill_reserve_bytes=settings.spill_reserve_bytes,
            host=settings.data_host,
            port=settings.data_port,
            advertise_host=settings.advertise_host,
            tokens=settings.tokens,
            timeout_s=settings.timers.send_s,
            timers=settings.timers,
        )
