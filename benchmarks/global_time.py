"""Whether models keep their order when nothing later than a point in time is learned from.

    python benchmarks/global_time.py --dataset csv --root DIR --dataset-options timestamp=date \
        --models ld4mrec lightgcn ease popularity --seeds 3 --out time.json --markdown time.md
    python benchmarks/global_time.py --dataset synthetic-drift --dataset-options split=ratio \
        --out time.json

The models are compared on a log with timestamps under its usual split (that of the options, by
default a random one per user) and under split=global_time: one cut-off for all users. The page
states the rank correlation of both. Each split has its own validation and test pairs, so figures
are comparable within a column only.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product
from typing import Any

import options as shared
import torch
from scipy.stats import kendalltau, rankdata, spearmanr
from torch_geometric.data import HeteroData

from graphdiff import datasets
from graphdiff.errors import ConfigError
from graphdiff.experiments.cells import Cell, CellList, summary
from graphdiff.experiments.compare import named_models
from graphdiff.experiments.graphs import given
from graphdiff.files import write_text
from graphdiff.models.presets import NamedModel
from graphdiff.schema import INTERACTS, fingerprint

METRICS = ("recall@20", "ndcg@20")
USUAL, GLOBAL_TIME = "usual", "global_time"


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    result = shared.run_or_exit("global_time.py", run, options)
    if options.markdown:
        write_text(options.markdown, page(result))
    for metric, one in result["correlation"].items():
        print(f"{metric}: Kendall's tau {one['kendall']:.3f}, Spearman's rho {one['spearman']:.3f}")
    print(f"figures: {options.render or options.out}")


def run(options: argparse.Namespace) -> CellList:
    """Measure all models and seeds under both splits."""
    experiment = shared.cell_list(options)
    arguments = {**shared.dataset_options(options), "split": "global_time"}
    later = datasets.load(options.dataset, options.root, **arguments)[0]
    graphs = {USUAL: experiment.data, GLOBAL_TIME: later}
    if fingerprint(later) == fingerprint(experiment.data):
        raise ConfigError(
            f"{options.dataset} is split at a global point in time as it is; name the other split, "
            "such as --dataset-options split=ratio"
        )
    experiment.result["splits"] = {name: describe(data) for name, data in graphs.items()}
    models = named_models(options.models)
    experiment.run(cells(graphs, models, options.seeds))
    experiment.result["correlation"] = correlation(experiment.requested())
    experiment.save()
    return experiment


def cells(graphs: dict[str, HeteroData], models: list[NamedModel], seeds: int) -> Iterator[Cell]:
    """Yield all splits, seeds and models; settings found on one split would favour it, so all
    models have their defaults."""
    for name, data in graphs.items():
        graph, labels = given(data), {"split": name, "data": fingerprint(data)}
        for seed, model in product(range(seeds), models):
            settings = model.settings({})
            yield Cell(model.model, settings, seed, graph, labels, preset=model.preset)


def describe(data: HeteroData) -> dict[str, int]:
    """Return the sizes of a split: pairs of each part, and test pairs of users and of items
    without a training interaction."""
    store = data[INTERACTS]
    user, item = store.test_edge_label_index
    known = [
        torch.bincount(index, minlength=data[node].num_nodes) > 0
        for node, index in zip(("user", "item"), store.edge_index, strict=True)
    ]
    return {
        "training": store.edge_index.size(1),
        "validation": store.val_edge_label_index.size(1),
        "test": user.numel(),
        "of new users": int((~known[0][user]).sum()),
        "of new items": int((~known[1][item]).sum()),
    }


def correlation(measured: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the rank correlations of the models' test means under both splits, per metric.

    Models that one split lacks are left out; there is none of fewer than two models, nor where
    all are equal.
    """
    found = {}
    for metric in METRICS:
        pairs = list(zip(*both(measured, metric).values(), strict=True))
        if any(len(set(values)) < 2 for values in pairs) or not pairs:
            continue
        found[metric] = {
            "models": len(pairs[0]),
            "kendall": float(kendalltau(*pairs).statistic),
            "spearman": float(spearmanr(*pairs).statistic),
        }
    return found


def both(measured: list[dict[str, Any]], metric: str) -> dict[str, tuple[float, float]]:
    """Return by model the test means under the usual split and under the other."""
    found = {}
    for name in dict.fromkeys(cell["key"]["model"] for cell in measured):
        each = [summary(measured, model=name, split=split) for split in (USUAL, GLOBAL_TIME)]
        if all(each):
            first, second = (one["mean"]["test"][metric] for one in each if one is not None)
            found[name] = (first, second)
    return found


def page(result: dict[str, Any]) -> str:
    """Return figures, ranks and correlations as a Markdown page."""
    lines = [f"# A global point in time on {result['dataset']}"]
    for metric in METRICS:
        found = both(result["cells"], metric)
        if not found:
            continue
        columns = list(zip(*found.values(), strict=True))
        ranks = [rankdata([-value for value in column], "min") for column in columns]
        rows = [
            [name, *(f"{value:.4f} ({int(rank[n])})" for value, rank in zip(both_, ranks,
             strict=True))]
            for n, (name, both_) in enumerate(found.items())
        ]  # fmt: skip
        rows.sort(key=lambda row: row[1], reverse=True)
        lines += ["", f"## test {metric} (rank)", ""]
        lines += shared.markdown_table(["model", "usual split", "global time"], rows)
        if one := result["correlation"].get(metric):
            lines += [
                "",
                f"Rank correlation over {one['models']} models: Kendall's τ {one['kendall']:.3f}, "
                f"Spearman's ρ {one['spearman']:.3f}.",
            ]
    head = ["split", *result["splits"][USUAL]]
    sizes = [
        [name, *(f"{value:,}" for value in one.values())] for name, one in result["splits"].items()
    ]
    lines += ["", "## Pairs", "", *shared.markdown_table(head, sizes), ""]
    lines.append(
        f"Means over {shared.number_of_seeds(result)}, all models with their defaults. Figures are "
        "comparable within a column. "
        f"{shared.masking_note(result)}"
    )
    return "\n".join(lines) + "\n"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared.add_cells(parser)
    parser.add_argument(
        "--models",
        nargs="+",
        default=["popularity", "itemknn", "ease", "ials", "gfcf", "lightgcn", "multvae", "ld4mrec"],
    )
    return shared.parse_cells(parser, arguments)


if __name__ == "__main__":
    main()
