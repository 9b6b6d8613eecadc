"""Shuffles Arrow data between processes: exactly once, in bounded memory.

    from shuffle_worker import Engine, ShuffleConfig, ShuffleService, ShuffleType

These names are loaded when first asked for, so that the command line and the manifest start without Arrow. Their
types are in `__init__.pyi`.
"""

import importlib
from typing import Any

_HOMES = {
    "Engine": "shuffle_worker.service.engine",
    "ShuffleConfig": "shuffle_worker.service.config",
    "ShuffleService": "shuffle_worker.service.service",
    "ShuffleType": "shuffle_worker.spec.model",
}

__all__ = ["Engine", "ShuffleConfig", "ShuffleService", "ShuffleType"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
