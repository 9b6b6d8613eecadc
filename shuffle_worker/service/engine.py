"""`Engine`: what a program holds that runs alone or with others, and asks for a shuffle service only with others."""

from types import TracebackType
from typing import Literal

from shuffle_worker.errors import ShuffleError, SpecError
from shuffle_worker.service.config import ShuffleConfig
from shuffle_worker.service.service import DEFAULT_NAME, ShuffleService


class Engine:
    """`mode="local"` has no service; `mode="distributed"` starts one. A context manager."""

    shuffle_service: ShuffleService | None

    def __init__(
        self,
        mode: Literal["local", "distributed"] = "local",
        *,
        name: str = DEFAULT_NAME,
        join: str | None = None,
        config: ShuffleConfig | None = None,
    ) -> None:
        """:raises ShuffleError: of the kind of the cause, when the service cannot start; says why."""
        if mode not in ("local", "distributed"):
            raise SpecError(f'expected "local" or "distributed", got {mode!r}', "mode")
        self.mode = mode
        self.shuffle_service = None
        if mode == "distributed":
            try:
                self.shuffle_service = ShuffleService(name, join=join, config=config)
            except ShuffleError as error:
                error.args = (f"the distributed engine cannot start its shuffle service: {error}",)
                raise

    def shutdown(self) -> None:
        """End the service, if there is one. Idempotent."""
        if self.shuffle_service is not None:
            self.shuffle_service.shutdown()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
