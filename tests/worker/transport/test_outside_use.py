"""Calling the transport past the service layer."""

import warnings

import pytest

from shuffle_worker._native.buffer import BufferPool
from shuffle_worker._native.transport import Transport as Inside
from shuffle_worker._native.twin import MemoryReceiver
from shuffle_worker.transport import Transport
from shuffle_worker.wire.types import TransportConfig


def test_outside_callers_are_warned_and_served():
    with pytest.warns(DeprecationWarning, match="through shuffle_worker.ShuffleService") as seen:
        transport = Transport(TransportConfig("outsider", 1), MemoryReceiver(BufferPool(), 1 << 20))
    assert seen[0].filename == __file__
    with transport:
        assert transport.address.port > 0


def test_the_service_layer_is_not_warned():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Inside(TransportConfig("insider", 1), MemoryReceiver(BufferPool(), 1 << 20)).close()
