"""A worker's HTTP API as the supervisor calls it. Standard library only, so that a supervisor stays small."""

import http.client
import json
from typing import Any

from shuffle_worker.errors import DeadlineExceeded, Fenced, PeerError, PeerLost, UserError

ANSWER_S = 5.0


class WorkerClient:
    """Calls one worker; every call has a deadline and says whom it called.

    :raises PeerLost: nobody listens there, or the connection broke.
    :raises DeadlineExceeded: no answer within `timeout_s`.
    :raises UserError: the worker refuses (400, 404, 422). :raises Fenced: an older epoch (409).
    """

    def __init__(self, name: str, host: str, port: int, token: str) -> None:
        self.name = name
        self._host = host
        self._port = port
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: object = None, timeout_s: float = ANSWER_S) -> Any:
        """The decoded JSON answer of one request."""
        where = f"worker {self.name} at {self._host}:{self._port}"
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self._headers)
            response = connection.getresponse()
            status, text = response.status, response.read()
        except TimeoutError:
            raise DeadlineExceeded(f"{where} did not answer {method} {path} within {timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise PeerLost(f"{where}: {method} {path} failed: {error}") from error
        finally:
            connection.close()
        answer = json.loads(text) if text else None
        if status < 300:
            return answer
        message = answer.get("error", "") if isinstance(answer, dict) else str(answer)
        raise {400: UserError, 404: UserError, 422: UserError, 409: Fenced}.get(status, PeerError)(
            message or f"{where} answered {status} to {method} {path}"
        )
