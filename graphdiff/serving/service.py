"""A model behind HTTP: recommendations, new items, and reloading without a pause.

Every caller that names an allowed host may ask for recommendations; changes need a token. See
:class:`~graphdiff.serving.access.Access`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import graphdiff
from graphdiff.errors import ConfigError, DataError, GraphDiffError, RunError
from graphdiff.models.base import Recommender
from graphdiff.serving.access import TOKEN_VARIABLE, Access, find_token
from graphdiff.serving.batching import Overloaded
from graphdiff.serving.live import Service
from graphdiff.serving.messages import (
    AddItemsRequest,
    Limits,
    RecommendRequest,
    RecommendResponse,
    ReloadRequest,
    faults,
    parse_json,
    sendable,
)
from graphdiff.serving.metrics import CONTENT_TYPE, Timed
from graphdiff.serving.served import Served

PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
)


class HostCheck:
    """Refuses requests that name a host, or come from pages of an origin, that is not allowed."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an allowed request on."""
        if scope["type"] in ("http", "websocket"):
            refusal = self._refusal(scope)
            if refusal is not None:
                await JSONResponse({"detail": refusal}, 403)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        default = 443 if scope.get("scheme") in ("https", "wss") else 80
        bound = (scope.get("server") or (None, None))[1] or default
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not self.access.allows_host(hosts[0], default, bound):
            return "this host is not allowed; the service can be started with --allow-host NAME"
        for name, value in scope["headers"]:
            if name == b"origin" and not self.access.allows_origin(value.decode("latin-1"), bound):
                return "pages of this origin may not call the service; see --allow-host"
        return None


class BodyLimit:
    """Refuses bodies over a number of bytes with 413, however they are sent."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count its body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = f"the body is over the limit of {self.limit} bytes"
        length = dict(scope["headers"]).get(b"content-length", b"0")
        # int() refuses thousands of digits.
        if length.isdigit() and (len(length) > 18 or int(length) > self.limit):
            await JSONResponse({"detail": refusal}, 413)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                raise HTTPException(413, refusal)
            return message

        await self.app(scope, counted, send)


Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class JsonRequest(Request):
    """A request whose body is parsed by :func:`~graphdiff.serving.messages.parse_json`."""

    async def json(self) -> Any:
        """Parse the body."""
        return parse_json(await self.body())


class JsonRoute(APIRoute):
    """A route whose requests are of :class:`JsonRequest`."""

    def get_route_handler(self) -> Handler:
        """Return the handler of a request."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(JsonRequest(request.scope, request.receive))

        return handle


class TokenRoute(JsonRoute):
    """A route that changes the service: without the token, not even its body is read."""

    def get_route_handler(self) -> Handler:
        """Return the handler of a request."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            access: Access = request.app.state.service.access
            if not access.allows_change(request.headers.get("authorization", "")):
                raise HTTPException(
                    401,
                    "changes need the service's token; send Authorization: Bearer TOKEN",
                    {"WWW-Authenticate": "Bearer"},
                )
            return await handler(request)

        return handle


def create_app(
    model: Recommender | Path | str,
    limits: Limits | None = None,
    access: Access | None = None,
    watch: float = 0,
) -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        model: A model, or the RUN folder that holds one.
        limits: Sizes that it accepts. (default: those of :class:`Limits`)
        access: Who may call and change it. (default: loopback hosts, and a generated token, which
            is ``app.state.service.access.token``)
        watch: Seconds between two looks whether the RUN folder holds another model, which is then
            loaded; 0 for never. (default: 0)

    Raises:
        ConfigError: If the model does not fold users in.
        RunError: If there is no whole model in the folder.
    """
    served = Served(model) if isinstance(model, Recommender) else Served.open(Path(model))
    limits = limits or Limits.model_validate({})
    service = Service(served, limits, access or Access(), watch)
    app = FastAPI(title="graphdiff", version=graphdiff.__version__, lifespan=service.lifespan)
    app.state.service = service
    app.add_middleware(BodyLimit, limit=limits.body)
    app.add_middleware(HostCheck, access=service.access)
    app.add_middleware(Timed, metrics=service.metrics)  # the last one added comes first
    for kind, status in {DataError: 422, RunError: 422, ConfigError: 409}.items():
        app.add_exception_handler(kind, _answering(status))
    app.add_exception_handler(GraphDiffError, _answering(500))
    app.add_exception_handler(Overloaded, _answering(503, {"Retry-After": "1"}))
    app.add_exception_handler(RequestValidationError, _refuse)
    app.include_router(_reading(service))
    app.include_router(_changing(service))
    return app


def _reading(service: Service) -> APIRouter:
    """Routes that every allowed caller may use."""
    router = APIRouter(route_class=JsonRoute)
    page = files("graphdiff.serving").joinpath("page.html").read_text(encoding="utf-8")

    @router.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": PAGE_POLICY})

    @router.get("/health")
    async def health() -> dict[str, Any]:
        """Return the served model, its sizes and the number of waiting requests."""
        return service.health()

    @router.get("/metrics")
    async def metrics() -> Response:
        """Return measurements for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    @router.post("/recommend")
    async def recommend(asked: RecommendRequest) -> RecommendResponse:
        """Return the best items of a user, given by their history alone."""
        return await service.recommend(asked)

    @router.get("/items")
    async def find_items(
        query: Annotated[str, Query(max_length=200)] = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
    ) -> dict[str, list[str]]:
        """Return raw ids that start with a text."""
        return {"items": service.served.item_ids.starting_with(query, limit)}

    return router


def _changing(service: Service) -> APIRouter:
    """Routes that need the token."""
    # The dependency is for the documentation; TokenRoute checks before anything is read.
    token = [Security(HTTPBearer(auto_error=False))]
    router = APIRouter(route_class=TokenRoute, dependencies=token)

    @router.post("/items", status_code=201)
    async def add_items(new: AddItemsRequest) -> dict[str, list[str]]:
        """Add items by their features; needs the token."""
        return {"items": await service.add_items(new)}

    @router.post("/reload")
    async def reload(other: ReloadRequest) -> dict[str, Any]:
        """Serve another RUN folder, without a pause; needs the token."""
        run = None if other.run is None else service.access.run_folder(other.run)
        if run is None and service.served.run is None:
            raise ConfigError("this model came from no folder; give run, the folder to load")
        if not await service.try_reload(run):
            raise RunError("not reloaded, the old model stays; the service's log says why")
        return service.health()

    return router


def _answering(status: int, headers: dict[str, str] | None = None) -> Any:
    async def answer(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": sendable(str(error))}, status, headers)

    return answer


async def _refuse(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"detail": faults(error.errors())}, 422)


def serve(
    run: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    token_file: Path | None = None,
    allow_host: Sequence[str] = (),
    runs: Path | None = None,
    watch: float = 0,
    **limits: Any,
) -> None:
    """Serve a RUN folder until SIGINT or SIGTERM; requests that are in are answered first.

    SIGHUP loads the folder again.

    Args:
        run: Folder written by training or ``save_pretrained``.
        host: Address to bind; other machines reach the service only at another than loopback.
        port: 0 for any that is free.
        token_file: File that holds the token for changes; otherwise ``$GRAPHDIFF_TOKEN`` is used,
            or a token is generated and printed.
        allow_host: Hosts that requests may name beside loopback and ``host``; see
            :class:`~graphdiff.serving.access.Access`.
        runs: Folder in which RUN folders may be loaded by request; by default only ``run``.
        watch: Seconds between two looks whether ``run`` holds another model, which is then loaded;
            0 for never.
        **limits: Fields of :class:`Limits`.

    Raises:
        ConfigError: If the model does not fold users in, or an option cannot be used.
        RunError: If there is no whole model in the folder.
        OSError: If the address cannot be bound.
    """
    token = find_token(token_file)
    access = Access(token, [*allow_host, *_named(host)], runs)
    app = create_app(run, Limits(**limits), access, watch)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=2048) as listening:
        # An answer goes out in two writes; without this the second waits 40 ms for the first to be
        # acknowledged. Connections inherit it. (asyncio sets it on sockets that it makes itself.)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        shown = f"[{host}]" if ":" in host else host
        print(f"serving {run} on http://{shown}:{listening.getsockname()[1]}/", flush=True)
        if token is None:
            print(f"token for changes (none in ${TOKEN_VARIABLE}): {access.token}", flush=True)
        # Any caller can send forwarding headers, so they are not read.
        config = uvicorn.Config(app, access_log=False, proxy_headers=False)
        uvicorn.Server(config).run(sockets=[listening])


def _named(host: str) -> list[str]:
    """The bound address as a host that requests may name; none where it stands for all."""
    with suppress(ValueError):
        if ip_address(host).is_unspecified:
            return []
    return [host.partition("%")[0]] if host else []
