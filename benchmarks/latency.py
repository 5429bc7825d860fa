"""How long a request takes: one forward pass against reverse chains and plain inner products.

    python benchmarks/latency.py --dataset tiktok --root DIR --out latency.json

On the dataset's catalogue and on a synthetic one of ``--items`` items (power-law popularity, random
weights: what is recommended there means nothing), each path is asked for the 20 best items of one
person at a time, and of 1,024 at once. Item tables are made beforehand, as a service does.

Paths are interleaved request by request, so that what else the machine does falls on all alike.
Beside the time that passed (p50, p95, p99) the processor time is told, which a busy machine
disturbs less. What would not fit is skipped, and why is said.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dense_reference import chain_on_rows, dense_rows
from protocol import load_data, machine
from rich.console import Console
from rich.table import Table
from scaling import GIB, memory, power_law_graph
from torch import Tensor

from graphdiff.evaluation import evaluate
from graphdiff.files import write_text
from graphdiff.models import get_model
from graphdiff.models.base import Query, Recommender
from graphdiff.models.ld4mrec import LD4MRec
from graphdiff.nn.graph import RecGraph
from graphdiff.nn.topk import topk_inner_product
from graphdiff.serving import RetrievalIndex
from graphdiff.serving.export import export, rounded
from graphdiff.training import fit
from graphdiff.transforms.approximate import share_found

K, BATCH = 20, 1024
#: How the 40 steps of DiffRec and the 20 of LD4MRec are walked.
ON_ROWS, IN_D = "chain on rows", "chain in d dimensions"
Ask = Callable[[Tensor], Any]


@dataclass
class Timed:
    """A path and what was measured: seconds that passed, and of the processor."""

    model: str
    path: str
    ask: Ask
    batches: bool = True
    single: list[tuple[float, float]] = field(default_factory=list)
    batch: list[tuple[float, float]] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        wall, cpu = np.array(self.single).T * 1000
        p50, p95, p99 = np.percentile(wall, [50, 95, 99]).tolist()
        found: dict[str, Any] = {
            "model": self.model,
            "path": self.path,
            "requests": len(self.single),
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "cpu_p50_ms": float(np.median(cpu)),
            "users_per_second": None,
            "users_per_cpu_second": None,
        }
        if self.batch:
            wall, cpu = np.array(self.batch).T
            found["batches"] = len(self.batch)
            found["users_per_second"] = BATCH / float(np.median(wall))
            found["users_per_cpu_second"] = BATCH / float(np.median(cpu))
        return found


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    torch.set_num_threads(arguments.threads)
    console = Console()
    data = load_data(arguments.dataset, arguments.root)
    model = get_model("ld4mrec").from_data(data)
    assert isinstance(model, LD4MRec)
    if arguments.epochs:
        fit(model, data, epochs=arguments.epochs, progress=False, accelerator="cpu")
    catalogues = [
        measure(arguments.dataset, model, arguments, console)
        | {"tables": cost_of_rounding(model.eval(), data)}
    ]
    if arguments.items:
        graph = power_law_graph(arguments.items, modalities=True)
        catalogues.append(measure("power-law", make("ld4mrec", graph), arguments, console))
    result = {
        "k": K,
        "batch": BATCH,
        "requests": arguments.requests,
        "machine": machine() | {"device": "cpu"},
        "catalogues": catalogues,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    for catalogue in catalogues:
        show(catalogue, console)
    console.print(f"figures: {arguments.out}")


def make(name: str, graph: RecGraph, **settings: Any) -> Recommender:
    """A model with random weights."""
    cls = get_model(name)
    torch.manual_seed(0)
    model = cls(cls.configure(**settings), graph)
    model.reset_parameters()
    return model.eval()


@torch.no_grad()
def measure(
    name: str, model: Recommender, arguments: argparse.Namespace, console: Console
) -> dict[str, Any]:
    """All paths on one catalogue."""
    assert isinstance(model, LD4MRec)
    graph, model = model.graph, model.eval()
    overflow = chain_overflow(model)
    # The chain alone reads it. It would overflow for some people, which the ranking refuses; what a
    # step costs does not depend on it.
    model.log_scale.fill_(-20)
    console.print(f"{name}: {graph.num_items:,} items")
    skipped: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        paths: list[Timed] = []
        index = RetrievalIndex(model, approximate=graph.num_items > 5000)
        program = Path(folder) / "model.onnx"
        makers: list[Callable[[], Iterator[Timed]]] = [
            lambda: ours(model, index),
            lambda: exported(model, program, arguments.threads),
            lambda: inner_products(graph),
            lambda: diffmm(graph),
            lambda: diffrec(graph),
        ]
        for one in makers:
            try:
                paths.extend(one())
            except DoesNotFitError as error:
                skipped.append(error.args[0])
                console.print(f"skipped: {error.args[0]['model']}: {error.args[0]['reason']}")
            # Propagation graphs, which the tables are made from, are not asked again.
            graph._made.clear()
        run(paths, graph.num_users, arguments)
    figures = [path.figures() for path in paths]
    return {
        "name": name,
        "items": graph.num_items,
        "index": {"kind": "approximate" if index.approximate else "exact", "recall": index.recall},
        "chain_overflows_for": overflow,
        "paths": figures,
        "skipped": skipped,
        "ratios": ratios(figures),
    }


def chain_overflow(model: LD4MRec) -> float:
    """Share of (a batch of) people for whom LD4MRec's own chain leaves the range of float32."""
    user = torch.arange(min(BATCH, model.num_users))
    query = Query(model.graph.rows(user), user)
    vectors = model.vectors(query, model._valid_tables(), num_steps=model.config.num_steps)
    return 1 - vectors.isfinite().all(dim=1).float().mean().item()


class DoesNotFitError(Exception):
    """A model that memory does not suffice for."""


def require(model: str, needed: float) -> None:
    available = memory("cpu")
    if needed > 0.7 * available:
        reason = f"it needs about {needed / GIB:.1f} GiB and {available / GIB:.1f} are free"
        raise DoesNotFitError({"model": model, "reason": reason})


def ours(model: LD4MRec, index: RetrievalIndex) -> Iterator[Timed]:
    tables = model._valid_tables()

    def query(user: Tensor) -> Query:
        return Query(model.graph.rows(user), user)

    def on_rows(user: Tensor) -> tuple[Tensor, Tensor]:
        rows = model.graph.rows(user)
        # The noise is left out, which speaks for this path.
        vectors = chain_on_rows(model, rows, dense_rows(rows, model.num_items, model.bias.dtype))
        seen = rows.row, rows.item
        return topk_inner_product(vectors, tables.item, tables.bias, K, seen)

    steps = model.config.num_steps
    name = "LD4MRec"
    yield Timed(name, "forward-free", lambda user: model.recommend(user, K))
    yield Timed(name, "forward-free, index", lambda user: index.recommend(user, K))
    yield Timed(name, IN_D, lambda user: model.recommend(user, K, num_steps=steps))
    fits = 4 * 6 * BATCH * model.num_items < 0.5 * memory("cpu")
    yield Timed(name, ON_ROWS, on_rows, fits)
    yield Timed(name, "forward-free, no ranking", lambda user: model.vectors(query(user), tables))
    yield Timed(
        name,
        IN_D + ", no ranking",
        lambda user: model.vectors(query(user), tables, num_steps=steps),
    )


def exported(model: LD4MRec, path: Path, threads: int) -> Iterator[Timed]:
    # The tables, their copy in the program, in the file's message and in the runtime.
    require("LD4MRec, ONNX", 5 * 4 * 4 * 64 * model.num_items)
    import onnxruntime

    export(model, path, k=K)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its threads would go on turning while the next path is timed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options)
    path.unlink()

    def ask(user: Tensor) -> Any:
        row, item, num = model.graph.rows(user)
        offsets = torch.searchsorted(row, torch.arange(num))
        return session.run(None, {"items": item.numpy(), "offsets": offsets.numpy()})

    yield Timed("LD4MRec", "forward-free, ONNX", ask)


def inner_products(graph: RecGraph) -> Iterator[Timed]:
    require("LightGCN", 30 * 4 * 64 * (graph.num_users + graph.num_items))
    model = make("lightgcn", graph)
    tables = model._valid_tables()
    assert tables.user is not None
    user_table = tables.user
    yield Timed("LightGCN", "inner products", lambda user: model.recommend(user, K))
    yield Timed(
        "none",
        "matrix product and top-k alone",
        lambda user: (user_table[user] @ tables.item.t()).topk(K),
        4 * BATCH * graph.num_items < 0.5 * memory("cpu"),
    )


def diffmm(graph: RecGraph) -> Iterator[Timed]:
    require("DiffMM", 40 * 4 * 64 * (graph.num_users + graph.num_items))
    # The denoisers work in training alone.
    model = make("diffmm", graph, denoiser_channels=1)
    model._valid_tables()
    yield Timed("DiffMM", "inner products", lambda user: model.recommend(user, K))


def diffrec(graph: RecGraph) -> Iterator[Timed]:
    width = get_model("diffrec").Config.model_fields["hidden_channels"].default
    require("DiffRec", 2.5 * 4 * width * graph.num_items)
    plain = RecGraph(graph.rowptr, graph.col, graph.num_items)
    model = make("diffrec", plain)
    fits = 4 * 6 * BATCH * graph.num_items < 0.4 * memory("cpu")
    yield Timed("DiffRec", IN_D, lambda user: model.recommend(user, K))
    yield Timed("DiffRec", ON_ROWS, lambda user: model.recommend(user, K, on_rows=True), fits)


def run(paths: list[Timed], num_users: int, arguments: argparse.Namespace) -> None:
    """Asks all paths in turn, until each has had its requests or its time."""
    generator = torch.Generator().manual_seed(0)
    for kind, size, wanted in (("single", 1, arguments.requests), ("batch", BATCH, 15)):
        asked = [path for path in paths if kind == "single" or path.batches]
        spent = dict.fromkeys(map(id, asked), 0.0)
        for turn in range(wanted + 1):
            user = torch.randint(num_users, (size,), generator=generator)
            # In another order each time: a path that fills the caches slows down the next one.
            for place in torch.randperm(len(asked), generator=generator).tolist():
                path = asked[place]
                if spent[id(path)] > arguments.seconds:
                    continue
                start, cpu = time.perf_counter(), time.process_time()
                path.ask(user)
                passed = time.perf_counter() - start, time.process_time() - cpu
                spent[id(path)] += passed[0]
                # The first request warms up, unless it is the only one that there is time for.
                if turn or passed[0] > arguments.seconds:
                    getattr(path, kind).append(passed)


def ratios(figures: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """How many times the users per second, and the time of a single request, of the others the
    forward-free pass has; ``by`` the time that passed and by the processor's."""
    base = {
        "": next(f for f in figures if f["path"] == "forward-free"),
        ", no ranking": next(f for f in figures if f["path"] == "forward-free, no ranking"),
    }
    out: dict[str, dict[str, float | None]] = {}
    for other in figures:
        ending = ", no ranking" if other["path"].endswith(", no ranking") else ""
        ours = base[ending]
        if other is ours:
            continue

        def over(name: str, ours: Any = ours, other: Any = other) -> float | None:
            return ours[name] / other[name] if ours[name] and other[name] else None

        out[f"{other['model']}, {other['path']}"] = {
            "users_per_second": over("users_per_second"),
            "users_per_cpu_second": over("users_per_cpu_second"),
            "single_request": other["p50_ms"] / ours["p50_ms"],
            "single_request_cpu": other["cpu_p50_ms"] / ours["cpu_p50_ms"],
        }
    return out


def cost_of_rounding(model: LD4MRec, data: Any) -> dict[str, dict[str, float]]:
    """Test recall@20 with item tables in fewer bits, and the share of the exact lists kept."""
    users = torch.arange(min(BATCH, model.num_users))
    exact, _ = model.recommend(users, K)
    out = {}
    for precision in ("float32", "bf16", "int8"):
        other = rounded(model, precision)  # type: ignore[arg-type]
        out[precision] = {
            "recall@20": evaluate(other, data, "test")["recall@20"],
            "kept": share_found(other.recommend(users, K)[0], exact),
        }
    return out


def show(catalogue: dict[str, Any], console: Console) -> None:
    table = Table(
        "model", "path", "p50 ms", "p95", "p99", "CPU ms", "users/s", "users/CPU s",
        title=f"{catalogue['name']}, {catalogue['items']:,} items",
    )  # fmt: skip
    for one in catalogue["paths"]:
        rates = (one["users_per_second"], one["users_per_cpu_second"])
        table.add_row(
            one["model"],
            one["path"],
            *(f"{one[n]:.2f}" for n in ("p50_ms", "p95_ms", "p99_ms", "cpu_p50_ms")),
            *("-" if rate is None else f"{rate:,.0f}" for rate in rates),
        )
    console.print(table)
    table = Table("forward-free over", "users/s", "users/CPU s", "request", "request, CPU")
    for name, ratio in catalogue["ratios"].items():
        table.add_row(name, *("-" if value is None else f"{value:.2f}" for value in ratio.values()))
    console.print(table)
    console.print(f"index: {catalogue['index']['kind']}, recall@20 {catalogue['index']['recall']}")
    console.print(f"chain overflows for {catalogue['chain_overflows_for']:.1%} of people")
    for precision, cost in catalogue.get("tables", {}).items():
        console.print(
            f"{precision} tables: recall@20 {cost['recall@20']:.4f}, "
            f"{cost['kept']:.1%} of the lists kept"
        )


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--root", type=Path, help="folder of the dataset's files")
    parser.add_argument("--epochs", type=int, default=10, help="that LD4MRec is trained before")
    parser.add_argument(
        "--items", type=int, default=1_000_000, help="of the synthetic catalogue; 0 for none"
    )
    parser.add_argument("--requests", type=int, default=300, help="of one person, for each path")
    parser.add_argument("--seconds", type=float, default=30, help="most for a path, of each size")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
