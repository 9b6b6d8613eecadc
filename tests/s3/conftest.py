"""A real S3 server over a folder: the Go module versitygw, built once into .cache/ and run on loopback.

Without Go these tests are skipped, except where CI=true says that everything must run.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

MODULE = "github.com/versity/versitygw/cmd/versitygw"
VERSION = "v1.8.0"
ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / ".cache" / f"versitygw-{VERSION}" / "versitygw"
BUILD_TIMEOUT_S = 240
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 10
ACCESS, SECRET, REGION = "test", "test-secret", "us-east-1"


def _unavailable(why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"tests on S3 must run in CI, but {why}")
    pytest.skip(f"no S3 server: {why}")


def _build() -> None:
    """One process builds, others may look on: `go install` renames the program into place when it is whole."""
    if BINARY.exists():
        return
    go = shutil.which("go")
    if go is None:
        _unavailable("Go is not installed (it builds versitygw)")
    environment = os.environ | {"GOBIN": str(BINARY.parent), "GOFLAGS": "-mod=mod"}
    try:
        subprocess.run(
            [go, "install", f"{MODULE}@{VERSION}"],
            cwd=ROOT,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        _unavailable(f"go install {MODULE}@{VERSION} failed: {error.stderr.strip()[-500:]}")
    except subprocess.TimeoutExpired:
        _unavailable(f"go install {MODULE}@{VERSION} took longer than {BUILD_TIMEOUT_S} s")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _await_start(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"versitygw did not listen on port {port} within {START_TIMEOUT_S} s: {log.read_text()[-1000:]}")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a server that runs until the session ends. Its folder has a bucket for each folder in it."""
    _build()
    home = tmp_path_factory.mktemp("s3")
    for name in ("buckets", "metadata"):
        (home / name).mkdir()
    port, log = _free_port(), home / "log"
    command = [
        str(BINARY), "--port", f"127.0.0.1:{port}", "--access", ACCESS, "--secret", SECRET, "--region", REGION,
        "posix", "--sidecar", str(home / "metadata"), str(home / "buckets"),
    ]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=home)
    try:
        _await_start(process, port, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the server, which the code under test finds by its environment too."""
    for name, value in {
        "AWS_ENDPOINT_URL_S3": s3_server,
        "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    from shuffle_worker.s3 import s3_client

    return s3_client()


@pytest.fixture
def bucket(s3: Any) -> str:
    """An empty bucket of this test's own."""
    name = f"test-{time.monotonic_ns()}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def put(s3: Any, bucket: str) -> Callable[[str, bytes], str]:
    """Store an object; its path as s3://bucket/key."""

    def store(key: str, body: bytes) -> str:
        s3.put_object(Bucket=bucket, Key=key, Body=body)
        return f"s3://{bucket}/{key}"

    return store
