"""Scoring on a Ray cluster, with Ray Data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graphdiff.cluster.parts import PartScorer

#: Most tasks of one run; each writes its parts one by one.
MOST_TASKS = 1024
# The scorer of this worker process and the reference of its arguments. Ray uses a process for one
# task after another, so a model is loaded once per process.
_held: tuple[Any, PartScorer] | None = None


def write_parts(
    ray: Any, arguments: tuple[Any, ...], parts: list[int], workers: int, gpus: float
) -> Iterator[tuple[int, str]]:
    """Write parts by workers that hold the model.

    Ray repeats the tasks of a lost worker or machine on another one. Tasks and not actors: those of
    a lost actor would wait for it, for ever where no other machine has room.

    Args:
        ray: The module, connected to a cluster.
        arguments: Those of :class:`~graphdiff.cluster.parts.PartScorer`.
        parts: The parts to write.
        workers: Most tasks at a time.
        gpus: GPUs of each.

    Yields:
        Each part that was written, and the id of the machine that wrote it.
    """
    from ray.data import DataContext, TaskPoolStrategy

    DataContext.get_current().enable_progress_bars = False
    # Ray would end a process with GPUs after each task, and the model with it.
    limits = {"num_gpus": gpus, "max_calls": 2**31 - 1} if gpus else {}
    written = ray.data.from_items(
        [{"part": part} for part in parts], override_num_blocks=min(len(parts), MOST_TASKS)
    ).map_batches(
        _write,
        fn_args=(ray.put(arguments),),
        batch_size=1,
        compute=TaskPoolStrategy(size=workers),
        num_cpus=1,
        max_retries=-1,
        **limits,
    )
    for row in written.iter_rows():
        yield row["part"], row["node"]


def _write(batch: dict[str, Any], arguments: Any) -> dict[str, Any]:
    import ray

    global _held
    if _held is None or _held[0] != arguments:
        _held = arguments, PartScorer(*ray.get(arguments))
    for part in batch["part"].tolist():
        _held[1].write(part)
    node = ray.get_runtime_context().get_node_id()
    return {"part": batch["part"], "node": [node] * len(batch["part"])}
