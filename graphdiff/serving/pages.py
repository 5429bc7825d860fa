"""The page to try a model out, and the documentation of the endpoints, from files on this machine.

A page may load nothing but what the service itself sends, so that no request leaves the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

import fastapi_swagger
from fastapi import APIRouter
from fastapi.responses import Response

#: Paths of the page and its files in this package.
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/docs": ("docs.html", "text/html"),
    "/docs.js": ("docs.js", "text/javascript"),
}
#: Paths of Swagger UI, which the package fastapi-swagger contains.
SWAGGER = {
    "/swagger-ui-bundle.js": "text/javascript",
    "/swagger-ui.css": "text/css",
}
_POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self'{styles}; "
    "img-src 'self' data:{images}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def pages(image_hosts: Sequence[str]) -> APIRouter:
    """Return the routes of the page and of the documentation.

    Args:
        image_hosts: Hosts from which the page may load pictures of items.
    """
    router = APIRouter(include_in_schema=False)
    folder = files("graphdiff.serving") / "page"
    policy = _POLICY.format(styles="", images="".join(f" {host}" for host in image_hosts))
    # Swagger UI sets style attributes.
    docs_policy = _POLICY.format(styles=" 'unsafe-inline'", images="")
    for path, (name, kind) in PAGE.items():
        chosen = docs_policy if path == "/docs" else policy
        _add(router, path, (folder / name).read_bytes(), kind, chosen)
    swagger = files(fastapi_swagger) / "resources"
    for path, kind in SWAGGER.items():
        _add(router, path, (swagger / path.lstrip("/")).read_bytes(), kind, docs_policy)
    return router


def _add(router: APIRouter, path: str, content: bytes, kind: str, policy: str) -> None:
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}

    async def show() -> Response:
        return Response(content, headers=headers, media_type=f"{kind}; charset=utf-8")

    router.add_api_route(path, show, response_class=Response)
