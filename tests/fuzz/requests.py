"""Requests that are fuzzed: JSON bodies for every endpoint, and arguments of models' methods."""

from __future__ import annotations

import asyncio
import atexit
import datetime
import decimal
import json
import random
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import torch

from graphdiff import LD4MRec
from graphdiff.errors import DataError
from graphdiff.schema import build_data
from graphdiff.serving.access import Access
from graphdiff.serving.service import create_app
from tests.fuzz.targets import Sample, Target

NUM_USERS, NUM_ITEMS = 6, 8
TOKEN = "a-token-for-fuzzing"
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


def _model() -> LD4MRec:
    generator = torch.Generator().manual_seed(0)
    pairs = [[u, (3 * u + n) % NUM_ITEMS] for u in range(NUM_USERS) for n in range(3)]
    data = build_data(
        NUM_USERS,
        NUM_ITEMS,
        torch.tensor(pairs).t().tolist(),
        features={"image": torch.randn(NUM_ITEMS, 3, generator=generator)},
        user_ids=[f"u{n}" for n in range(NUM_USERS)],
        item_ids=list(range(1, NUM_ITEMS + 1)),
    )
    torch.manual_seed(0)
    return LD4MRec.from_data(data, hidden_channels=8).eval()


class Caller:
    """A service in this process, with its event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.app = create_app(_model(), access=Access(TOKEN))
        transport = httpx.ASGITransport(self.app)  # what a service does not catch comes out
        self.client = httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=HEADERS
        )
        self.lifespan = self.app.router.lifespan_context(self.app)
        self.loop.run_until_complete(self.lifespan.__aenter__())
        atexit.register(self.stop)

    def stop(self) -> None:
        """End what still waits in the loop."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()

    def state(self) -> object:
        """Return everything that a request could change."""
        service = self.app.state.service
        return service.served, service.loads, list(service.served.model.catalogue.item_ids)

    def ask(self, method: str, path: str, body: bytes = b"") -> httpx.Response:
        """Return the answer to a request."""
        return self.loop.run_until_complete(self.client.request(method, path, content=body))


@cache
def _caller() -> Caller:
    return Caller()


def _bodies() -> list[Sample]:
    ask = {"history": ["1", "2"], "k": 3, "exclude": ["4"], "candidates": ["1", "5", "6", "7"]}
    by_index = {"history_index": [0, 1], "exclude_index": [3], "candidate_index": [2, 4, 5]}
    explain = {"history": ["1", "2"], "items": ["4", "5"], "num_items": 3}
    items = {"features": {"image": [[0.5, -1, 2e3], None]}, "item_id": ["new", "\u00fc"]}
    return [
        {"recommend": json.dumps(ask).encode()},
        {"recommend": json.dumps(by_index).encode()},
        {"explain": json.dumps(explain).encode()},
        {"items": json.dumps(items).encode()},
        {"query": b"query=1&limit=5"},
    ]


def _folders(command: str) -> list[Sample]:
    """Folders that may not be loaded."""
    runs = [None, "some/where", "/etc", f"$({command})"]
    return [{"reload": json.dumps({"run": run}).encode()} for run in runs]


def _ask(folder: Path) -> object:
    """Send a body and check: no status from 500 on, valid JSON, and no change if refused."""
    (file,) = folder.iterdir()
    caller, body = _caller(), file.read_bytes()
    before = caller.state()
    if file.name == "query":
        # What a URL may hold at all.
        text = "".join(one for one in body.decode("latin-1") if 32 < ord(one) < 127)
        answer = caller.ask("GET", f"/items?{text}")
    else:
        answer = caller.ask("POST", f"/{file.name}", body)
        if answer.status_code == 201:
            caller.app.state.service.served = before[0]  # type: ignore[index]
    found = json.loads(answer.content.decode(), parse_constant=_no_json)
    if answer.status_code >= 500:
        raise AssertionError(f"{answer.status_code}: {answer.text[:200]}")
    if answer.status_code >= 400:
        if caller.state() != before:
            raise AssertionError("a refused request changed the service")
        raise DataError(str(found["detail"]))
    return found


def _no_json(name: str) -> None:
    raise AssertionError(f"the answer holds {name}")


@cache
def _served_model() -> LD4MRec:
    return _model()


def _scalars(rng: random.Random) -> Any:
    texts = ["", "u1", "1", "8", "-1", "1.0", "nan", "\ud800", "SKU-0010", "é"]
    numbers = [0, 1, 5, 7, 8, -1, True, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**30]
    floats = [0.0, 3.0, 1.7, -0.0, float("nan"), float("inf"), 1e300, 2.0**60]
    others = [
        *(None, b"1", bytearray(b"u1"), 1j, decimal.Decimal(3), datetime.date(2020, 1, 1)),
        *(pd.NA, pd.NaT, np.int8(3), np.uint64(2**63), np.float32(2), np.str_("u1"), np.bool_(1)),
        *(torch.tensor(3), torch.tensor(True), torch.tensor(1.5), slice(3), Ellipsis, object()),
    ]
    return rng.choice(rng.choice((texts, numbers, numbers, floats, others)))


def _alike(rng: random.Random) -> list[Any]:
    """Return a list, in most cases with values of one kind."""
    num = rng.choice((0, 1, 2, 3, 8))
    kind = rng.randrange(6)
    if kind == 0:
        return [_scalars(rng) for _ in range(num)]
    makers: list[Callable[[], Any]] = [
        lambda: rng.randrange(8),
        lambda: rng.randrange(-2, 10),
        lambda: str(rng.randrange(10)),
        lambda: rng.choice((0.0, 3.0, 1.5, float("nan"))),
        lambda: rng.random() < 0.5,
    ]
    return [makers[kind - 1]() for _ in range(num)]


def _collections(rng: random.Random) -> Any:
    values = _alike(rng)
    dtypes = [torch.long, torch.int32, torch.uint8, torch.bool, torch.float32, torch.complex64]
    makers: list[Callable[[], Any]] = [
        lambda: values,
        lambda: tuple(values),
        lambda: set(values),
        lambda: dict.fromkeys(values, 1),
        lambda: iter(values),
        lambda: range(rng.randrange(9)),
        lambda: np.array(values),
        lambda: np.array(values, dtype=object),
        lambda: np.array([values, values]),
        lambda: pd.Series(values),
        lambda: pd.Series(values)[1:],
        lambda: pd.Series(values, dtype="string"),
        lambda: pd.Index(values),
        lambda: pd.Categorical(values),
        lambda: pd.DataFrame({"item": values}),
        lambda: torch.tensor(values, dtype=rng.choice(dtypes)),
        lambda: torch.tensor([values, values]),
        lambda: torch.tensor(values).to_sparse(),
        lambda: torch.empty(0, rng.randrange(3)),
        lambda: [values, _alike(rng)],
        lambda: [np.array(values), _alike(rng)],
        lambda: pd.Series([values, _alike(rng)]),
        lambda: [[values]],
        lambda: (torch.tensor(_alike(rng)), torch.tensor(_alike(rng))),
        lambda: ([0] * len(values), values),
        lambda: "".join(map(str, values)),
        lambda: memoryview(b"12"),
    ]
    try:
        return rng.choice(makers)()
    except (TypeError, ValueError, RuntimeError, OverflowError, ArithmeticError):
        return values  # numpy, pandas or torch could not hold these values


def _value(rng: random.Random) -> Any:
    return _scalars(rng) if rng.random() < 0.3 else _collections(rng)


#: Methods and their arguments; those that name users are given one at a time in most calls.
METHODS = {
    "recommend": ["k", "exclude_seen", "exclude", "exclude_index", "candidates", "candidate_index"],
    "explain": ["item_index", "item_id", "num_items"],
    "modality_preference": [],
    "similar_items": ["item_index", "item_id", "k"],
    "interaction_scores": ["user_index"],
}
USERS = ["user_index", "user_id", "history", "history_index"]
WITHOUT_USERS = {"similar_items", "interaction_scores"}


def _seeds() -> list[Sample]:
    """Seeds of calls that work; most do not."""
    good = []
    for seed in (str(n).encode() for n in range(60)):
        with suppress(Exception):
            _call_with(seed)
            good.append({"seed": seed})
    return good


def _call(folder: Path) -> object:
    return _call_with((folder / "seed").read_bytes())


def _call_with(seed: bytes) -> object:
    """Call a method with arguments drawn with a seed."""
    rng = random.Random(seed)
    method = rng.choice([*METHODS, "recommend", "recommend", "recommend"])
    names = [name for name in METHODS[method] if rng.random() < 0.3]
    if method not in WITHOUT_USERS:
        names += [rng.choice(USERS)] if rng.random() < 0.9 else rng.sample(USERS, 2)
    arguments = {name: _value(rng) for name in names}
    if method == "recommend" and "k" not in arguments:
        arguments["k"] = 3
    try:
        return getattr(_served_model(), method)(**arguments)
    except Exception as error:
        error.add_note(f"{method}(**{arguments!r})")
        raise


REQUESTS = [
    Target("JSON bodies", _bodies, _ask, _folders),
    Target("method arguments", _seeds, _call),
]
