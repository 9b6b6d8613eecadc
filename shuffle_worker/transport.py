"""The transport for callers outside the service layer: kept working, and warned about.

Shuffles are reached through ShuffleService, which also fences, accounts and recovers; frames sent past it are nobody's.
Inside the service layer `_native.transport` is imported directly.
"""

import warnings

from shuffle_worker._native.receiver import Receiver
from shuffle_worker._native.transport import Transport as _Transport
from shuffle_worker.wire.types import TransportConfig

__all__ = ["Transport"]


class Transport(_Transport):
    """`_native.transport.Transport`, with a DeprecationWarning at construction."""

    def __new__(cls, config: TransportConfig, receiver: Receiver) -> "Transport":
        warnings.warn(
            "calling the transport directly is deprecated: send and receive through shuffle_worker.ShuffleService",
            DeprecationWarning,
            stacklevel=2,
        )
        return super().__new__(cls, config, receiver)  # type: ignore[call-arg]
