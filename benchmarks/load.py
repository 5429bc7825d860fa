"""The service under load on loopback: latency, a reload in the middle, and more than it can take.

    python benchmarks/load.py [--run RUN] --out load.json

Starts `graphdiff serve` in a process of its own and, in this one, asks it for recommendations:

* ``steady``: ``--requests`` requests, ``--clients`` at a time, with a reload at the half;
* ``overload``: four times as many clients as the queue holds, each asking a few times without
  pause; what is refused must be refused with 503, and the service must answer well afterwards.

Without ``--run`` a small model is trained on the synthetic dataset first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from graphdiff.files import write_text
from graphdiff.runs import train_run

OVERLOAD_QUEUE, ASKED_EACH = 32, 8


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or trained(Path(folder) / "run")
        with Serving(run) as address:
            steady = asyncio.run(steadily(address, arguments.requests, arguments.clients))
        with Serving(run, "--queue", OVERLOAD_QUEUE, "--batch", 4) as address:
            overload = asyncio.run(overloaded(address, 4 * OVERLOAD_QUEUE))
    write_text(arguments.out, json.dumps({"steady": steady, "overload": overload}, indent=2) + "\n")
    show(steady, overload)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="RUN folder; a small one is trained by default")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=32)
    return parser.parse_args()


def trained(folder: Path) -> Path:
    train_run(folder, "synthetic", "ld4mrec", epochs=2, accelerator="cpu", progress=False)
    return folder


class Serving:
    """`graphdiff serve` as a process; gives its address, and ends it by SIGTERM."""

    def __init__(self, run: Path, *options: object) -> None:
        command = [sys.executable, "-m", "graphdiff.cli", "serve", run, "--port", 0, *options]
        self.command = [str(word) for word in command]

    def __enter__(self) -> str:
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        if not words:
            raise SystemExit(f"the service did not start: {' '.join(self.command)}")
        return words[-1]

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.process.stdout.close()


class Caller:
    """Asks, and keeps what came back and how long it took."""

    def __init__(self, address: str, clients: int) -> None:
        limits = httpx.Limits(max_connections=clients + 2)
        self.client = httpx.AsyncClient(base_url=address, limits=limits, timeout=60)
        self.seconds: dict[str, list[float]] = {}
        self.random = random.Random(0)

    async def ask(self) -> None:
        items = self.random.sample(range(self.items), 5)
        begin = time.perf_counter()
        try:
            answer = await self.client.post("/recommend", json={"items": items, "k": 20})
            kept = str(answer.status_code)
        except httpx.HTTPError as error:
            kept = f"dropped: {type(error).__name__}"
        self.seconds.setdefault(kept, []).append(time.perf_counter() - begin)

    async def warm(self) -> None:
        self.items = (await self.client.get("/health")).json()["items"]
        await self.ask()
        self.seconds.clear()

    def figures(self, wall: float) -> dict[str, Any]:
        counts = Counter({kept: len(seconds) for kept, seconds in self.seconds.items()})
        dropped = sum(n for kept, n in counts.items() if kept.startswith("dropped"))
        total = counts.total()
        answered = np.array(self.seconds.get("200", [np.nan])) * 1000
        refused = np.array(self.seconds.get("503", [np.nan])) * 1000
        return {
            "requests": total,
            "answered": counts["200"],
            "refused": counts["503"],
            "dropped": dropped,
            "errors": total - counts["200"] - counts["503"] - dropped,
            **{f"p{q}_ms": float(np.percentile(answered, q)) for q in (50, 95, 99)},
            **({"refused_p95_ms": float(np.percentile(refused, 95))} if counts["503"] else {}),
            "answered_per_second": counts["200"] / wall,
        }


async def steadily(address: str, requests: int, clients: int) -> dict[str, Any]:
    caller = Caller(address, clients)
    async with caller.client:
        await caller.warm()
        left = iter(range(requests))
        reload: dict[str, Any] = {}

        async def work() -> None:
            for number in left:
                if number == requests // 2:
                    answer = await caller.client.post("/reload", json={})
                    reload.update(status=answer.status_code, loads=answer.json().get("loads"))
                await caller.ask()

        begin = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(clients)))
        return {**caller.figures(time.perf_counter() - begin), "clients": clients, "reload": reload}


async def overloaded(address: str, clients: int) -> dict[str, Any]:
    caller = Caller(address, clients)
    async with caller.client:
        await caller.warm()

        async def work() -> None:
            for _ in range(ASKED_EACH):
                await caller.ask()

        begin = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(clients)))
        figures = caller.figures(time.perf_counter() - begin)
        caller.seconds.clear()
        begin = time.perf_counter()
        for _ in range(20):
            await caller.ask()
        after = caller.figures(time.perf_counter() - begin)
        return {**figures, "clients": clients, "queue": OVERLOAD_QUEUE, "after": after}


def show(steady: dict[str, Any], overload: dict[str, Any]) -> None:
    table = Table("", "steady", "overload", "after overload")
    columns = (steady, overload, overload["after"])
    for name in [n for n, value in overload.items() if not isinstance(value, dict)]:
        shown = (column.get(name, "") for column in columns)
        table.add_row(
            name.replace("_", " "),
            *(f"{value:.1f}" if isinstance(value, float) else str(value) for value in shown),
        )
    console = Console()
    console.print(table)
    console.print(f"reload in the middle: {steady['reload']}")


if __name__ == "__main__":
    main()
