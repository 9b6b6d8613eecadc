"""What a worker process is told by its environment, resolved once into a frozen value.

Not read anywhere else: no other module looks at the environment.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shuffle_worker.errors import SpecError
from shuffle_worker.quantity import parse_bytes

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Timers:
    """How long things may take, in seconds. `scaled` makes all shorter (tests) or longer (a slow network) alike."""

    heartbeat_s: float = 1.0
    suspect_s: float = 5.0
    dead_s: float = 15.0
    connect_s: float = 10.0
    send_s: float = 120.0
    control_retry_s: float = 0.5

    def scaled(self, by: float) -> "Timers":
        return Timers(*(getattr(self, name) * by for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Settings:
    """One worker process."""

    name: str
    http_host: str = "127.0.0.1"
    http_port: int = 0
    data_host: str = "127.0.0.1"
    data_port: int = 0
    advertise_host: str = ""
    memory_bytes: int = 1 << 30
    spill_dirs: tuple[Path, ...] = ()
    spill_reserve_bytes: int = 256 << 20
    cluster_uid: str = "local"
    tokens: tuple[str, ...] = ()
    map_threads: int = 1
    sink_threads: int = 1
    log_level: str = "INFO"
    timers: Timers = field(default_factory=Timers)
    ready_file: Path | None = None
    incarnation: int = field(default_factory=lambda: secrets.randbits(64))

    @property
    def reachable_host(self) -> str:
        """The host that other members are told to connect to."""
        return self.advertise_host or self.data_host

    @staticmethod
    def from_environment(environment: Mapping[str, str] | None = None) -> "Settings":
        """Read `SHUFFLE_*`; a wrong value raises SpecError with the variable's name."""
        return _Reader(os.environ if environment is None else environment).settings()


class _Reader:
    """Reads variables one by one and says which one is wrong."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def settings(self) -> Settings:
        default = Settings(name="")
        settings = Settings(
            name=self._text("SHUFFLE_NAME", f"worker-{os.getpid()}"),
            http_host=self._text("SHUFFLE_HTTP_HOST", default.http_host),
            http_port=self._integer("SHUFFLE_HTTP_PORT", default.http_port, 0, 65535),
            data_host=self._text("SHUFFLE_DATA_HOST", default.data_host),
            data_port=self._integer("SHUFFLE_DATA_PORT", default.data_port, 0, 65535),
            advertise_host=self._text("SHUFFLE_ADVERTISE_HOST", ""),
            memory_bytes=self._bytes("SHUFFLE_MEMORY", default.memory_bytes),
            spill_dirs=tuple(Path(part) for part in self._text("SHUFFLE_SPILL_DIRS", "").split(":") if part),
            spill_reserve_bytes=self._bytes("SHUFFLE_SPILL_RESERVE", default.spill_reserve_bytes),
            cluster_uid=self._text("SHUFFLE_CLUSTER_UID", default.cluster_uid),
            tokens=self._tokens(),
            map_threads=self._integer("SHUFFLE_MAP_THREADS", default.map_threads, 1, 64),
            sink_threads=self._integer("SHUFFLE_SINK_THREADS", default.sink_threads, 1, 64),
            log_level=self._text("SHUFFLE_LOG_LEVEL", default.log_level).upper(),
            timers=Timers().scaled(self._number("SHUFFLE_TIME_SCALE", 1.0)),
            ready_file=Path(path) if (path := self._text("SHUFFLE_READY_FILE", "")) else None,
        )
        exposed = [host for host in (settings.http_host, settings.data_host) if host not in LOOPBACK]
        if exposed and not settings.tokens:
            raise SpecError(
                f"listening on {exposed[0]} needs a token: set it to a file that holds one, or listen on 127.0.0.1",
                "SHUFFLE_TOKEN_FILE",
            )
        return settings

    def _text(self, name: str, default: str) -> str:
        return self._environment.get(name, default)

    def _integer(self, name: str, default: int, least: int, most: int) -> int:
        text = self._text(name, str(default))
        try:
            value = int(text)
        except ValueError:
            raise SpecError(f"expected a whole number, got {text!r}", name) from None
        if not least <= value <= most:
            raise SpecError(f"{value} is not within {least}..{most}", name)
        return value

    def _number(self, name: str, default: float) -> float:
        text = self._text(name, str(default))
        try:
            value = float(text)
        except ValueError:
            raise SpecError(f"expected a number, got {text!r}", name) from None
        if not 0.001 <= value <= 1000:
            raise SpecError(f"{value} is not within 0.001..1000", name)
        return value

    def _bytes(self, name: str, default: int) -> int:
        text = self._text(name, str(default))
        try:
            return parse_bytes(text)
        except ValueError as error:
            raise SpecError(str(error), name) from None

    def _tokens(self) -> tuple[str, ...]:
        """The lines of the token file: the first is ours, all are accepted, so that a token can be rotated."""
        path = self._text("SHUFFLE_TOKEN_FILE", "")
        if not path:
            return ()
        try:
            lines = tuple(line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip())
        except OSError as error:
            raise SpecError(f"cannot read {path}: {error.strerror}", "SHUFFLE_TOKEN_FILE") from None
        if not lines:
            raise SpecError(f"{path} holds no token", "SHUFFLE_TOKEN_FILE")
        return lines
