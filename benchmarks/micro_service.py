"""The library between two processes on loopback: latencies of its calls, and what it adds to the transport it uses.

    python -m benchmarks.micro_service [--rounds 5] [--calls 1000] [--json FILE]

committed    send_partition of 64 KiB to a member in another process, until it returns: readable there, acknowledged.
delivered    the same send, from its call until a reader in the other process holds the batch. Target: p99 < 0.5 ms.
create       create_shuffle alone. Target: p99 < 1 ms.
first send   create_shuffle and the first send of 64 KiB to the other process. Target: p99 < 1 ms.
overhead     a writer of 1 MiB batches, commit included, against the same frames encoded, stamped and handed to the
             transport directly; seconds, median over interleaved rounds. Target: < 1.02x.
"""

import argparse
import json
import multiprocessing
import secrets
import statistics
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pyarrow as pa

from shuffle_worker import ShuffleConfig, ShuffleService
from shuffle_worker._native.frame import Stream
from shuffle_worker.service.codec import Encoder

HERE, THERE = "agent_0", "agent_1"
SMALL_ROWS = (64 << 10) // 8
LARGE_ROWS = (1 << 20) // 8 - 64
FRAMES = 256
WARM = 50
CONFIG = ShuffleConfig(memory_bytes=1 << 30, timeout_s=30)


def rows(count: int) -> pa.RecordBatch:
    return pa.record_batch({"id": np.random.default_rng(7).integers(0, 1 << 62, count)})


def other_process(pipe: Connection, address: str) -> None:
    """Does what the pipe says: reads a partition and says when, or owns a shuffle that knows no service."""
    with ShuffleService(THERE, join=address, config=CONFIG) as service:
        pipe.send("joined")
        while (order := pipe.recv()) is not None:
            what, argument = order
            if what == "read":
                reader = service.open_partition(argument, 0, 30)
                pipe.send("open")
                for batch in reader:
                    if batch.num_rows:
                        pipe.send(time.monotonic())
            else:
                _own(service, pipe, argument)


def _own(service: ShuffleService, pipe: Connection, uid: bytes) -> None:
    """Be the owner of one partition, straight at the store; tell when all frames are here."""
    whole = threading.Event()
    store = service.node.store
    store.open_shuffle(uid, 1)
    store.place(uid, 0, 1)
    service.node.serve_notices(uid, lambda _notice: whole.set())
    store.expect(uid, 0, 1, 0, FRAMES)
    pipe.send("placed")
    pipe.send(whole.wait(30))
    service.node.forget_notices(uid)
    store.close_shuffle(uid)


def measure_delivery(service: ShuffleService, pipe: Connection, calls: int) -> dict[str, list[float]]:
    batch = rows(SMALL_ROWS)
    service.create_shuffle("delivery", "Hash", 1)
    service.send_partition("delivery", 0, batch.slice(0, 0), THERE)
    pipe.send(("read", "delivery"))
    pipe.recv()
    began, ended, arrived = [], [], []
    for _ in range(calls + WARM):
        began.append(time.monotonic())
        service.send_partition("delivery", 0, batch, THERE)
        ended.append(time.monotonic())
        arrived.append(pipe.recv())  # so that no send waits for the one before
    service.seal("delivery")
    service.close_shuffle("delivery")
    return {
        "committed": [end - begin for begin, end in zip(began, ended, strict=True)][WARM:],
        "delivered": [end - begin for begin, end in zip(began, arrived, strict=True)][WARM:],
    }


def measure_creation(service: ShuffleService, calls: int) -> dict[str, list[float]]:
    batch = rows(SMALL_ROWS)
    create, first = [], []
    for number in range(calls + WARM):
        name = f"creation-{number}"
        began = time.monotonic()
        service.create_shuffle(name, "Hash", 4)
        create.append(time.monotonic() - began)
        service.send_partition(name, 0, batch, THERE)
        first.append(time.monotonic() - began)
        service.close_shuffle(name)
    return {"create": create[WARM:], "first send": first[WARM:]}


def write_by_service(service: ShuffleService, batch: pa.RecordBatch) -> float:
    service.create_shuffle("overhead", "Hash", 1)
    service.send_partition("overhead", 0, batch.slice(0, 0), THERE)
    began = time.monotonic()
    with service.writer("overhead", 0) as writer:
        for _ in range(FRAMES):
            writer.write_partition(0, batch)
    seconds = time.monotonic() - began
    service.close_shuffle("overhead")
    return seconds


def write_by_transport(service: ShuffleService, pipe: Connection, encoder: Encoder, batch: pa.RecordBatch) -> float:
    uid = secrets.token_bytes(16)
    pipe.send(("own", uid))
    pipe.recv()
    node = service.node
    began = time.monotonic()
    stream = Stream(uid, node.incarnation, 0, 1, 0)
    for _ in range(FRAMES):
        for frame in encoder.frames(batch.schema, batch, 0):
            stream.stamp(frame, 1)
            node.transport.send(THERE, frame, 30)
    if not pipe.recv():
        raise TimeoutError(f"{FRAMES} frames were not all there within 30 s")
    seconds = time.monotonic() - began
    node.transport.close_shuffle(uid)
    return seconds


def measure_overhead(service: ShuffleService, pipe: Connection, rounds: int) -> dict[str, float]:
    batch = rows(LARGE_ROWS)
    encoder = Encoder(service.node.pool, CONFIG.codec, service.node.window_bytes, 1 << 26)
    by_service, by_transport = [], []
    for _ in range(rounds + 1):
        by_service.append(write_by_service(service, batch))
        by_transport.append(write_by_transport(service, pipe, encoder, batch))
    service_s, transport_s = statistics.median(by_service[1:]), statistics.median(by_transport[1:])
    return {
        "service_s": service_s,
        "transport_s": transport_s,
        "ratio": service_s / transport_s,
        "least_ratio": min(by_service[1:]) / min(by_transport[1:]),
        "gib_per_s": FRAMES * batch.nbytes / service_s / (1 << 30),
    }


def quantiles_ms(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {f"p{at}": round(1e3 * ordered[len(ordered) * at // 100], 4) for at in (50, 90, 99)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    with ShuffleService(HERE, config=CONFIG) as service:
        other = context.Process(target=other_process, args=(theirs, service.address), daemon=True)
        other.start()
        pipe.recv()
        timed = {**measure_delivery(service, pipe, options.calls), **measure_creation(service, options.calls // 2)}
        overhead = measure_overhead(service, pipe, options.rounds)
        pipe.send(None)
        other.join(10)
    figures: dict[str, Any] = {name: quantiles_ms(seconds) for name, seconds in timed.items()}
    for name, ms in figures.items():
        print(f"{name:12} p50 {ms['p50']:.3f}  p90 {ms['p90']:.3f}  p99 {ms['p99']:.3f} ms")
    figures["overhead"] = overhead
    print(
        f"overhead     {overhead['ratio']:.3f}x (least {overhead['least_ratio']:.3f}x) of the transport alone, "
        f"{overhead['gib_per_s']:.2f} GiB/s"
    )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
