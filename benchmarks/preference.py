"""Whether users differ in how much each modality matters to them, on data as it is.

    python benchmarks/preference.py --dataset lfm2k --root DIR --out preference-lfm2k.json \
        --markdown preference-lfm2k.md

Nothing is trained, and test pairs are not read. The *agreement* of a user in a modality is the mean
cosine of all pairs of the user's items, with features centred on their mean over interactions: zero
for items drawn at random. Three questions:

1. Is it a property of the user? The rows of users with at least eight items are split into random
   halves; the rank correlation over users of the agreements in both halves is the answer, for
   each modality, and for the differences between two modalities in units of their deviations.
2. Does it predict what the user chooses next? Items are ranked by their mean cosine with the user's
   row in one modality; the share of items ranked below a validation item is its percentile. Does
   the modality with the larger agreement rank the user's validation items better?
3. Is it of use? Cosines are added up with weights in proportion to the agreements: those of all
   users together, or each user's own, shrunk towards the former by n / (n + κ). κ is the ratio of
   the variances within and between users, from the first answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import options as shared
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff import datasets
from graphdiff.errors import ConfigError, GraphDiffError
from graphdiff.evaluation.ranking import evaluate_users
from graphdiff.files import make_folder, write_text
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.nn.reconstruction import sum_items
from graphdiff.schema import INTERACTS, fingerprint

#: Smallest number of items with features in each half of a row.
SMALLEST_HALF = 4
BATCH = 512


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    try:
        data = datasets.load(options.dataset, options.root, **shared.dataset_options(options))[0]
        result = measure(data, options.seeds)
    except GraphDiffError as error:
        sys.exit(f"preference.py: {error}")
    result = {"dataset": options.dataset, "fingerprint": fingerprint(data), **result}
    make_folder(options.out.parent)
    write_text(options.out, json.dumps(result, indent=1) + "\n")
    text = page(result)
    print(text)
    if options.markdown:
        write_text(options.markdown, text)


def measure(data: HeteroData, seeds: int) -> dict[str, Any]:
    """Return the answers to all questions.

    Args:
        data: A graph with at least two modalities and validation pairs.
        seeds: Number of random halvings.

    Raises:
        ConfigError: If it has fewer.
    """
    graph = RecGraph.from_data(data, similarity=False)
    if len(graph.modalities) < 2:
        raise ConfigError(
            f"the data has {len(graph.modalities)} modalities; users can prefer one where there "
            "are at least two"
        )
    tables = {name: coordinates(graph, name) for name in graph.modalities}
    rows = graph.rows(torch.arange(graph.num_users))
    own = {name: agreements(table, rows) for name, table in tables.items()}
    halves = reliability(tables, rows, seeds)
    pooled = {name: pooled_agreement(tables[name], rows) for name in tables}
    ranks = percentiles(data, graph, tables)
    kappa = {name: halves["modalities"][name]["kappa"] for name in tables}
    return {
        "users": graph.num_users,
        "mean_row": graph.num_interactions / graph.num_users,
        "pooled": pooled,
        "halves": halves,
        "choices": choices(own, ranks),
        "rankings": rankings(data, graph, tables, own, pooled, kappa),
    }


def coordinates(graph: RecGraph, name: str) -> Tensor:
    """Return features of length one, centred on their mean over interactions, ``[I, F]``."""
    x, has = graph.features(name)
    unit = F.normalize(x, dim=1)
    chosen = graph.item_degree() * has
    centre = chosen.to(unit.dtype) @ unit / chosen.sum().clamp(min=1)
    return F.normalize((unit - centre) * has.unsqueeze(1), dim=1)


def agreements(table: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
    """Return each row's mean cosine over pairs of items, NaN without a pair, and its number of
    items with features, ``[B]`` each."""
    count = torch.bincount(rows.row, table.any(dim=1)[rows.item], rows.num).long()
    pairs = count * (count - 1)
    total = sum_items(table, rows).square().sum(dim=1) - count
    return torch.where(pairs > 0, total / pairs.clamp(min=1), torch.nan).float(), count


def pooled_agreement(table: Tensor, rows: Rows) -> float:
    """Return the mean agreement of rows, each with as much weight as it has items."""
    own, count = agreements(table, rows)
    known = own.isfinite()
    return ((own * count)[known].sum() / count[known].sum()).clamp(min=0).item()


def reliability(tables: dict[str, Tensor], rows: Rows, seeds: int) -> dict[str, Any]:
    """Return rank correlations over users between both halves of their rows, and κ.

    κ is defined by the correlation r of two halves of n / 2 items: (n / 2) (1 - r) / r, with the
    mean n of the users that are compared.
    """
    found: dict[str, list[float]] = {}
    sizes = []
    for seed in range(seeds):
        halves = [
            {name: agreements(table, half)[0] for name, table in tables.items()}
            for half in halved(rows, seed)
        ]
        counts = [agreements(next(iter(tables.values())), half)[1] for half in halved(rows, seed)]
        use = torch.minimum(*counts) >= SMALLEST_HALF
        for half in halves:
            for values in half.values():
                use &= values.isfinite()
        sizes.append((counts[0] + counts[1])[use].float().mean().item())
        scaled = [{name: standard(values[use]) for name, values in half.items()} for half in halves]
        for name in tables:
            found.setdefault(name, []).append(correlation(*(half[name] for half in scaled)))
        for one, other in combinations(tables, 2):
            differences = [half[one] - half[other] for half in scaled]
            found.setdefault(f"{one} - {other}", []).append(correlation(*differences))
    mean = {name: sum(values) / seeds for name, values in found.items()}
    size = sum(sizes) / seeds
    return {
        "users": int(use.sum()),
        "mean_row": size,
        "modalities": {
            name: {"correlation": mean[name], "kappa": size / 2 * (1 / max(mean[name], 1e-3) - 1)}
            for name in tables
        },
        "differences": {name: value for name, value in mean.items() if name not in tables},
    }


def halved(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """Return two random halves of each row."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(rows.item.numel(), generator=generator).argsort()
    order = order[rows.row[order].argsort(stable=True)]
    row, item = rows.row[order], rows.item[order]
    place = torch.arange(row.numel()) - rows.starts()[row]
    first = place % 2 == 0
    return Rows(row[first], item[first], rows.num), Rows(row[~first], item[~first], rows.num)


def standard(values: Tensor) -> Tensor:
    """Return values of mean zero and deviation one."""
    return (values - values.mean()) / values.std().clamp(min=1e-12)


def correlation(one: Tensor, other: Tensor) -> float:
    """Return Spearman's rank correlation."""
    return float(spearmanr(one.numpy(), other.numpy()).statistic)


def percentiles(data: HeteroData, graph: RecGraph, tables: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return each user's mean percentile of validation items with features, by modality, ``[U]``;
    NaN for users without any."""
    user, item = data[INTERACTS].val_edge_label_index
    everywhere = torch.stack([table.any(dim=1) for table in tables.values()]).all(dim=0)
    keep = everywhere[item]
    user, item = user[keep], item[keep]
    found = {}
    for name, table in tables.items():
        total, count = torch.zeros(graph.num_users), torch.zeros(graph.num_users)
        for users in user.unique().split(BATCH):
            rows = graph.rows(users)
            score = sum_items(table, rows) @ table.t()
            score[:, ~everywhere] = -torch.inf
            score[rows.row, rows.item] = -torch.inf
            place = torch.full((graph.num_users,), -1)
            place[users] = torch.arange(len(users))
            chosen = place[user] >= 0
            row, target = place[user[chosen]], item[chosen]
            own = score[row, target].unsqueeze(1)
            others = score.isfinite().sum(dim=1)[row].clamp(min=2) - 1
            below = ((score[row] < own) & score[row].isfinite()).sum(dim=1)
            total.index_add_(0, user[chosen], below / others)
            count.index_add_(0, user[chosen], torch.ones(len(target)))
        found[name] = total / count  # NaN without an item
    return found


def choices(
    own: dict[str, tuple[Tensor, Tensor]], ranks: dict[str, Tensor]
) -> list[dict[str, Any]]:
    """Return for each pair of modalities how the difference of agreements, in deviations, goes
    with the difference of percentiles."""
    found = []
    for one, other in combinations(own, 2):
        (a, count), (b, _) = own[one], own[other]
        use = a.isfinite() & b.isfinite() & ranks[one].isfinite() & ranks[other].isfinite()
        use &= count >= 2 * SMALLEST_HALF
        larger = standard(a[use]) - standard(b[use])
        better = ranks[one][use] - ranks[other][use]
        known = better != 0
        right = ((larger > 0) == (better > 0))[known].float().mean().item()
        base = (better[known] > 0).float().mean().item()
        found.append(
            {
                "one": one,
                "other": other,
                "users": int(use.sum()),
                "percentile": [ranks[name][use].mean().item() for name in (one, other)],
                "correlation": correlation(larger, better),
                "right": right,
                "always_one": max(base, 1 - base),
            }
        )
    return found


class WeightedContent:
    """Recommends by the mean cosine with the user's items, added up over modalities.

    Args:
        graph: The interactions.
        tables: Coordinates of each modality.
        weights: Each user's weight of each modality, ``[U]``.
    """

    def __init__(
        self, graph: RecGraph, tables: dict[str, Tensor], weights: dict[str, Tensor]
    ) -> None:
        self.graph, self.tables, self.weights = graph, tables, weights
        self.num_items = graph.num_items

    def recommend(
        self, user_index: Tensor, *, k: int, exclude_seen: bool = True, exclude_index: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Return the top-k items of each user; see :class:`RecommendsItems`."""
        rows = self.graph.rows(user_index)
        score = torch.zeros(rows.num, self.num_items)
        for name, table in self.tables.items():
            profile = self.weights[name][user_index].unsqueeze(1) * sum_items(table, rows)
            score += profile @ table.t()
        if exclude_seen:
            score[rows.row, rows.item] = -torch.inf
        if exclude_index is not None:
            score[exclude_index] = -torch.inf
        best, item = score.topk(k, dim=1)
        return item, best


def personal_weights(
    own: dict[str, tuple[Tensor, Tensor]], pooled: dict[str, float], kappa: dict[str, float]
) -> dict[str, Tensor]:
    """Return weights ``[U]`` in proportion to users' agreements, which are shrunk towards those of
    all users by n / (n + κ)."""
    raw = {}
    for name, (values, count) in own.items():
        share = count / (count + kappa[name])
        mean = pooled[name]
        shrunk = mean + share * (values.nan_to_num(mean) - mean)
        raw[name] = shrunk.clamp(min=1e-6)
    total = sum(raw.values(), torch.zeros(()))
    return {name: value / total for name, value in raw.items()}


def rankings(
    data: HeteroData,
    graph: RecGraph,
    tables: dict[str, Tensor],
    own: dict[str, tuple[Tensor, Tensor]],
    pooled: dict[str, float],
    kappa: dict[str, float],
) -> list[dict[str, Any]]:
    """Return validation metrics of content rankings by their weights."""
    everyone = torch.ones(graph.num_users)
    sum_pooled = sum(pooled.values())
    known = {f"{one} alone": {name: everyone * (name == one) for name in tables} for one in tables}
    known["equal"] = {name: everyone / len(tables) for name in tables}
    known["agreement of all users"] = {
        name: everyone * value / sum_pooled for name, value in pooled.items()
    }
    known["own agreement, shrunk"] = personal_weights(own, pooled, kappa)
    for factor in (0.0, 10.0):
        scaled = {name: factor * value for name, value in kappa.items()}
        label = "own agreement, not shrunk" if not factor else "own agreement, shrunk 10 times more"
        known[label] = personal_weights(own, pooled, scaled)
    users = {
        label: evaluate_users(WeightedContent(graph, tables, weights), data, "val", (20,))
        for label, weights in known.items()
    }
    base = users["agreement of all users"]
    found = []
    for label, values in users.items():
        difference = (values["recall@20"] - base["recall@20"]).double()
        error = difference.std() / len(difference) ** 0.5
        found.append(
            {
                "weights": label,
                **{name: values[name].double().mean().item() for name in ("recall@20", "ndcg@20")},
                "difference": difference.mean().item(),
                "standard_error": error.item(),
            }
        )
    return found


def page(result: dict[str, Any]) -> str:
    """Return the answers as a Markdown page."""
    halves = result["halves"]
    first = [
        [name, f"{one['correlation']:.2f}", f"{one['kappa']:.1f}", f"{result['pooled'][name]:.3f}"]
        for name, one in halves["modalities"].items()
    ]
    first += [[name, f"{value:.2f}", "", ""] for name, value in halves["differences"].items()]
    second = [
        [
            f"{one['one']} and {one['other']}",
            str(one["users"]),
            " and ".join(f"{value:.3f}" for value in one["percentile"]),
            f"{one['correlation']:.3f}",
            f"{one['right']:.1%}",
            f"{one['always_one']:.1%}",
        ]
        for one in result["choices"]
    ]
    third = [
        [
            one["weights"],
            f"{one['recall@20']:.4f}",
            f"{one['ndcg@20']:.4f}",
            f"{one['difference']:+.4f} ± {one['standard_error']:.4f}",
        ]
        for one in result["rankings"]
    ]
    tables = [
        (
            "Agreement in two halves of a row",
            ["modality", "rank correlation", "κ", "mean agreement"],
            first,
            f"Over {halves['users']:,} users with {halves['mean_row']:.1f} items on average. A "
            "difference is that of agreements in units of their deviation over users.",
        ),
        (
            "Agreement and the user's next choice",
            [
                "modalities",
                "users",
                "mean percentile of validation items",
                "rank correlation of the differences",
                "better modality predicted",
                "by always naming one",
            ],
            second,
            "Agreements are of use where they name the better modality more often than always "
            "naming one does.",
        ),
        (
            "Content rankings by weights of the modalities",
            ["weights", "val recall@20", "val ndcg@20", "difference in recall ± standard error"],
            third,
            "Differences are from the weights by the agreement of all users, over users.",
        ),
    ]
    parts = [
        shared.page(title, head, rows, note).replace("# ", "## ", 1)
        for title, head, rows, note in tables
    ]
    head = (
        f"# Preference of modalities on {result['dataset']}\n\n{result['users']:,} users, "
        f"{result['mean_row']:.1f} training items each on average. Data fingerprint "
        f"{result['fingerprint']}.\n"
    )
    return "\n".join([head, *parts])


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared.add_data(parser)
    parser.add_argument("--seeds", type=int, default=10, help="number of random halvings")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--markdown", type=Path, help="Markdown page to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
