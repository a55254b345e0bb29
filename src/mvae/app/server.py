"""The server: the page at ``/``, the endpoint ``POST /generate``, limits, and headers that keep browsers offline."""

import json
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mvae.app.answers import MOST_DRAWS, Oracle
from mvae.app.values import MOST_BYTES, MOST_PIXELS
from mvae.errors import RunError, UserError, nearest, require_extra

__all__ = ["HOST", "Question", "bound", "prepared", "web_app"]

HOST = "127.0.0.1"
GRACE = 2  # seconds that an open page may continue once the process is to stop; a page never stops listening
WAITING = 16  # the most queries that may wait for their turn
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Question(BaseModel):
    """The JSON object that ``POST /generate`` takes."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    given: dict[str, Any] = Field(default={}, description="Modality → its value (`mvae.app.values.parsed`).")
    of: list[str] | None = Field(default=None, description="The modalities to draw. Default: all of them.")
    n: int = Field(default=8, ge=1, le=MOST_DRAWS, description="The number of draws.")
    seed: int | None = Field(default=None, ge=0, lt=2**31, description="Seed. Default: a new one each time.")


def web_app(oracle: Oracle) -> Any:
    """The application (ASGI).

    Raises:
        MissingDependencyError: Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before it is imported
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = os.environ["HF_HUB_OFFLINE"] = "1"
    gradio = require_extra("gradio", "app", "pages")
    fastapi = require_extra("fastapi", "app", "pages")
    hosts = require_extra("starlette.middleware.trustedhost", "app", "pages")
    from PIL import Image

    from mvae.app.page import page, theme

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Gradio opens pictures itself; Pillow refuses twice as many
    app = fastapi.FastAPI(title="mvae", docs_url=None, redoc_url=None, openapi_url=None)
    turns = threading.BoundedSemaphore(WAITING)

    def generate(question: Question) -> dict[str, Any]:
        if not turns.acquire(blocking=False):
            raise fastapi.HTTPException(503, "too many queries are waiting: try again later")
        try:
            found = oracle.answer(oracle.row(question.given), question.of, question.n, question.seed)
            return found | {"unknown": oracle.unknown_words(question.given)}
        except UserError as error:
            raise fastapi.HTTPException(422, str(error)) from None
        finally:
            turns.release()

    def refuse(_request: Any, error: Any) -> Any:
        said = json.dumps({"detail": _sentence(error.errors()[0])})  # escapes lone surrogates; a JSONResponse cannot
        return fastapi.Response(said, 422, media_type="application/json")

    app.post("/generate")(generate)
    app.exception_handler(fastapi.exceptions.RequestValidationError)(refuse)
    blocks = page(oracle).queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)
    app = gradio.mount_gradio_app(
        app,
        blocks,
        "/",
        server_name=HOST,
        show_error=True,
        max_file_size=MOST_BYTES,
        ssr_mode=False,
        pwa=False,
        enable_monitoring=False,
        mcp_server=False,
        footer_links=[],
        theme=theme(),
    )
    app.add_middleware(hosts.TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    app.add_middleware(_Guard)
    return app


def _sentence(problem: Mapping[str, Any]) -> str:
    """What is wrong with a request's body, from one of Pydantic's errors."""
    key, kind, known = ".".join(map(str, problem["loc"][1:])), problem["type"], list(Question.model_fields)
    if kind == "json_invalid":
        return f"the body is not JSON: {problem['ctx']['error']}"
    if kind == "extra_forbidden":
        return f"there is no {key[:50]!r}; there are {', '.join(known)}{nearest(key, known)}"
    if kind == "model_attributes_type" or not key:
        return 'the body must be a JSON object such as {"given": {}}, sent with Content-Type: application/json'
    return f"{key}: {problem['msg']}"


class _Guard:
    """Middleware that refuses bodies that are too large, and forbids pages to load anything from elsewhere."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > MOST_BYTES:
            await send({"type": "http.response.start", "status": 413, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": f"at most {MOST_BYTES // 2**20} MB\n".encode()})
            return
        got = 0

        async def bounded() -> Any:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            return message if got <= MOST_BYTES else {"type": "http.disconnect"}  # announced less, or nothing

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = {
                    b"content-security-policy": POLICY.encode(),
                    b"x-content-type-options": b"nosniff",
                    b"referrer-policy": b"no-referrer",
                }
                message = message | {"headers": [*message.get("headers", []), *extra.items()]}
            await send(message)

        await self.app(scope, bounded, guarded)


def bound(port: int) -> socket.socket:
    """A socket that only this machine can reach.

    Raises:
        RunError: the port is in use, or not allowed.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()  # a client that comes before the server runs waits, and is not refused
    except OSError as error:
        listening.close()
        raise RunError(f"port {port} cannot be used ({error.strerror}): choose another with --port") from None
    return listening


def prepared(oracle: Oracle) -> Any:
    """The server of uvicorn; its ``run(sockets=[bound(port)])`` answers queries until the process is stopped.

    Raises:
        MissingDependencyError: Gradio or uvicorn is not installed.
    """
    uvicorn = require_extra("uvicorn", "app", "pages")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = uvicorn.Config(
        web_app(oracle), log_level="warning", workers=1, limit_concurrency=128, timeout_graceful_shutdown=GRACE
    )
    return uvicorn.Server(config)
