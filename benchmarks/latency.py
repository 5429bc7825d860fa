"""The time of a request: one forward pass, reverse chains and plain inner products.

    python benchmarks/latency.py --dataset tiktok --root DIR --out latency.json

On the dataset's catalogue and on a synthetic one of ``--items`` items (power-law popularity and
random weights, so that the recommendations have no meaning), each path recommends 20 items to one
user at a time, and to 1,024 at once. Item tables are computed beforehand, as in a service.

Paths are interleaved request by request, so that other load of the machine affects all alike.
Besides the elapsed time (p50, p95, p99) the time of the processor is measured, which a busy machine
disturbs less. What does not fit in memory is skipped, with the reason.

On the dataset, programs exported with tables in fewer bits are evaluated on validation pairs.
Beside the JSON file a Markdown file of the same name is written, with targets and figures.

    python benchmarks/latency.py --render latency.json

computes ratios and targets again from the measured times, and writes both files.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import latency_paths as paths
import torch
from latency_paths import DoesNotFitError, OnnxProgram, Timed
from latency_report import page, ratios, show, targets
from power_law import power_law_graph
from rich.console import Console

from graphdiff import datasets
from graphdiff.evaluation.ranking import evaluate
from graphdiff.experiments.machine import machine
from graphdiff.files import make_folder, write_text
from graphdiff.graph.approximate import share_found
from graphdiff.models import get_model
from graphdiff.models.base import Query, Recommender
from graphdiff.models.ld4mrec.model import LD4MRec
from graphdiff.serving import RetrievalIndex
from graphdiff.serving.export import Precision
from graphdiff.training.fit import fit

#: How an export may store its tables.
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    console = Console()
    if arguments.render is not None:
        result = json.loads(arguments.render.read_text())
        result["catalogues"] = [with_targets(one) for one in result["catalogues"]]
        write(result, arguments.render)
    else:
        torch.set_num_threads(arguments.threads)
        result = measure_all(arguments, console)
        write(result, arguments.out)
    for catalogue in result["catalogues"]:
        show(catalogue, console)
    console.print(f"figures: {arguments.render or arguments.out}")


def write(result: dict[str, Any], path: Path) -> None:
    """Write the figures as JSON, and their page beside it."""
    make_folder(path.parent)
    write_text(path, json.dumps(result, indent=1) + "\n")
    write_text(path.with_suffix(".md"), page(result))


def measure_all(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure both catalogues."""
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
        large = paths.make("ld4mrec", graph, hidden_channels=arguments.width)
        catalogues.append(measure("power-law", large, arguments, console))
    return {
        "k": paths.K,
        "batch": paths.BATCH,
        "width": model.config.hidden_channels,
        "requests": arguments.requests,
        "machine": machine() | {"device": "cpu"},
        "catalogues": catalogues,
    }


def with_targets(catalogue: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a catalogue with ratios and targets."""
    catalogue = catalogue | {"ratios": ratios(catalogue["paths"])}
    return catalogue | {"targets": [target._asdict() for target in targets(catalogue)]}


@torch.no_grad()
def measure(
    name: str, model: Recommender, arguments: argparse.Namespace, console: Console
) -> dict[str, Any]:
    """Measure all paths on one catalogue."""
    assert isinstance(model, LD4MRec)
    graph, model = model.graph, model.eval()
    overflow = chain_overflow(model)
    # Only the chain reads it. It would overflow for some users, which the ranking refuses; the cost
    # of a step does not depend on it.
    model.reconstruction.log_scale.fill_(-20)
    console.print(f"{name}: {graph.num_items:,} items")
    skipped: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        timed: list[Timed] = []
        index = RetrievalIndex(model, approximate=graph.num_items > 5000)
        program = Path(folder) / "model.onnx"
        makers: list[Callable[[], Iterator[Timed]]] = [
            lambda: paths.ours(model, index),
            lambda: paths.exported(model, program, arguments.threads),
            lambda: paths.inner_products(graph, model.config.hidden_channels),
            lambda: paths.diffmm(graph, model.config.hidden_channels),
            lambda: paths.diffrec(graph),
        ]
        for one in makers:
            try:
                timed.extend(one())
            except DoesNotFitError as error:
                skipped.append(error.args[0])
                console.print(f"skipped: {error.args[0]['model']}: {error.args[0]['reason']}")
            # Propagation graphs, which the tables are computed from, are not needed again.
            graph.clear_cache()
        run(timed, graph.num_users, arguments)
    figures = [path.figures() for path in timed]
    catalogue = {
        "name": name,
        "items": graph.num_items,
        "index": {"kind": "approximate" if index.approximate else "exact", "recall": index.recall},
        "chain_overflows_for": overflow,
        "paths": figures,
        "skipped": skipped,
    }
    return with_targets(catalogue)


def chain_overflow(model: LD4MRec) -> float:
    """Return the share of a batch of users whose own chain leaves the range of float32."""
    user = torch.arange(min(paths.BATCH, model.num_users))
    query = Query(model.graph.rows(user), user)
    vectors = model.user_vectors(query, model.cached_tables(), num_steps=model.process.num_steps)
    return 1 - vectors.isfinite().all(dim=1).float().mean().item()


def run(timed: list[Timed], num_users: int, arguments: argparse.Namespace) -> None:
    """Time all paths in turn, until each has had its requests or its time."""
    generator = torch.Generator().manual_seed(0)
    for kind, size, wanted in (("single", 1, arguments.requests), ("batch", paths.BATCH, 15)):
        chosen = [path for path in timed if kind == "single" or path.batches]
        spent = dict.fromkeys(map(id, chosen), 0.0)
        for turn in range(wanted + 1):
            user = torch.randint(num_users, (size,), generator=generator)
            # In another order each time, as a path that fills the caches slows down the next one.
            for place in torch.randperm(len(chosen), generator=generator).tolist():
                path = chosen[place]
                if spent[id(path)] > arguments.seconds:
                    continue
                start, cpu = time.perf_counter(), time.process_time()
                path.ask(user)
                passed = time.perf_counter() - start, time.process_time() - cpu
                spent[id(path)] += passed[0]
                # The first request warms up, unless there is no time for another.
                if turn or passed[0] > arguments.seconds:
                    getattr(path, kind).append(passed)


def cost_of_tables(model: LD4MRec, data: Any, threads: int) -> dict[str, dict[str, float]]:
    """Return, for programs with tables in fewer bits, validation metrics, the share of the
    recommendations in float32 that they keep, and the size of their files."""
    users = torch.arange(min(paths.BATCH, model.num_users))
    exact, out = None, {}
    for precision in PRECISIONS:
        with tempfile.TemporaryDirectory() as folder:
            program = OnnxProgram(model, Path(folder) / "model.onnx", threads, precision)
        found = evaluate(program, data, "val", ks=(paths.K,))
        lists, _ = program.recommend(users)
        exact = lists if exact is None else exact
        out[precision] = {
            "recall@20": found["recall@20"],
            "ndcg@20": found["ndcg@20"],
            "kept": share_found(lists, exact),
            "mib": program.size / 2**20,
        }
    return out


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--root", type=Path, help="folder of the dataset's files")
    parser.add_argument("--epochs", type=int, default=10, help="that LD4MRec is trained for before")
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
    parser.add_argument("--requests", type=int, default=300, help="of one user, for each path")
    parser.add_argument("--seconds", type=float, default=30, help="maximum per path and size")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file to write, with a page beside it")
    parser.add_argument(
        "--render", type=Path, metavar="JSON", help="measure nothing, compute ratios and targets"
    )
    arguments = parser.parse_args(argv)
    if (arguments.out is None) == (arguments.render is None):
        parser.error("give --out FILE.json to measure, or --render FILE.json to show its figures")
    return arguments


if __name__ == "__main__":
    main()
