"""Services for tests: in this process without a socket, or by a real server on loopback."""

import asyncio
import threading
import time
from contextlib import contextmanager

import pytest
import torch

from graphdiff import LD4MRec
from graphdiff.serving.access import Access
from tests.conftest import make_model, random_data

httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")

from graphdiff.serving.service import Limits, create_app  # noqa: E402

TOKEN = "a-token-for-tests-only"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def make(seed=0, num_items=40, ids="item-{}", **settings):
    """An LD4MRec with two modalities; ``ids`` is a pattern, a list, or None for no raw ids."""
    data = random_data(30, num_items, {"image": 6, "text": 5}, seed, density=0.15)
    model = make_model(LD4MRec, data, seed, **settings).eval()
    torch.nn.init.normal_(model.bias)
    if isinstance(ids, str):
        ids = [ids.format(number) for number in range(num_items)]
    model.catalogue.item_ids = ids
    return model


class Client:
    """A service in this process, asked through ASGI; for use in a ``with`` block.

    Args:
        app: What :func:`create_app` returned.
        headers: Sent along with each request. (default: the token for tests)
        address: Where requests seem to come from.
    """

    def __init__(self, app, headers=BEARER, address="127.0.0.1", loop=None):
        self.app = app
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 1))
        self._client = httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers, timeout=60
        )
        self._loop = loop or asyncio.new_event_loop()

    def by(self, headers, address="127.0.0.1"):
        """Return another client of the same service, which sends other headers."""
        return Client(self.app, headers, address, self._loop)

    def __enter__(self):
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._lifespan = self.app.router.lifespan_context(self.app)
        self._run(self._lifespan.__aenter__())
        return self

    def __exit__(self, *error):
        self._run(self._lifespan.__aexit__(None, None, None))
        self._run(self._client.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def request(self, method, path, **options):
        return self._run(self._client.request(method, path, **options))

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, **options):
        return self.request("POST", path, **options)

    def post_text(self, path, text):
        """Post a body unchanged, declared as JSON."""
        headers = {"Content-Type": "application/json"}
        return self.post(path, content=text, headers=headers)


def local(model, access=None, **limits):
    """Return a client of a model's service in this process."""
    access = Access(TOKEN) if access is None else access
    return Client(create_app(model, Limits(**limits), access))


@contextmanager
def serving(model, access=None, **limits):
    """Yield a client of a real server in a thread; leaving drains it."""
    access = Access(TOKEN) if access is None else access
    app = create_app(model, Limits(**limits), access)
    config = uvicorn.Config(app, port=0, log_level="error", proxy_headers=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=BEARER, timeout=20
        ) as client:
            client.stop = lambda: setattr(server, "should_exit", True)
            yield client
    finally:
        server.should_exit = True
        thread.join()


def until(true, seconds=60):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def wait_in(model, monkeypatch):
    """Make ``recommend`` wait; return the event that it was entered, and the one to let it go."""
    entered, go, recommend = threading.Event(), threading.Event(), model.recommend

    def waiting(*args, **kwargs):
        entered.set()
        assert go.wait(20)
        return recommend(*args, **kwargs)

    monkeypatch.setattr(model, "recommend", waiting)
    return entered, go
