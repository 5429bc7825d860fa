"""Operators that a training step of LD4MRec dispatches.

    python benchmarks/count_operators.py --items 10000 --out operators.json --markdown operators.md

On a GPU every kernel is launched by an operator, and a step on a small catalogue waits for launches
rather than for arithmetic; on a CPU each one costs microseconds. Counted by torch.profiler on the
CPU, forward, backward, optimizer and moving average included, in steps between two propagations:

* ``dispatched``: all calls of operators, those from inside other operators, views and allocations
  included;
* ``called``: those that are not called from inside another operator;
* ``computing``: those among them that are not views or allocations, which launch no kernel.

Counts depend on the shapes a little: a table that is larger is read in more pieces. ``--before``
adds the counts of an earlier file to the page.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from options import page
from power_law import power_law_graph
from scaling_step import SETTINGS, make_step
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from graphdiff.experiments.machine import machine
from graphdiff.files import make_folder, write_text
from graphdiff.models.ld4mrec.model import LD4MRec

#: Settings of the steps that are counted: those of the scaling benchmark, and the defaults.
STEPS: dict[str, dict[str, Any]] = {
    "scaling": {
        "hidden_channels": 64,
        "batch_size": 1024,
        **SETTINGS,
        "linear_path.enabled": False,
    },
    "default": {},
}
#: Operators that launch no kernel: views and allocations.
VIEWS_AND_ALLOCATIONS = """
_local_scalar_dense _reshape_alias alias as_strided broadcast_tensors chunk col_indices contiguous
crow_indices detach detach_ diagonal empty empty_like empty_strided expand expand_as flatten
is_nonzero item lift_fresh mH mT movedim narrow new_empty permute reshape resize_ resolve_conj
resolve_neg result_type select set_ slice split split_with_sizes squeeze t tensor_split to transpose
unbind unflatten unsqueeze values view view_as
"""
IDLE = frozenset(VIEWS_AND_ALLOCATIONS.split())


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    result = json.loads(options.render.read_text()) if options.render else run(options)
    if options.markdown:
        before = json.loads(options.before.read_text()) if options.before else None
        write_text(options.markdown, render(result, before))
    print(f"counts: {options.render or options.out}")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Count the operators of all steps, and write them."""
    result: dict[str, Any] = {"items": options.items, "machine": machine(), "steps": {}}
    for name, settings in STEPS.items():
        result["steps"][name] = {"settings": settings} | count(options.items, settings)
    make_folder(options.out.parent)
    write_text(options.out, json.dumps(result, indent=1) + "\n")
    return result


def count(num_items: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the counts of a step with the given settings."""
    torch.manual_seed(0)
    model = LD4MRec(LD4MRec.configure(**settings), power_law_graph(num_items, modalities=True))
    model.train().reset_parameters()
    generator = torch.Generator().manual_seed(0)
    batches = torch.randperm(model.num_users, generator=generator).split(model.config.batch_size)
    return count_step(make_step("sparse", model, generator), batches[:4])


def count_step(step: Callable[[torch.Tensor], Any], batches: Any) -> dict[str, Any]:
    """Return the counts of the last of several steps; the first ones prepare tables and states."""
    *first, last = batches
    for batch in first:
        step(batch)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step(last)
    events = [event for event in profiler.events() or [] if is_operator(event)]
    called = [event for event in events if not inside_operator(event)]
    names = Counter(name_of(event) for event in called)
    return {
        "dispatched": len(events),
        "called": len(called),
        "computing": sum(n for name, n in names.items() if name not in IDLE),
        "most_called": dict(names.most_common(25)),
    }


def is_operator(event: FunctionEvent) -> bool:
    return event.name.startswith("aten::")


def name_of(event: FunctionEvent) -> str:
    return event.name.removeprefix("aten::")


def inside_operator(event: FunctionEvent) -> bool:
    parent = event.cpu_parent
    while parent is not None:
        if is_operator(parent):
            return True
        parent = parent.cpu_parent
    return False


def render(result: dict[str, Any], before: dict[str, Any] | None) -> str:
    """Return the Markdown page of the counts."""
    kinds = ("dispatched", "called", "computing")
    rows = []
    for name, step in result["steps"].items():
        cells = [name]
        for kind in kinds:
            cells.append(f"{step[kind]:,}")
            if before is not None:
                cells[-1] = f"{before['steps'][name][kind]:,} → {cells[-1]}"
        rows.append(cells)
    note = (
        f"A step of LD4MRec with {result['items']:,} items, forward, backward and optimizer, "
        f"counted by torch.profiler on the CPU (torch {result['machine']['torch']}). Dispatched: "
        "all calls of operators; called: not from inside another operator; computing: those among "
        "them that are neither views nor allocations. `scaling`: the settings of scaling.py, "
        "between two propagations, without a linear path; `default`: the default settings, which "
        "propagate in every step on a graph of this size, and train a linear path on its rows of "
        "20 items."
    )
    if before is not None:
        note += " Before the arrow: an earlier version."
    return page("Operators of a training step", ["step", *kinds], rows, note)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--render", type=Path, metavar="JSON", help="count nothing, write its page")
    parser.add_argument("--markdown", type=Path, help="Markdown page to write")
    parser.add_argument("--before", type=Path, metavar="JSON", help="counts to compare with")
    options = parser.parse_args(arguments)
    if (options.out is None) == (options.render is None):
        parser.error("give --out FILE.json to count, or --render FILE.json to write its page")
    return options


if __name__ == "__main__":
    main()
