"""The HTTP side of a worker: tokens, decoding, errors as sentences. Decides nothing; the operations do.

Runs on uvicorn's threads; every operation is a plain function and may block for its deadline.
"""

import hmac
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shuffle_worker.api.openapi import Operation, describe
from shuffle_worker.errors import DeadlineExceeded, Fenced, PeerError, ShuffleError, UserError

log = logging.getLogger(__name__)
MAX_BODY_BYTES = 4 << 20


class NotFound(UserError):
    """There is no such thing here."""


class Plain(msgspec.Struct, frozen=True):
    """An answer that is not JSON."""

    text: str
    media_type: str


def build_app(operations: Sequence[Operation], tokens: tuple[str, ...], version: str) -> Starlette:
    """The application that serves these operations and their description at /openapi.json."""
    document = describe(operations, "shuffle-worker", version)

    async def openapi(request: Request) -> Response:
        return _refusal(request, tokens) or JSONResponse(document)

    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    routes = [Route(path, _endpoint(methods, tokens), methods=list(methods)) for path, methods in by_path.items()]
    return Starlette(routes=[*routes, Route("/openapi.json", openapi)])


def _endpoint(methods: dict[str, Operation], tokens: tuple[str, ...]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        operation = methods.get(request.method) or methods["GET"]
        if not operation.open and (refusal := _refusal(request, tokens)):
            return refusal
        try:
            body = await _body(request, operation)
            answer = await run_in_threadpool(operation.serve, request, body)
        except ShuffleError as error:
            return _error(_status_of(error), str(error))
        except Exception:
            log.exception("%s %s failed", request.method, request.url.path)
            return _error(500, "a fault of this worker: its log has the details")
        if isinstance(answer, Plain):
            return Response(answer.text, media_type=answer.media_type)
        return Response(msgspec.json.encode(answer), media_type="application/json")

    return endpoint


async def _body(request: Request, operation: Operation) -> Any:
    if operation.body is None:
        return None
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise UserError(f"the body is larger than {MAX_BODY_BYTES} bytes")
    try:
        return msgspec.json.decode(bytes(data), type=operation.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"the body does not fit: {error}") from None


def _refusal(request: Request, tokens: tuple[str, ...]) -> Response | None:
    """None when the request carries a valid token, or none is asked for."""
    if not tokens:
        return None
    given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
    if any(hmac.compare_digest(given, token.encode()) for token in tokens):
        return None
    return _error(401, "wrong token: send the cluster's token as `Authorization: Bearer ...`")


def _status_of(error: ShuffleError) -> int:
    for kind, status in ((NotFound, 404), (UserError, 422), (Fenced, 409), (DeadlineExceeded, 504), (PeerError, 503)):
        if isinstance(error, kind):
            return status
    return 500


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)
