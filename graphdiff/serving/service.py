"""A model behind HTTP: recommendations, new items, and another model without a pause.

Whoever reaches the service may ask; what changes it is taken from the same machine only. There is
no sign-in: bind it to loopback, or put something in front that knows who is who.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictInt, StrictStr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import graphdiff
from graphdiff.errors import ConfigError, DataError, GraphDiffError, RunError
from graphdiff.models.base import Recommender
from graphdiff.serving.batching import Batcher, Overloaded
from graphdiff.serving.served import Answer, Question, Served, answer_together

log = logging.getLogger("uvicorn.error")
Item = StrictStr | StrictInt


class Limits(BaseModel):
    """How much a service takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    items: int = Field(1000, ge=1, description="Most items, and excluded items, of one request.")
    candidates: int = Field(100_000, ge=1, description="Most candidates of one request.")
    k: int = Field(500, ge=1, description="Most items recommended.")
    new_items: int = Field(1000, ge=1, description="Most items added at once.")
    body: int = Field(2**21, ge=1, description="Bytes of a request's body.")
    queue: int = Field(256, ge=1, description="Most requests that wait.")
    batch: int = Field(64, ge=1, description="Most requests answered in one call.")
    wait: float = Field(0.002, ge=0, description="Seconds that a request waits for others.")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Wanted(_Body):
    """What to recommend. Items are raw ids as text, or indices as integers."""

    items: list[Item] = Field(min_length=1, description="What the person has interacted with.")
    k: int = Field(20, ge=1, description="Number of items; fewer come where fewer remain.")
    exclude: list[Item] = Field([], description="Items not wanted, beside those of the person.")
    candidates: list[Item] | None = Field(
        None, min_length=1, description="The items that may be recommended; all by default."
    )


class NewItems(_Body):
    """Items that the model was not trained on."""

    features: dict[str, list[list[FiniteFloat] | None]] = Field(
        description="Per modality a vector for each item; null where an item lacks it."
    )
    ids: list[StrictStr] | None = Field(None, description="Raw ids, where the model has such.")


class OtherRun(_Body):
    """A RUN folder to serve from now on."""

    run: StrictStr | None = Field(None, description="The folder; the present one by default.")


class Scored(BaseModel):
    """An item and its score."""

    item: str | int
    score: float


class Recommended(BaseModel):
    """The answer to a request."""

    items: list[Scored]
    gate: dict[str, float] | None = Field(description="Share of each modality, if the model tells.")
    model: str


class Service:
    """The model at hand and the queue before it.

    Args:
        served: The first model.
        limits: How much is taken.
    """

    def __init__(self, served: Served, limits: Limits) -> None:
        self.served, self.limits = served, limits
        self.loads = 1
        self._changing = asyncio.Lock()
        self.batcher: Batcher[Question, Answer] = Batcher(
            answer_together, limits.queue, limits.batch, limits.wait
        )

    async def recommend(self, wanted: Wanted) -> Recommended:
        """Answers one request, together with others.

        Raises:
            DataError: If a limit is passed or an item is unknown.
            Overloaded: If too many wait.
        """
        limits, served = self.limits, self.served
        _within("items", len(wanted.items), limits.items)
        _within("exclude", len(wanted.exclude), limits.items)
        _within("candidates", len(wanted.candidates or []), limits.candidates)
        _within("k", wanted.k, limits.k)
        index = served.catalogue.index_of
        allowed = None if wanted.candidates is None else [index(one) for one in wanted.candidates]
        question = Question(
            served,
            [index(one) for one in wanted.items],
            wanted.k,
            tuple(index(one) for one in wanted.exclude),
            allowed,
        )
        answer = await self.batcher.ask(question)
        scored = [Scored(item=item, score=score) for item, score in answer.items]
        return Recommended(items=scored, gate=answer.gate, model=served.name)

    async def add_items(self, new: NewItems) -> list[str]:
        """Adds items; they are gone when a model is loaded.

        Raises:
            ConfigError: If the model cannot take new items.
            DataError: If a limit is passed, or features or ids do not fit.
        """
        for name, vectors in new.features.items():
            _within(f"features of {name}", len(vectors), self.limits.new_items)
        async with self._changing:
            served = self.served
            return await self.batcher.between(lambda: served.add_items(new.features, new.ids))

    async def reload(self, run: Path | None = None) -> None:
        """Loads a RUN folder beside the model at hand, then serves it instead. Requests that are
        waiting are answered by the model that they were put to.

        Raises:
            RunError: If there is no whole model in the folder; the old one goes on.
            ConfigError: If it cannot be served; likewise.
        """
        async with self._changing:
            folder = self.served.run if run is None else run
            if folder is None:
                raise ConfigError("this model came from no folder; give run, the folder to load")
            self.served = await asyncio.to_thread(Served.open, folder)
            self.loads += 1
        log.info("serving %s of %s", self.served.name, folder)

    async def try_reload(self) -> None:
        """Reloads for a signal: what is wrong with the folder goes to the log."""
        try:
            await self.reload()
        except Exception as error:
            log.error("not reloaded, the old model goes on: %s", error)

    def health(self) -> dict[str, Any]:
        """What is served, and how many requests wait."""
        model = self.served.model
        return {
            "status": "ok",
            "model": self.served.name,
            "users": model.num_users,
            "items": len(self.served.catalogue),
            "modalities": list(model.graph.modalities),
            "version": graphdiff.__version__,
            "loads": self.loads,
            "queue": self.batcher.waiting,
            "queue_limit": self.limits.queue,
        }

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """From start to the last answer."""
        self.batcher.start()
        loop, reloads = asyncio.get_running_loop(), set()

        def hang_up() -> None:
            task = loop.create_task(self.try_reload())
            reloads.add(task)  # the loop itself holds tasks weakly
            task.add_done_callback(reloads.discard)

        # Only the main thread hears signals, and not every system has this one.
        with suppress(AttributeError, NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(signal.SIGHUP, hang_up)
        yield
        await self.batcher.close()


def _within(what: str, found: int, limit: int) -> None:
    if found > limit:
        raise DataError(f"{what}: {found} is over the limit of {limit}")


class BodyLimit:
    """Refuses bodies over a number of bytes with 413, however they are sent."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on and counts its body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        told = f"the body is over the limit of {self.limit} bytes"
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.limit:
            await JSONResponse({"detail": told}, 413)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                raise HTTPException(413, told)
            return message

        await self.app(scope, counted, send)


def _from_here(request: Request) -> None:
    """Refuses who is not on this machine."""
    try:
        here = ipaddress.ip_address(request.client.host if request.client else "").is_loopback
    except ValueError:
        here = False
    if not here:
        raise HTTPException(403, "accepted from this machine (loopback) only")


def create_app(model: Recommender | Path | str, limits: Limits | None = None) -> FastAPI:
    """The service as an ASGI application.

    Args:
        model: A model, or the RUN folder that holds one.
        limits: How much it takes; the defaults of :class:`Limits` otherwise.

    Raises:
        ConfigError: If the model does not fold in.
        RunError: If there is no whole model in the folder.
    """
    served = Served(model) if isinstance(model, Recommender) else Served.open(Path(model))
    limits = limits or Limits.model_validate({})
    service = Service(served, limits)
    app = FastAPI(title="graphdiff", version=graphdiff.__version__, lifespan=service.lifespan)
    app.state.service = service
    app.add_middleware(BodyLimit, limit=limits.body)
    for kind, status in {DataError: 422, RunError: 422, ConfigError: 409}.items():
        app.add_exception_handler(kind, _telling(status))
    app.add_exception_handler(GraphDiffError, _telling(500))
    app.add_exception_handler(Overloaded, _telling(503, {"Retry-After": "1"}))
    page = files("graphdiff.serving").joinpath("page.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show() -> HTMLResponse:
        own = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; "
        policy = own + "style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """What is served, and how many requests wait."""
        return service.health()

    @app.post("/recommend")
    async def recommend(wanted: Wanted) -> Recommended:
        """The best items for a person, of whom only their items need be known."""
        return await service.recommend(wanted)

    @app.get("/items")
    async def find_items(
        query: Annotated[str, Query(max_length=200)] = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
    ) -> dict[str, list[str]]:
        """Raw ids that start with a text."""
        return {"items": service.served.catalogue.starting_with(query, limit)}

    @app.post("/items", status_code=201, dependencies=[Depends(_from_here)])
    async def add_items(new: NewItems) -> dict[str, list[str]]:
        """Adds items by their features; from this machine only."""
        return {"items": await service.add_items(new)}

    @app.post("/reload", dependencies=[Depends(_from_here)])
    async def reload(other: OtherRun) -> dict[str, Any]:
        """Serves another RUN folder, without a pause; from this machine only."""
        await service.reload(None if other.run is None else Path(other.run))
        return service.health()

    return app


def _telling(status: int, headers: dict[str, str] | None = None) -> Any:
    async def tell(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status, headers)

    return tell


def serve(run: Path, host: str = "127.0.0.1", port: int = 8000, **limits: Any) -> None:
    """Serves a RUN folder until SIGINT or SIGTERM; requests that are in are answered first.

    SIGHUP loads the folder anew.

    Args:
        run: Folder written by training or ``save_pretrained``.
        host: Address to bind; other machines reach the service only at another than loopback.
        port: 0 for any that is free.
        **limits: Fields of :class:`Limits`.

    Raises:
        ConfigError: If the model does not fold in.
        RunError: If there is no whole model in the folder.
        OSError: If the address cannot be bound.
    """
    app = create_app(run, Limits(**limits))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=2048) as listening:
        # An answer goes out in two writes; without this the second waits 40 ms for the first to be
        # acknowledged. Connections inherit it. (asyncio sets it on sockets that it makes itself.)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        shown = f"[{host}]" if ":" in host else host
        print(f"serving {run} on http://{shown}:{listening.getsockname()[1]}/", flush=True)
        uvicorn.Server(uvicorn.Config(app, access_log=False)).run(sockets=[listening])
