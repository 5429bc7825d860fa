"""Checks of every request before it is read: the host that it names, and its size."""

from __future__ import annotations

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graphdiff.serving.access import Access


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
