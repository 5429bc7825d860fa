"""The ways to answer a request that the latency benchmark times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dense_reference import chain_on_rows, dense_rows
from scaling import GIB, free_memory
from torch import Tensor

from graphdiff.graph.store import RecGraph
from graphdiff.models import get_model
from graphdiff.models.base import Query, Recommender, Tables
from graphdiff.models.ld4mrec.model import LD4MRec
from graphdiff.nn.topk import topk_inner_product
from graphdiff.serving import RetrievalIndex
from graphdiff.serving.export import Precision, export

K, BATCH = 20, 1024
#: How the 40 steps of DiffRec and the 20 of LD4MRec are walked.
ON_ROWS, IN_D = "chain on rows", "chain in d dimensions"
FREE, INDEX = "forward-free", "forward-free, index"
NO_RANKING = ", no ranking"
INNER, BARE = "inner products", "matrix product and top-k alone"
Ask = Callable[[Tensor], Any]


@dataclass
class Timed:
    """A path and its measurements.

    Attributes:
        model: Name of the model.
        path: Name of the path.
        ask: Recommends to users, long ``[B]``.
        batches: Whether it is timed on batches of users too.
        single: Seconds of requests of one user: elapsed, and of the processor.
        batch: The same of batches.
    """

    model: str
    path: str
    ask: Ask
    batches: bool = True
    single: list[tuple[float, float]] = field(default_factory=list)
    batch: list[tuple[float, float]] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Return percentiles of single requests and rates of batches."""
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


def make(name: str, graph: RecGraph, **settings: Any) -> Recommender:
    """Return a model with random weights."""
    cls = get_model(name)
    torch.manual_seed(0)
    model = cls(cls.configure(**settings), graph)
    model.reset_parameters()
    return model.eval()


class DoesNotFitError(Exception):
    """A model does not fit in memory."""


def require(model: str, needed: float) -> None:
    """Check that a model fits in memory.

    Args:
        model: Its name.
        needed: Bytes that it needs.

    Raises:
        DoesNotFitError: With a dictionary of the model and the reason.
    """
    available = free_memory("cpu")
    if needed > 0.7 * available:
        reason = f"it needs about {needed / GIB:.1f} GiB and {available / GIB:.1f} are free"
        raise DoesNotFitError({"model": model, "reason": reason})


def ours(model: LD4MRec, index: RetrievalIndex) -> Iterator[Timed]:
    """Yield the paths of LD4MRec."""
    tables = model.cached_tables()

    def query(user: Tensor) -> Query:
        return Query(model.graph.rows(user), user)

    def on_rows(user: Tensor) -> tuple[Tensor, Tensor]:
        rows = model.graph.rows(user)
        # Noise is left out, in favour of this path.
        vectors = chain_on_rows(model, rows, dense_rows(rows, model.num_items, model.bias.dtype))
        seen = rows.row, rows.item
        return topk_inner_product(vectors, tables.item, tables.bias, K, seen)

    steps = model.process.num_steps
    name = "LD4MRec"
    yield Timed(name, FREE, lambda user: model.recommend(user, k=K))
    yield Timed(name, INDEX, lambda user: index.recommend(user, k=K))
    yield Timed(name, IN_D, lambda user: model.recommend(user, k=K, num_steps=steps))
    fits = 4 * 6 * BATCH * model.num_items < 0.5 * free_memory("cpu")
    yield Timed(name, ON_ROWS, on_rows, fits)
    yield Timed(name, FREE + NO_RANKING, lambda user: model.user_vectors(query(user), tables))
    yield Timed(
        name,
        IN_D + NO_RANKING,
        lambda user: model.user_vectors(query(user), tables, num_steps=steps),
    )


class OnnxProgram:
    """An exported program with the interface of a model."""

    def __init__(
        self, model: LD4MRec, path: Path, threads: int, precision: Precision = "float32"
    ) -> None:
        import onnxruntime

        export(model, path, k=K, precision=precision)
        self.graph, self.size = model.graph, path.stat().st_size
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Its threads would keep spinning while the next path is timed.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(path, options)
        path.unlink()

    def recommend(self, user_index: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Return the K best items of training users, without their own."""
        row, item, num, _ = self.graph.rows(user_index)
        offsets = torch.searchsorted(row, torch.arange(num))
        given = {"history_index": item.numpy(), "offsets": offsets.numpy()}
        best, score = self.session.run(None, given)
        return torch.from_numpy(best), torch.from_numpy(score)


def exported(model: LD4MRec, path: Path, threads: int) -> Iterator[Timed]:
    """Yield the path of LD4MRec as an ONNX program."""
    # The tables, their copy in the program, in the file's message and in the runtime.
    require("LD4MRec, ONNX", 5 * 4 * 4 * model.config.hidden_channels * model.num_items)
    yield Timed("LD4MRec", "forward-free, ONNX", OnnxProgram(model, path, threads).recommend)


def with_random_tables(name: str, graph: RecGraph, **settings: Any) -> Recommender:
    """Return a model whose tables of users and items are random.

    The cost of a request does not depend on them, and message passing would need many times the
    memory.
    """
    model = make(name, graph, **settings)
    channels = model.config.hidden_channels
    tables = Tables(
        item=torch.randn(graph.num_items, channels), user=torch.randn(graph.num_users, channels)
    )
    model.tables = lambda: tables
    return model


def inner_products(graph: RecGraph, channels: int) -> Iterator[Timed]:
    """Yield inner products of vectors as wide as LD4MRec's."""
    # Parameters and tables.
    require("LightGCN", 2 * 4 * channels * (graph.num_users + graph.num_items))
    model = with_random_tables("lightgcn", graph, hidden_channels=channels)
    yield Timed("LightGCN", INNER, lambda user: model.recommend(user, k=K))
    tables = model.cached_tables()
    yield Timed(
        "none",
        BARE,
        lambda user: (tables.user[user] @ tables.item.t()).topk(K),
        4 * BATCH * graph.num_items < 0.5 * free_memory("cpu"),
    )


def diffmm(graph: RecGraph, channels: int) -> Iterator[Timed]:
    """Yield the path of DiffMM."""
    require("DiffMM", 2 * 4 * channels * (graph.num_users + graph.num_items))
    # The denoisers are used in training only.
    model = with_random_tables("diffmm", graph, hidden_channels=channels, denoiser_channels=1)
    yield Timed("DiffMM", INNER, lambda user: model.recommend(user, k=K))


def diffrec(graph: RecGraph) -> Iterator[Timed]:
    """Yield the paths of DiffRec."""
    width = get_model("diffrec").Config.model_fields["hidden_channels"].default
    require("DiffRec", 2.5 * 4 * width * graph.num_items)
    plain = RecGraph(graph.rowptr, graph.col, graph.num_items)
    model = make("diffrec", plain)
    fits = 4 * 6 * BATCH * graph.num_items < 0.4 * free_memory("cpu")
    yield Timed("DiffRec", IN_D, lambda user: model.recommend(user, k=K))
    yield Timed("DiffRec", ON_ROWS, lambda user: model.recommend(user, k=K, on_rows=True), fits)
