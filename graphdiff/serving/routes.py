"""The endpoints of the service."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Security
from fastapi.responses import Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from graphdiff.errors import ConfigError, RunError
from graphdiff.serving.access import Access
from graphdiff.serving.messages import (
    AddItemsRequest,
    ExplainRequest,
    ExplainResponse,
    FoundItems,
    RecommendRequest,
    RecommendResponse,
    ReloadRequest,
    SimilarResponse,
    parse_json,
)
from graphdiff.serving.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from graphdiff.serving.live import Service

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


def reading(service: Service) -> APIRouter:
    """Routes that every allowed caller may use."""
    router = APIRouter(route_class=JsonRoute)

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

    @router.post("/explain")
    async def explain(asked: ExplainRequest) -> ExplainResponse:
        """Return why items have their scores for a user, given by their history alone."""
        return await service.explain(asked)

    @router.get("/similar")
    async def similar(
        item: Annotated[str | None, Query(max_length=1000)] = None,
        item_index: int | None = None,
        k: Annotated[int, Query(ge=1)] = 10,
    ) -> SimilarResponse:
        """Return the items most similar to one, given by its raw id or its index."""
        return await service.similar(item, item_index, k)

    @router.get("/items")
    async def find_items(
        query: Annotated[str, Query(max_length=200)] = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        item: Annotated[list[str] | None, Query(max_length=100)] = None,
    ) -> FoundItems:
        """Return items whose id starts with a text or whose title has its words; by default those
        with the most training users. With `item`, repeatable, return the items of these ids."""
        items = service.served.items
        if item is not None:
            return FoundItems(items=[items.card(items.ids.index(one)) for one in item])
        return FoundItems(items=items.find(query, limit))

    return router


def changing(service: Service) -> APIRouter:
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
