"""The load benchmark against a service that is slow on purpose."""

import asyncio
import time

import pytest

from tests.conftest import make_model, random_data

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

import load

from graphdiff import LD4MRec
from tests.serving.client import serving


@pytest.fixture
def slow(monkeypatch):
    """A slow model."""
    model = make_model(LD4MRec, random_data(num_items=30)).eval()
    recommend = model.recommend

    def slowly(*args, **kwargs):
        time.sleep(0.01)
        return recommend(*args, **kwargs)

    monkeypatch.setattr(model, "recommend", slowly)
    return model


def test_overload_is_refused_and_the_service_goes_on(slow):
    with serving(slow, queue=2, batch=1) as client:
        found = asyncio.run(load.overloaded(str(client.base_url), factor=5, seconds=0.4))
    assert found["refused"] > 0
    assert found["answered"] > 0
    assert (found["dropped"], found["errors"]) == (0, 0)
    assert found["health"]["longest_queue"] <= 2
    assert found["after"]["answered"] == 20


def test_dropped_requests_are_counted():
    caller = load.Caller("http://127.0.0.1:9/")  # no server
    caller.items = 30
    asyncio.run(caller.ask())
    assert caller.figures(1)["dropped"] == 1
