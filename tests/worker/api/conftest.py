"""A real worker process and its HTTP API."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TOKEN = "right-token"


@dataclass
class Worker:
    """A `shuffle-worker` on loopback."""

    process: "subprocess.Popen[bytes]"
    port: int

    def ask(self, method: str, path: str, body: object = None, token: str = TOKEN) -> tuple[int, Any]:
        """(status, decoded answer)."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, method=method)
        request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                text = answer.read().decode()
                return answer.status, json.loads(text) if "json" in answer.headers["content-type"] else text
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("worker")
    (folder / "token").write_text(f"{TOKEN}\nolder-token\n", encoding="utf-8")
    ready = folder / "ready"
    environment = {
        **os.environ,
        "SHUFFLE_NAME": "worker-0",
        "SHUFFLE_MEMORY": "512Mi",
        "SHUFFLE_SPILL_DIRS": str(folder / "spill"),
        "SHUFFLE_TOKEN_FILE": str(folder / "token"),
        "SHUFFLE_READY_FILE": str(ready),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "shuffle_worker.main"], env=environment, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
            assert time.monotonic() < deadline, "the worker was not ready within 30 s"
            time.sleep(0.02)
        yield Worker(process, json.loads(Path(ready).read_text(encoding="utf-8"))["http_port"])
    finally:
        process.terminate()
        assert process.wait(30) == 0, (folder / "log").read_text(encoding="utf-8")
    assert not list((folder / "spill").rglob("*.seg")), "segments are left"
