"""The tables of a comparison, the same for the terminal, Markdown, LaTeX and HTML."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from graphdiff.evaluation.beyond_accuracy import BEYOND_ACCURACY
from graphdiff.experiments.budgets import trainings
from graphdiff.experiments.published import Published, published
from graphdiff.models.registry import MODELS, reads_content

SHOWN = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
COLUMNS = (*SHOWN, "precision@20", "hit_ratio@20", "map@20", "mrr@20", "coverage@20")
LEVEL = 0.05
NONE = "–"
#: Mark of published figures of the best test epoch.
BEST_TEST_EPOCH = "‡"


class Entry(NamedTuple):
    """One entry of a table: a figure or text; ``spread`` and ``mark`` follow it in small print."""

    text: str
    spread: str = ""
    mark: str = ""
    best: bool = False


@dataclass
class Table:
    """A table whose first column names the rows."""

    title: str
    head: list[str]
    rows: list[list[Entry]] = field(default_factory=list)
    note: str = ""

    def add(self, *entries: Entry | str) -> None:
        """Append a row."""
        self.rows.append([Entry(one) if isinstance(one, str) else one for one in entries])


def ranked(models: dict[str, Any]) -> list[str]:
    """Return names of models, the best test recall@20 first."""
    return sorted(models, key=lambda name: -models[name]["mean"]["test"]["recall@20"])


def label(result: dict[str, Any], name: str) -> str:
    """Return the name of a model as tables show it."""
    entry = result["models"].get(name, {})
    return entry.get("name") or (MODELS[name].__name__ if name in MODELS else name)


def span(counts: Collection[int]) -> str:
    """Return the smallest and the largest of some counts as text, such as "1 to 3", or "3"."""
    return " to ".join(str(one) for one in sorted({min(counts), max(counts)}))


def test_of(result: dict[str, Any], name: str, metric: str) -> dict[str, Any] | None:
    """Return the comparison of a model with the best other one; None where there is none."""
    found = (result.get("statistics") or {}).get("metrics", {}).get(metric, {}).get(name)
    if found is None or found["rival"] is None:
        return None
    means = {one: entry["mean"]["test"][metric] for one, entry in result["models"].items()}
    rival = means.pop(found["rival"])
    means.pop(name)
    # Without the per-user values of the best other model there is no test against it.
    return None if any(rival < other for other in means.values()) else found


def mark(result: dict[str, Any], name: str, metric: str) -> str:
    """Return the mark of a figure: ``*`` if the model is significantly better than all others,
    ``†`` if it is significantly worse than the best, by both tests."""
    one = test_of(result, name, metric)
    if one is None or max(one["p_t_holm"], one["p_wilcoxon_holm"]) >= LEVEL:
        return ""
    return "*" if one["difference"] > 0 else "†"


def accuracy(result: dict[str, Any]) -> Table:
    """Return test figures, published ones, and tuning budgets."""
    models, papers = result["models"], published(result)
    shows_published = bool(papers.references) or any(name in papers.figures for name in models)
    table = Table(
        f"Accuracy on {result['dataset']}",
        ["model", *SHOWN]
        + ["published recall@20 / ndcg@20"] * shows_published
        + ["val", "seeds", "trials", "hours", "trainings"],
    )
    for name in ranked(models):
        entry = models[name]
        mean, tuning = entry["mean"], entry["tuning"]
        paper = [_published(papers, papers.figures.get(name))] if shows_published else []
        table.add(
            label(result, name),
            *(_figure(result, name, metric) for metric in SHOWN),
            *paper,
            f"{mean['val']['recall@20']:.4f}",
            str(len(entry["seeds"])),
            str(tuning["trials"]),
            _hours(tuning),
            str(trainings(entry)),
        )
    for reference in papers.references:
        blank = [NONE] * len(SHOWN)
        table.add(reference["title"], *blank, _published(papers, reference), *[NONE] * 5)
    return table


def all_metrics(result: dict[str, Any]) -> Table:
    """Return all metrics on the test pairs."""
    table = Table("All metrics", ["model", *COLUMNS])
    for name in ranked(result["models"]):
        table.add(label(result, name), *(_figure(result, name, metric) for metric in COLUMNS))
    return table


def beyond(result: dict[str, Any]) -> Table | None:
    """Return what lies beyond accuracy; None for results of versions without it."""
    shown = [
        f"{name}@20"
        for name in ("coverage", *BEYOND_ACCURACY)
        if any(f"{name}@20" in one["mean"]["test"] for one in result["models"].values())
    ]
    if len(shown) < 2:
        return None
    table = Table(
        "Beyond accuracy",
        ["model", *shown],
        note="Whose items are recommended to the test users, and how much lists differ; the "
        "metrics are defined in graphdiff.evaluation.beyond_accuracy. Only of coverage and recall "
        "is more always better: a random list is diverse, personal and novel.",
    )
    for name in ranked(result["models"]):
        table.add(label(result, name), *(_optional(result, name, metric) for metric in shown))
    return table


def _optional(result: dict[str, Any], name: str, metric: str) -> Entry | str:
    means = [one["mean"]["test"] for one in result["models"].values()]
    value = result["models"][name]["mean"]["test"].get(metric)
    if value is None:
        return NONE
    digits = 1 if "popularity" in metric else 2 if "novelty" in metric else 4
    best = "recall" in metric and value == max(one.get(metric, value) for one in means)
    return Entry(f"{value:.{digits}f}", best=best)


def _figure(result: dict[str, Any], name: str, metric: str) -> Entry:
    entry = result["models"][name]
    value = entry["mean"]["test"][metric]
    best = max(one["mean"]["test"][metric] for one in result["models"].values())
    several = len(entry["seeds"]) > 1
    return Entry(
        f"{value:.4f}",
        f"± {entry['std']['test'][metric]:.4f}" if several else "",
        mark(result, name, metric),
        value == best,
    )


def _published(papers: Published, one: dict[str, Any] | None) -> Entry | str:
    if one is None:
        return NONE
    number = papers.cited().index(one["source"]) + 1
    mark = BEST_TEST_EPOCH if one.get("epoch") == "test" else ""
    return Entry(f"{one['recall@20']:.4f} / {one['ndcg@20']:.4f}", f"[{number}]{mark}")


def _hours(tuning: dict[str, Any]) -> str:
    hours = tuning.get("hours")
    return NONE if hours is None else f"{hours:.2f}"


def evidence(result: dict[str, Any]) -> list[Table]:
    """Return per metric the confidence intervals and each model against the best other one."""
    found = result.get("statistics") or {}
    tables = []
    for metric, models in found.get("metrics", {}).items():
        table = Table(
            f"Significance, {metric}",
            [
                "model",
                "mean",
                "95 % interval",
                "against",
                "difference",
                "95 % interval",
                "t-test p",
                "Holm",
                "Wilcoxon p",
                "Holm",
            ],
            note=f"Over {found['users']:,} {found['sample']}. Tests: {found['tests']}. "
            f"Correction: {found['correction']}. Intervals: {found['interval']}.",
        )
        for name in sorted(models, key=lambda one: -models[one]["mean"]):
            one = models[name]
            row = [label(result, name), f"{one['mean']:.4f}", _interval(one["interval"])]
            if one["rival"] is None:
                table.add(*row, *[NONE] * 7)
                continue
            p_values = (one[p] for p in ("p_t", "p_t_holm", "p_wilcoxon", "p_wilcoxon_holm"))
            table.add(
                *row,
                label(result, one["rival"]),
                f"{one['difference']:+.4f}",
                _interval(one["difference_interval"], "+"),
                *(_p(p) for p in p_values),
            )
        tables.append(table)
    return tables


def _interval(ends: list[float], sign: str = "") -> str:
    return f"{ends[0]:{sign}.4f} … {ends[1]:{sign}.4f}"


def _p(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def groups(result: dict[str, Any]) -> list[Table]:
    """Return recall@20 and NDCG@20 by activity of the user and by popularity of the item."""
    described = result.get("groups")
    if not described:
        return []
    tables = []
    for kind, title in (
        ("users", "By activity of the user: training interactions"),
        ("items", "By popularity of the item"),
    ):
        names = [one["name"] for one in described[kind] if one.get("test_pairs", 1)]
        models = [
            name
            for name in ranked(result["models"])
            if all(one in _group_means(result, name, kind) for one in names)
        ]
        if not (names and models):
            continue
        table = Table(
            title,
            ["model", *(f"{metric} {one}" for metric in ("recall@20", "ndcg@20") for one in names)],
            note=_group_note(described, kind),
        )
        means = {name: _group_means(result, name, kind) for name in models}
        columns = [(one, metric) for metric in ("recall@20", "ndcg@20") for one in names]
        for name in models:
            entries = []
            for one, metric in columns:
                value = means[name][one][metric]
                best = max(means[other][one][metric] for other in models)
                entries.append(Entry(f"{value:.4f}", best=value == best))
            table.add(label(result, name), *entries)
        tables.append(table)
    return tables


def _group_means(result: dict[str, Any], name: str, kind: str) -> dict[str, Any]:
    return result["models"][name]["mean"].get("groups", {}).get(kind, {})


def _group_note(described: dict[str, Any], kind: str) -> str:
    if kind == "users":
        sizes = ", ".join(f"{one['name']}: {one['users']:,}" for one in described["users"])
        return f"Quartiles of the test users' training interactions; test users: {sizes}."
    sizes = "; ".join(
        f"{one['name']}: {one['items']:,} items with {one['interactions'][0]} to "
        f"{one['interactions'][1]} training interactions, {one['test_pairs']:,} test pairs"
        for one in described["items"]
    )
    return (
        "Cold items have no training interaction; head, mid and tail hold a third of all training "
        f"interactions each. Only held-out items of the group count as hits. {sizes}."
    )


def cost(result: dict[str, Any]) -> Table:
    """Return time, parameters and memory of training and inference."""
    table = Table(
        "Cost",
        [
            "model",
            "epochs",
            "s/epoch",
            "training s",
            "inference s",
            "parameters",
            "peak memory MiB",
            "of which training",
        ],
        note="Means over seeds. Inference: ranking the whole catalogue for all test users, 20 "
        "items each, median of three. Peak memory: resident memory of a process that makes and "
        "trains one model, libraries included; of which training: less what was resident before.",
    )
    means = {name: result["models"][name]["mean"] for name in ranked(result["models"])}
    has_cuda = any("peak_cuda_bytes" in mean for mean in means.values())
    if has_cuda:
        table.head.append("peak CUDA MiB")
    for name, mean in means.items():
        peak, before = mean.get("peak_memory_bytes"), mean.get("memory_before_bytes")
        row = [
            label(result, name),
            f"{mean['epochs']:.0f}",
            f"{mean['seconds_per_epoch']:.2f}",
            f"{mean['train_seconds']:.1f}",
            f"{mean['inference_seconds']:.3f}",
            f"{mean['parameters']:,.0f}",
            _mebibytes(peak),
            _mebibytes(None if peak is None or before is None else peak - before),
        ]
        table.add(*row, *[_mebibytes(mean.get("peak_cuda_bytes"))] * has_cuda)
    return table


def _mebibytes(count: float | None) -> str:
    return NONE if count is None else f"{count / 2**20:,.0f}"


def dropped(result: dict[str, Any]) -> Table | None:
    """Return recall@20 and NDCG@20 with features removed; None where that was not measured."""
    sections = result.get("dropped_features")
    if not sections:
        return None
    shares = sorted(sections, key=float)
    metrics = ("recall@20", "ndcg@20")
    removed = ["none", *(f"{100 * float(share):g} %" for share in shares)]
    table = Table(
        "With features removed",
        ["model", *(f"{metric}, {one}" for metric in metrics for one in removed)],
        note="Share of the feature rows of each modality that were removed before training. A "
        "model without features keeps its figures.",
    )
    for name in ranked(result["models"]):
        entries = []
        for metric in metrics:
            whole = result["models"][name]["mean"]["test"][metric]
            entries.append(f"{whole:.4f}")
            for share in shares:
                entry = sections[share]["models"].get(name)
                if entry is not None:
                    entries.append(f"{entry['mean']['test'][metric]:.4f}")
                else:
                    entries.append(NONE if reads_content(name) else f"{whole:.4f}")
        table.add(label(result, name), *entries)
    return table
