"""The `shuffle-worker` process: assembles the parts, says where it listens, ends in order on SIGTERM."""

import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import uvicorn

from shuffle_worker.api.app import build_app
from shuffle_worker.api.operations import Served, operations
from shuffle_worker.errors import ShuffleError, SpecError
from shuffle_worker.figures import DESCRIBED
from shuffle_worker.job.manager import JobManager
from shuffle_worker.logs import start_logging
from shuffle_worker.metrics import Metrics
from shuffle_worker.service.service import ShuffleService
from shuffle_worker.settings import Settings
from shuffle_worker.version import VERSION

log = logging.getLogger(__name__)
PR_SET_PDEATHSIG = 1
DRAIN_S = 20.0


class Server(uvicorn.Server):
    """Uvicorn without its own signal handlers: this process has its own order of ending."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main() -> int:
    """Run until SIGTERM or SIGINT; 0 after an orderly end, 2 when the settings are refused."""
    try:
        die_with_parent()
        settings = Settings.from_environment()
        start_logging(settings.name, settings.log_level)
        return run(settings)
    except ShuffleError as error:
        print(f"shuffle-worker: {error}", file=sys.stderr)
        return 2


def die_with_parent() -> None:
    """SHUFFLE_PARENT_PID: the kernel ends this process with that one, however it ends."""
    parent = os.environ.get("SHUFFLE_PARENT_PID")
    if parent is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        raise SpecError(f"the parent {parent} is gone already", "SHUFFLE_PARENT_PID")


def run(settings: Settings) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    listener = listen(settings.http_host, settings.http_port)
    metrics = Metrics()
    service = ShuffleService.of_settings(settings)
    jobs = JobManager(service, settings, metrics)
    metrics.add_figures(service.figures, DESCRIBED)
    served = Served(service, service.cluster, jobs, metrics, stop.is_set)
    app = build_app(operations(served), settings.tokens, VERSION)
    server = Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="http", daemon=True)
    thread.start()
    try:
        announce(settings, listener.getsockname()[1], service.port)
        stop.wait()
        log.info("ending: map attempts under way are finished or aborted")
        jobs.shutdown(DRAIN_S)
    finally:
        server.should_exit = True
        thread.join(5)
        service.shutdown()
        listener.close()
    return 0


def listen(host: str, port: int) -> socket.socket:
    """:raises SpecError: the port is in use, or the host is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SpecError(
            f"cannot listen on {host}:{port}: {error.strerror}: choose another port, or 0 for any free one",
            "SHUFFLE_HTTP_PORT",
        ) from None
    listener.listen(128)
    return listener


def announce(settings: Settings, http_port: int, data_port: int) -> None:
    """Log where this worker listens, and put it into the ready file, whole or not at all."""
    where = {
        "name": settings.name,
        "incarnation": settings.incarnation,
        "http_port": http_port,
        "data_port": data_port,
    }
    log.info("ready", extra={"fields": where})
    if settings.ready_file is not None:
        staged = settings.ready_file.with_suffix(".new")
        staged.write_text(json.dumps(where), encoding="utf-8")
        staged.replace(settings.ready_file)


def end(code: int) -> None:
    """Leave without tearing the interpreter down: everything is closed, and the last collection takes a second."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    end(main())
