"""Models on altered forms of one dataset: what the scripts on features share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from itertools import product
from typing import Any

import options as shared
from torch_geometric.data import HeteroData

from graphdiff.errors import ConfigError
from graphdiff.experiments.cells import Cell, CellList, summary
from graphdiff.experiments.compare import named_models
from graphdiff.experiments.machine import describe
from graphdiff.experiments.tuned import tuned_settings
from graphdiff.models.presets import NamedModel
from graphdiff.models.registry import MODELS

METRICS = ("recall@20", "ndcg@20")
#: Makes an altered form of the data with a seed.
Alter = Callable[[HeteroData, int], HeteroData]


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the options of models and of what their figures are read from."""
    parser.add_argument(
        "--models", nargs="+", metavar="NAME", help="default: all models that use features"
    )
    parser.add_argument(
        "--defaults", action="store_true", help="default settings, not those that tuning found"
    )
    parser.add_argument(
        "--read",
        choices=("test", "val"),
        default="test",
        help="pairs that the page shows; with val the test pairs are not read at all",
    )


def multimodal() -> list[str]:
    """Return the names of the models that use features."""
    return [name for name, model in MODELS.items() if model.uses_content]


def measure(
    options: argparse.Namespace, label: str, forms: Callable[[HeteroData], Mapping[Any, Alter]]
) -> CellList:
    """Measure all models and seeds on each altered form of the data.

    Args:
        options: Those of :func:`options.add_cells` and :func:`add_models`.
        label: What distinguishes the forms, for the keys of cells.
        forms: Returns the forms by name.
    """
    experiment = shared.cell_list(options)
    if any(label not in cell["key"] for cell in experiment.result["cells"]):
        raise ConfigError(
            f"{options.out} holds results of another benchmark; give another --out, or replace "
            "them without --resume"
        )
    experiment.result["read"] = options.read
    models = named_models(options.models or multimodal())
    found = forms(experiment.data)
    experiment.run(_cells(experiment.data, options, models, label, found))
    experiment.save()
    return experiment


def _cells(
    data: HeteroData,
    options: argparse.Namespace,
    models: list[NamedModel],
    label: str,
    forms: Mapping[Any, Alter],
) -> Iterator[Cell]:
    """Yield all forms, seeds and models; the graph of a form and a seed is made once."""
    for (name, alter), seed in product(forms.items(), range(options.seeds)):
        graph = cache(partial(alter, data, seed))
        for model in models:
            tuned = {} if options.defaults else tuned_settings(options.dataset, model.name)
            labels, measured = {label: name}, {"test": options.read == "test"}
            settings = model.settings(tuned)
            yield Cell(model.model, settings, seed, graph, labels, measured, model.preset)


def rows(
    result: dict[str, Any], label: str, metric: str, order_of_forms: Callable[[Any], Any]
) -> tuple[list[str], list[list[str]]]:
    """Return the columns and the rows of a table of one metric: models by forms.

    Models are in the order of the first form. A form that a model cannot be trained on is a dash.
    """
    cells, read = result["cells"], result["read"]
    # Trainings side by side are kept in the order in which they ended.
    forms = sorted({cell["key"][label] for cell in cells}, key=order_of_forms)
    names = dict.fromkeys(cell["key"]["model"] for cell in cells)
    found = {
        (name, form): summary(cells, model=name, **{label: form})
        for name, form in product(names, forms)
    }

    def order(name: str) -> float:
        first = found[name, forms[0]]
        return -first["mean"][read][metric] if first else 1.0

    table = []
    for name in sorted(names, key=order):
        row = [name]
        for form in forms:
            one = found[name, form]
            row.append("–" if one is None else _shown(one, read, metric))
        table.append(row)
    return [str(form) for form in forms], table


def _shown(found: dict[str, Any], read: str, metric: str) -> str:
    return shared.over_seeds(
        found["mean"][read][metric], found["std"][read][metric], found["count"]
    )


def page(
    result: dict[str, Any],
    title: str,
    label: str,
    columns: Callable[[str], str],
    order: Callable[[Any], Any],
    note: str,
) -> str:
    """Return a Markdown page with a table for each metric.

    Args:
        result: The results.
        title: Title of the page.
        label: See :func:`measure`.
        columns: Returns the heading of a form.
        order: Returns what forms are sorted by.
        note: What a reader must know.
    """
    lines = [f"# {title} on {result['dataset']}"]
    for metric in METRICS:
        forms, table = rows(result, label, metric, order)
        lines += ["", f"## {result['read']} {metric}", ""]
        lines += shared.markdown_table(["model", *map(columns, forms)], table)
    over = f"Mean ± standard deviation over {shared.number_of_seeds(result)}."
    lines += ["", f"{note} {shared.masking_note(result)} {over}"]
    lines += _ended(result, label, columns)
    lines += ["", f"Measured on {describe(result['machine'])}."]
    for other in result.get("earlier_machines", []):
        lines += ["", f"Some cells were measured earlier on {describe(other)}."]
    for one in result["skipped"]:
        key = one["key"]
        lines += ["", f"Skipped: {key['model']}, {columns(str(key[label]))}: {one['reason']}."]
    return "\n".join(lines) + "\n"


def _ended(result: dict[str, Any], label: str, columns: Callable[[str], str]) -> list[str]:
    """Return which trainings the limit of time ended."""
    found: dict[str, list[str]] = {}
    for cell in result["cells"]:
        if (minutes := cell["figures"]["out_of_time"]) is not None:
            key = cell["key"]
            one = f"{key['model']}, {columns(str(key[label]))}, seed {key['seed']}"
            found.setdefault(f"{minutes:g} minutes", []).append(one)
    return [
        line
        for minutes, trainings in found.items()
        for line in ("", f"Ended by the limit of time, {minutes}: {'; '.join(trainings)}.")
    ]
