"""A model behind HTTP: recommendations, new items, and reloading without a pause.

Every caller that names an allowed host may ask for recommendations; changes need a token. See
:class:`~graphdiff.serving.access.Access`.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

import graphdiff
from graphdiff.errors import ConfigError, DataError, GraphDiffError, RunError
from graphdiff.models.base import Recommender
from graphdiff.serving.access import TOKEN_VARIABLE, Access, find_token
from graphdiff.serving.batching import Overloaded
from graphdiff.serving.live import Service
from graphdiff.serving.messages import Limits, faults, sendable
from graphdiff.serving.metrics import Timed
from graphdiff.serving.middleware import BodyLimit, HostCheck
from graphdiff.serving.pages import pages
from graphdiff.serving.routes import changing, reading
from graphdiff.serving.served import Served


def create_app(
    model: Recommender | Path | str,
    limits: Limits | None = None,
    access: Access | None = None,
    watch: float = 0,
    image_hosts: Sequence[str] = (),
) -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        model: A model, or the RUN folder that holds one.
        limits: Sizes that it accepts. (default: those of :class:`Limits`)
        access: Who may call and change it. (default: loopback hosts, and a generated token, which
            is ``app.state.service.access.token``)
        watch: Seconds between two looks whether the RUN folder holds another model, which is then
            loaded; 0 for never. (default: 0)
        image_hosts: Hosts, as ``name`` or ``name:port``, from which the page may load pictures of
            items. (default: none; pictures given as data URIs are always shown)

    Raises:
        ConfigError: If the model does not fold users in, or a host cannot be used.
        RunError: If there is no whole model in the folder.
    """
    served = Served(model) if isinstance(model, Recommender) else Served.open(Path(model))
    limits = limits or Limits.model_validate({})
    service = Service(served, limits, access or Access(), watch, image_hosts)
    app = FastAPI(
        title="graphdiff",
        version=graphdiff.__version__,
        lifespan=service.lifespan,
        docs_url=None,  # FastAPI's own pages load scripts from other sites
        redoc_url=None,
    )
    app.state.service = service
    app.add_middleware(BodyLimit, limit=limits.body)
    app.add_middleware(HostCheck, access=service.access)
    app.add_middleware(Timed, metrics=service.metrics)  # the last one added comes first
    for kind, status in {DataError: 422, RunError: 422, ConfigError: 409}.items():
        app.add_exception_handler(kind, _answering(status))
    app.add_exception_handler(GraphDiffError, _answering(500))
    app.add_exception_handler(Overloaded, _answering(503, {"Retry-After": "1"}))
    app.add_exception_handler(RequestValidationError, _refuse)
    app.include_router(reading(service))
    app.include_router(changing(service))
    app.include_router(pages(service.image_hosts))
    return app


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
    image_host: Sequence[str] = (),
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
        image_host: Hosts from which the page may load pictures of items.
        **limits: Fields of :class:`Limits`.

    Raises:
        ConfigError: If the model does not fold users in, or an option cannot be used.
        RunError: If there is no whole model in the folder.
        OSError: If the address cannot be bound.
    """
    token = find_token(token_file)
    access = Access(token, [*allow_host, *_named(host)], runs)
    app = create_app(run, Limits(**limits), access, watch, image_host)
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
