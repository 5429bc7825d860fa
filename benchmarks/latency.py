"""How long a request takes: one forward pass against reverse chains and plain inner products.

    python benchmarks/latency.py --dataset tiktok --root DIR --out latency.json

On the dataset's catalogue and on a synthetic one of ``--items`` items (power-law popularity, random
weights: what is recommended there means nothing), each path is asked for the 20 best items of one
person at a time, and of 1,024 at once. Item tables are made beforehand, as a service does.

Paths are interleaved request by request, so that what else the machine does falls on all alike.
Beside the time that passed (p50, p95, p99) the processor time is told, which a busy machine
disturbs less. What would not fit is skipped, and why is said.

On the dataset, programs exported with tables in fewer bits are evaluated on validation pairs.
Beside the JSON file a Markdown file of the same name is written, with the targets and what was
found.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from dense_reference import chain_on_rows, dense_rows
from rich.console import Console
from rich.table import Table
from scaling import GIB, memory, power_law_graph
from torch import Tensor

from graphdiff import datasets
from graphdiff.evaluation.ranking import evaluate
from graphdiff.experiments.machine import machine
from graphdiff.files import write_text
from graphdiff.graph.approximate import share_found
from graphdiff.graph.store import RecGraph
from graphdiff.models import get_model
from graphdiff.models.base import Query, Recommender, Tables
from graphdiff.models.ld4mrec.model import LD4MRec
from graphdiff.nn.topk import topk_inner_product
from graphdiff.serving import RetrievalIndex
from graphdiff.serving.export import Precision, export
from graphdiff.serving.index import EXACT_UP_TO
from graphdiff.training.fit import fit

K, BATCH = 20, 1024
#: How the 40 steps of DiffRec and the 20 of LD4MRec are walked.
ON_ROWS, IN_D = "chain on rows", "chain in d dimensions"
FREE, INDEX = "forward-free", "forward-free, index"
INNER, BARE = "inner products", "matrix product and top-k alone"
#: Chains that the forward-free pass is to be so many times faster than.
FASTER_THAN = ((ON_ROWS, "LD4MRec", 5), (IN_D, "LD4MRec", 5), (ON_ROWS, "DiffRec", 10))
#: How an export may store its tables.
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
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
    data = datasets.load(arguments.dataset, arguments.root)[0]
    model = get_model("ld4mrec").from_data(data, hidden_channels=arguments.width)
    assert isinstance(model, LD4MRec)
    if arguments.epochs:
        fit(model, data, epochs=arguments.epochs, progress=False, accelerator="cpu")
    catalogues = [
        measure(arguments.dataset, model, arguments, console)
        | {"tables": cost_of_tables(model.eval(), data, arguments.threads)}
    ]
    if arguments.items:
        graph = power_law_graph(arguments.items, modalities=True)
        large = make("ld4mrec", graph, hidden_channels=arguments.width)
        catalogues.append(measure("power-law", large, arguments, console))
    result = {
        "k": K,
        "batch": BATCH,
        "width": model.config.hidden_channels,
        "requests": arguments.requests,
        "machine": machine() | {"device": "cpu"},
        "catalogues": catalogues,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    write_text(arguments.out.with_suffix(".md"), markdown(result))
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
    model.reconstruction.log_scale.fill_(-20)
    console.print(f"{name}: {graph.num_items:,} items")
    skipped: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        paths: list[Timed] = []
        index = RetrievalIndex(model, approximate=graph.num_items > 5000)
        program = Path(folder) / "model.onnx"
        makers: list[Callable[[], Iterator[Timed]]] = [
            lambda: ours(model, index),
            lambda: exported(model, program, arguments.threads),
            lambda: inner_products(graph, model.config.hidden_channels),
            lambda: diffmm(graph, model.config.hidden_channels),
            lambda: diffrec(graph),
        ]
        for one in makers:
            try:
                paths.extend(one())
            except DoesNotFitError as error:
                skipped.append(error.args[0])
                console.print(f"skipped: {error.args[0]['model']}: {error.args[0]['reason']}")
            # Propagation graphs, which the tables are made from, are not asked again.
            graph.clear_cache()
        run(paths, graph.num_users, arguments)
    figures = [path.figures() for path in paths]
    catalogue = {
        "name": name,
        "items": graph.num_items,
        "index": {"kind": "approximate" if index.approximate else "exact", "recall": index.recall},
        "chain_overflows_for": overflow,
        "paths": figures,
        "skipped": skipped,
        "ratios": ratios(figures),
    }
    return catalogue | {"targets": [target._asdict() for target in targets(catalogue)]}


def chain_overflow(model: LD4MRec) -> float:
    """Share of (a batch of) people for whom LD4MRec's own chain leaves the range of float32."""
    user = torch.arange(min(BATCH, model.num_users))
    query = Query(model.graph.rows(user), user)
    vectors = model.user_vectors(query, model.cached_tables(), num_steps=model.schedule.num_steps)
    return 1 - vectors.isfinite().all(dim=1).float().mean().item()


class DoesNotFitError(Exception):
    """A model that memory does not suffice for."""


def require(model: str, needed: float) -> None:
    available = memory("cpu")
    if needed > 0.7 * available:
        reason = f"it needs about {needed / GIB:.1f} GiB and {available / GIB:.1f} are free"
        raise DoesNotFitError({"model": model, "reason": reason})


def ours(model: LD4MRec, index: RetrievalIndex) -> Iterator[Timed]:
    tables = model.cached_tables()

    def query(user: Tensor) -> Query:
        return Query(model.graph.rows(user), user)

    def on_rows(user: Tensor) -> tuple[Tensor, Tensor]:
        rows = model.graph.rows(user)
        # The noise is left out, which speaks for this path.
        vectors = chain_on_rows(model, rows, dense_rows(rows, model.num_items, model.bias.dtype))
        seen = rows.row, rows.item
        return topk_inner_product(vectors, tables.item, tables.bias, K, seen)

    steps = model.schedule.num_steps
    name = "LD4MRec"
    yield Timed(name, FREE, lambda user: model.recommend(user, k=K))
    yield Timed(name, INDEX, lambda user: index.recommend(user, k=K))
    yield Timed(name, IN_D, lambda user: model.recommend(user, k=K, num_steps=steps))
    fits = 4 * 6 * BATCH * model.num_items < 0.5 * memory("cpu")
    yield Timed(name, ON_ROWS, on_rows, fits)
    yield Timed(
        name, "forward-free, no ranking", lambda user: model.user_vectors(query(user), tables)
    )
    yield Timed(
        name,
        IN_D + ", no ranking",
        lambda user: model.user_vectors(query(user), tables, num_steps=steps),
    )


class OnnxProgram:
    """An exported program, asked as a model is."""

    def __init__(
        self, model: LD4MRec, path: Path, threads: int, precision: Precision = "float32"
    ) -> None:
        import onnxruntime

        export(model, path, k=K, precision=precision)
        self.graph, self.size = model.graph, path.stat().st_size
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Its threads would go on turning while the next path is timed.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(path, options)
        path.unlink()

    def recommend(self, user_index: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """The K best items of training users, without their own."""
        row, item, num = self.graph.rows(user_index)
        offsets = torch.searchsorted(row, torch.arange(num))
        asked = {"history_index": item.numpy(), "offsets": offsets.numpy()}
        best, score = self.session.run(None, asked)
        return torch.from_numpy(best), torch.from_numpy(score)


def exported(model: LD4MRec, path: Path, threads: int) -> Iterator[Timed]:
    # The tables, their copy in the program, in the file's message and in the runtime.
    require("LD4MRec, ONNX", 5 * 4 * 4 * model.config.hidden_channels * model.num_items)
    yield Timed("LD4MRec", "forward-free, ONNX", OnnxProgram(model, path, threads).recommend)


def drawn(name: str, graph: RecGraph, **settings: Any) -> Recommender:
    """A model whose finished tables of users and items are random: what a request costs does not
    depend on them, and message passing would need many times the memory."""
    model = make(name, graph, **settings)
    channels = model.config.hidden_channels
    tables = Tables(
        item=torch.randn(graph.num_items, channels), user=torch.randn(graph.num_users, channels)
    )
    model.tables = lambda: tables
    return model


def inner_products(graph: RecGraph, channels: int) -> Iterator[Timed]:
    """Of vectors as wide as LD4MRec's."""
    # Parameters and tables.
    require("LightGCN", 2 * 4 * channels * (graph.num_users + graph.num_items))
    model = drawn("lightgcn", graph, hidden_channels=channels)
    yield Timed("LightGCN", INNER, lambda user: model.recommend(user, k=K))
    tables = model.cached_tables()
    yield Timed(
        "none",
        BARE,
        lambda user: (tables.user[user] @ tables.item.t()).topk(K),
        4 * BATCH * graph.num_items < 0.5 * memory("cpu"),
    )


def diffmm(graph: RecGraph, channels: int) -> Iterator[Timed]:
    require("DiffMM", 2 * 4 * channels * (graph.num_users + graph.num_items))
    # The denoisers work in training alone.
    model = drawn("diffmm", graph, hidden_channels=channels, denoiser_channels=1)
    yield Timed("DiffMM", INNER, lambda user: model.recommend(user, k=K))


def diffrec(graph: RecGraph) -> Iterator[Timed]:
    width = get_model("diffrec").Config.model_fields["hidden_channels"].default
    require("DiffRec", 2.5 * 4 * width * graph.num_items)
    plain = RecGraph(graph.rowptr, graph.col, graph.num_items)
    model = make("diffrec", plain)
    fits = 4 * 6 * BATCH * graph.num_items < 0.4 * memory("cpu")
    yield Timed("DiffRec", IN_D, lambda user: model.recommend(user, k=K))
    yield Timed("DiffRec", ON_ROWS, lambda user: model.recommend(user, k=K, on_rows=True), fits)


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
        "": next(f for f in figures if f["path"] == FREE),
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


class Target(NamedTuple):
    """Something promised, and what was measured."""

    what: str
    wanted: str
    found: float
    met: bool


def targets(catalogue: dict[str, Any]) -> list[Target]:
    """What can be asked of the paths that were measured."""
    paths = {(one["model"], one["path"]): one for one in catalogue["paths"]}
    ours = paths["LD4MRec", FREE]
    large = catalogue["items"] > EXACT_UP_TO
    asked = paths["LD4MRec", INDEX] if large else ours
    limit = 50 if large else 10

    def over(model: str, path: str) -> Iterator[tuple[str, float]]:
        """Ours over another's, by users per second and by single requests."""
        other = paths.get((model, path))
        if other is None:
            return
        if other["users_per_second"] and ours["users_per_second"]:
            ratio = ours["users_per_second"] / other["users_per_second"]
            yield f"users per second, over {model}, {path}", ratio
        yield f"a request, {model}, {path}, over ours", other["p50_ms"] / ours["p50_ms"]

    found = []
    for path, model, least in (
        (ON_ROWS, "LD4MRec", 5),
        (IN_D, "LD4MRec", 5),
        (ON_ROWS, "DiffRec", 10),
    ):
        found += [Target(what, f"≥ {least}", x, x >= least) for what, x in over(model, path)]
    for what, x in over("LightGCN", INNER):
        found.append(Target(what, "≥ 1/1.5", x, x >= 1 / 1.5))
    p99 = asked["p99_ms"]
    found.append(Target(f"p99 of a request in ms, {asked['path']}", f"< {limit}", p99, p99 < limit))
    if ("none", BARE) in paths:
        ratio = asked["p50_ms"] / paths["none", BARE]["p50_ms"]
        found.append(Target(f"a request, {asked['path']}, over {BARE}", "told", ratio, True))
    recall = catalogue["index"]["recall"]
    found.append(Target("recall@20 of the index", "≥ 0.95", recall, recall >= 0.95))
    return found


def cost_of_tables(model: LD4MRec, data: Any, threads: int) -> dict[str, dict[str, float]]:
    """Validation metrics of programs exported with tables in fewer bits, the share of the lists of
    the one in float32 that they keep, and the size of their files."""
    users = torch.arange(min(BATCH, model.num_users))
    exact, out = None, {}
    for precision in PRECISIONS:
        with tempfile.TemporaryDirectory() as folder:
            program = OnnxProgram(model, Path(folder) / "model.onnx", threads, precision)
        found = evaluate(program, data, "val", ks=(K,))
        lists, _ = program.recommend(users)
        exact = lists if exact is None else exact
        out[precision] = {
            "recall@20": found["recall@20"],
            "ndcg@20": found["ndcg@20"],
            "kept": share_found(lists, exact),
            "mib": program.size / 2**20,
        }
    return out


def markdown(result: dict[str, Any]) -> str:
    """The figures as a page."""
    machine = result["machine"]
    lines = [
        "# Latency",
        "",
        f"Written by `benchmarks/latency.py` on {machine['processor']}, {machine['threads']} "
        f"threads, torch {machine['torch']}: the {result['k']} best items, one person at a time "
        f"({result['requests']} requests of each path, in milliseconds) and {result['batch']:,} at "
        f"once. LD4MRec, LightGCN and DiffMM have vectors of width {result['width']}.",
    ]
    for one in result["catalogues"]:
        lines += [
            "",
            f"## {one['name']}, {one['items']:,} items",
            "",
            "| model | path | p50 | p95 | p99 | CPU, p50 | users/s | users/CPU s |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for row in one["paths"]:
            times = (f"{row[n]:.2f}" for n in ("p50_ms", "p95_ms", "p99_ms", "cpu_p50_ms"))
            rates = (rate(row[n]) for n in ("users_per_second", "users_per_cpu_second"))
            lines.append("| " + " | ".join([row["model"], row["path"], *times, *rates]) + " |")
        lines += [f"\n{row['model']} was skipped: {row['reason']}." for row in one["skipped"]]
        lines += ["", "| target | wanted | found | |", "| --- | ---: | ---: | --- |"]
        for row in one["targets"]:
            met = "" if row["wanted"] == "told" else ("met" if row["met"] else "**missed**")
            lines.append(f"| {row['what']} | {row['wanted']} | {row['found']:.3g} | {met} |")
        lines += [
            "",
            f"LD4MRec's own chain leaves float32's range for {one['chain_overflows_for']:.1%} of "
            "people with these weights; it is timed with a scale at which it does not.",
        ]
        if "tables" in one:
            lines += [
                "",
                "Programs exported to ONNX, on validation pairs:",
                "",
                "| tables | recall@20 | NDCG@20 | lists kept | file, MiB |",
                "| --- | ---: | ---: | ---: | ---: |",
            ]
            for name, row in one["tables"].items():
                values = f"{row['recall@20']:.4f} | {row['ndcg@20']:.4f} | {row['kept']:.1%}"
                lines.append(f"| {name} | {values} | {row['mib']:.1f} |")
    return "\n".join(lines) + "\n"


def rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def show(catalogue: dict[str, Any], console: Console) -> None:
    table = Table(
        "model", "path", "p50 ms", "p95", "p99", "CPU ms", "users/s", "users/CPU s",
        title=f"{catalogue['name']}, {catalogue['items']:,} items",
    )  # fmt: skip
    for one in catalogue["paths"]:
        rates = (rate(one[n]) for n in ("users_per_second", "users_per_cpu_second"))
        table.add_row(
            one["model"],
            one["path"],
            *(f"{one[n]:.2f}" for n in ("p50_ms", "p95_ms", "p99_ms", "cpu_p50_ms")),
            *rates,
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
            f"NDCG@20 {cost['ndcg@20']:.4f}, {cost['kept']:.1%} of the lists kept, "
            f"{cost['mib']:.1f} MiB"
        )
    table = Table("target", "wanted", "found", "")
    for target in catalogue["targets"]:
        met = "[green]met[/]" if target["met"] else "[red]missed[/]"
        table.add_row(target["what"], target["wanted"], f"{target['found']:.3g}", met)
    console.print(table)


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
    parser.add_argument(
        "--width",
        type=int,
        default=128,
        help="of LD4MRec, LightGCN and DiffMM: half of LD4MRec's default, as the tables of a "
        "million items are more than small machines hold",
    )
    parser.add_argument("--requests", type=int, default=300, help="of one person, for each path")
    parser.add_argument("--seconds", type=float, default=30, help="most for a path, of each size")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
