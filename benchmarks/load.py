"""The service under load on loopback: latency, a reload under load, and overload.

    python benchmarks/load.py [--run RUN] --out load.json

Starts `graphdiff serve` in a process of its own and requests recommendations from this one:

* ``steady``: ``--requests`` requests, ``--clients`` at a time, with a reload after half of them;
* ``overload``: requests that arrive at fixed times, whether earlier ones are answered or not, at
  ``--overload`` times the rate that the service was just measured to answer. Requests beyond its
  capacity must be refused with 503 at once, accepted ones must not wait longer than the queue, and
  the service must report its health meanwhile and answer normally afterwards.

Without ``--run`` a small model is trained on the synthetic dataset for the steady load. The
overload uses a model of ``--items`` items with random weights that answers one request at a time
from a short queue: where ranking takes longer than HTTP, the queue is what fills up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from graphdiff import LD4MRec
from graphdiff.experiments.machine import machine
from graphdiff.files import write_text
from graphdiff.graph.store import RecGraph
from graphdiff.runs import train_run
from graphdiff.serving.access import TOKEN_VARIABLE
from graphdiff.training.config import run_config

OVERLOAD_QUEUE, OVERLOAD_BATCH = 16, 1
#: For the reload in the middle.
TOKEN = secrets.token_urlsafe(32)
#: Simultaneous requests that measure the capacity of the service.
PROBING = 4


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or trained(Path(folder) / "run")
        with Serving(run) as address:
            steady = asyncio.run(steadily(address, arguments.requests, arguments.clients))
        run = drawn(Path(folder) / "large", arguments.items)
        with Serving(run, "--queue", OVERLOAD_QUEUE, "--batch", OVERLOAD_BATCH) as address:
            overload = asyncio.run(overloaded(address, arguments.overload, arguments.seconds))
    overload["items"] = arguments.items
    figures = {"machine": machine() | {"device": "cpu"}, "steady": steady, "overload": overload}
    write_text(arguments.out, json.dumps(figures, indent=1) + "\n")
    show(steady, overload)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="RUN folder; by default a small model is trained")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--items", type=int, default=300_000, help="of the overloaded service")
    parser.add_argument("--overload", type=float, default=3, help="arrivals over capacity")
    parser.add_argument("--seconds", type=float, default=5, help="of overload")
    return parser.parse_args()


def trained(folder: Path) -> Path:
    config = run_config({"training": {"epochs": 2, "accelerator": "cpu"}})
    train_run(folder, config, progress=False)
    return folder


def drawn(folder: Path, num_items: int) -> Path:
    """Save a model with random weights and a few users; return the folder."""
    torch.manual_seed(0)
    users, each = 1000, 20
    # Each has one item from every twentieth of the catalogue.
    part = num_items // each
    item = torch.randint(part, (users, each)) + part * torch.arange(each)
    graph = RecGraph(torch.arange(users + 1) * each, item.flatten(), num_items)
    LD4MRec(LD4MRec.configure(), graph).save_pretrained(folder)
    return folder


class Serving:
    """`graphdiff serve` as a process: the context is its address, and SIGTERM ends it."""

    def __init__(self, run: Path, *options: object) -> None:
        command = [sys.executable, "-m", "graphdiff.cli.main", "serve", run, "--port", 0, *options]
        self.command = [str(word) for word in command]

    def __enter__(self) -> str:
        self.process = subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {TOKEN_VARIABLE: TOKEN},
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
    """A client that keeps the status and the time of each answer.

    It uses plain streams: a client library would take more of the machine than the measured
    service.
    """

    def __init__(self, address: str) -> None:
        self.host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
        self.port = int(port)
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.seconds: dict[str, list[float]] = {}
        self.random = random.Random(0)

    async def call(self, method: str, path: str, content: Any = None) -> tuple[int, Any]:
        """Return status and content of an answer.

        Raises:
            OSError, EOFError: If the connection ends before it.
        """
        reader, writer = await self._connection()
        body = b"" if content is None else json.dumps(content).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        first, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        named = dict(line.lower().split(": ", 1) for line in headers if line)
        answer = json.loads(await reader.readexactly(int(named["content-length"])))
        self.idle.append((reader, writer))
        return int(first.split()[1]), answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self.idle:
            reader, writer = self.idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self.host, self.port)

    async def close(self) -> None:
        """Close all connections."""
        for _, writer in self.idle:
            writer.close()

    async def ask(self) -> None:
        """Request recommendations once."""
        history = self.random.sample(range(self.items), 5)
        begin = time.perf_counter()
        try:
            status, _ = await self.call("POST", "/recommend", {"history_index": history, "k": 20})
            kept = str(status)
        except (OSError, EOFError) as error:
            kept = f"dropped: {type(error).__name__}"
        self.seconds.setdefault(kept, []).append(time.perf_counter() - begin)

    async def warm(self) -> None:
        """Read the size of the catalogue and request once, which is not counted."""
        self.items = (await self.call("GET", "/health"))[1]["items"]
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
    caller = Caller(address)
    await caller.warm()
    left = iter(range(requests))
    reload: dict[str, Any] = {}

    async def work() -> None:
        for number in left:
            if number == requests // 2:
                status, health = await caller.call("POST", "/reload", {})
                reload.update(status=status, loads=health.get("loads"))
            await caller.ask()

    begin = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(clients)))
    figures = caller.figures(time.perf_counter() - begin)
    await caller.close()
    return {**figures, "clients": clients, "reload": reload}


async def overloaded(address: str, factor: float, seconds: float) -> dict[str, Any]:
    caller = Caller(address)
    await caller.warm()
    capacity = await measured_capacity(caller, seconds / 2)
    rate = factor * capacity
    loop = asyncio.get_running_loop()
    begin, late, tasks = loop.time(), 0.0, []
    health = asyncio.create_task(watched_health(caller, seconds))
    for number in range(round(rate * seconds)):
        due = begin + number / rate
        await asyncio.sleep(max(0, due - loop.time()))
        late = max(late, loop.time() - due)
        tasks.append(asyncio.create_task(caller.ask()))
    await asyncio.gather(*tasks)
    figures = caller.figures(loop.time() - begin)
    caller.seconds.clear()
    watched = await health
    begin = loop.time()
    for _ in range(20):
        await caller.ask()
    after = caller.figures(loop.time() - begin)
    await caller.close()
    return {
        **figures,
        "capacity_per_second": capacity,
        "arrivals_per_second": rate,
        "latest_arrival_ms": late * 1000,  # Of this process, which must keep up too.
        "queue": OVERLOAD_QUEUE,
        "health": watched,
        "after": after,
    }


async def measured_capacity(caller: Caller, seconds: float) -> float:
    """Return the requests answered per second, with a few at a time."""
    loop = asyncio.get_running_loop()
    begin = loop.time()

    async def work() -> None:
        while loop.time() < begin + seconds:
            await caller.ask()

    await asyncio.gather(*(work() for _ in range(PROBING)))
    capacity = caller.figures(loop.time() - begin)["answered_per_second"]
    caller.seconds.clear()
    return capacity


async def watched_health(caller: Caller, seconds: float) -> dict[str, Any]:
    """Request the health of the service ten times a second."""
    took, longest = [], 0
    for _ in range(round(10 * seconds)):
        begin = time.perf_counter()
        status, health = await caller.call("GET", "/health")
        took.append((time.perf_counter() - begin) * 1000)
        assert (status, health["status"]) == (200, "ok")
        longest = max(longest, health["queue"])
        await asyncio.sleep(0.1)
    return {"asked": len(took), "p95_ms": float(np.percentile(took, 95)), "longest_queue": longest}


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
