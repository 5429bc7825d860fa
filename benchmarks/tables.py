"""The tables of a comparison, the same for the terminal, Markdown, LaTeX and HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from budgets import budget_warnings

from graphdiff.models.registry import MODELS

SHOWN = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
COLUMNS = (*SHOWN, "precision@20", "hit_ratio@20", "map@20", "mrr@20", "coverage@20")
LEVEL = 0.05
PUBLISHED = Path(__file__).parent / "published.yaml"
NONE = "–"


class Cell(NamedTuple):
    """A figure, or words; ``spread`` and ``mark`` are printed smaller, after it."""

    text: str
    spread: str = ""
    mark: str = ""
    best: bool = False


@dataclass
class Table:
    """A table; the first column names what a row is about."""

    title: str
    head: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    note: str = ""

    def add(self, *cells: Cell | str) -> None:
        """Appends a row."""
        self.rows.append([Cell(one) if isinstance(one, str) else one for one in cells])


class Published(NamedTuple):
    """What papers print for a dataset's split."""

    figures: dict[str, dict[str, Any]]  # by the model's name in the registry
    references: list[dict[str, Any]]  # of models that there are none of here
    sources: dict[str, str]
    note: str


def ranked(models: dict[str, Any]) -> list[str]:
    """Names of models, the best test recall@20 first."""
    return sorted(models, key=lambda name: -models[name]["mean"]["test"]["recall@20"])


def label(result: dict[str, Any], name: str) -> str:
    """What a model is called in tables."""
    entry = result["models"].get(name, {})
    return entry.get("name") or (MODELS[name].__name__ if name in MODELS else name)


def published(result: dict[str, Any]) -> Published:
    """Published figures on the data of a comparison; none for a split of our own making."""
    listed = yaml.safe_load(PUBLISHED.read_text())
    found = listed.get(result["dataset"], {}) if "split" not in result["protocol"] else {}
    figures = found.get("figures", [])
    return Published(
        {one["model"]: one for one in figures if "model" in one},
        [one for one in figures if "model" not in one],
        listed["sources"],
        found.get("note", ""),
    )


def is_significant(result: dict[str, Any], name: str, metric: str) -> bool:
    """Whether both tests tell a model from the best of the others."""
    metrics = (result.get("statistics") or {}).get("metrics", {})
    one = metrics.get(metric, {}).get(name)
    if one is None or one["rival"] is None:
        return False
    return max(one["p_t_holm"], one["p_wilcoxon_holm"]) < LEVEL


def accuracy(result: dict[str, Any]) -> Table:
    """Test figures, published ones, and what tuning was allowed."""
    models, papers = result["models"], published(result)
    shows_published = bool(papers.references) or any(name in papers.figures for name in models)
    table = Table(
        f"Accuracy on {result['dataset']}",
        ["model", *SHOWN]
        + ["published recall@20 / ndcg@20"] * shows_published
        + ["val", "seeds", "trials", "hours"],
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
        )
    for reference in papers.references:
        blank = [NONE] * len(SHOWN)
        table.add(reference["title"], *blank, _published(papers, reference), *[NONE] * 4)
    return table


def all_metrics(result: dict[str, Any]) -> Table:
    """Every metric on test."""
    table = Table("All metrics", ["model", *COLUMNS])
    for name in ranked(result["models"]):
        table.add(label(result, name), *(_figure(result, name, metric) for metric in COLUMNS))
    return table


def _figure(result: dict[str, Any], name: str, metric: str) -> Cell:
    entry = result["models"][name]
    value = entry["mean"]["test"][metric]
    best = max(one["mean"]["test"][metric] for one in result["models"].values())
    several = len(entry["seeds"]) > 1
    return Cell(
        f"{value:.4f}",
        f"± {entry['std']['test'][metric]:.4f}" if several else "",
        "*" if is_significant(result, name, metric) else "",
        value == best,
    )


def _published(papers: Published, one: dict[str, Any] | None) -> Cell | str:
    if one is None:
        return NONE
    number = _cited(papers).index(one["source"]) + 1
    return Cell(f"{one['recall@20']:.4f} / {one['ndcg@20']:.4f}", f"[{number}]")


def _cited(papers: Published) -> list[str]:
    everything = [*papers.figures.values(), *papers.references]
    return list(dict.fromkeys(one["source"] for one in everything))


def _hours(tuning: dict[str, Any]) -> str:
    hours = tuning.get("hours")
    return NONE if hours is None else f"{hours:.2f}"


def evidence(result: dict[str, Any]) -> list[Table]:
    """Per metric: confidence intervals, and each model against the best of the others."""
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
    """Recall@20 and NDCG@20 by the users' activity, and by the items' popularity."""
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
            cells = []
            for one, metric in columns:
                value = means[name][one][metric]
                best = max(means[other][one][metric] for other in models)
                cells.append(Cell(f"{value:.4f}", best=value == best))
            table.add(label(result, name), *cells)
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
        f"interactions each. Only held-out items of a group are looked for in the lists. {sizes}."
    )


def cost(result: dict[str, Any]) -> Table:
    """What training and asking take."""
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
            "of it training",
        ],
        note="Means over seeds. Inference: ranking the whole catalogue for all test users, 20 "
        "items each, median of three. Peak memory: resident memory of a process that makes and "
        "trains one model, libraries included.",
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
    """Recall@20 and NDCG@20 where features are missing; None where that was not measured."""
    sections = result.get("dropped_features")
    if not sections:
        return None
    shares = sorted(sections, key=float)
    metrics = ("recall@20", "ndcg@20")
    told = ["none", *(f"{100 * float(share):g} %" for share in shares)]
    table = Table(
        "With features taken away",
        ["model", *(f"{metric}, {one}" for metric in metrics for one in told)],
        note="Share of the rows of each modality that were taken away before training. A model "
        "that reads no features keeps its figures.",
    )
    for name in ranked(result["models"]):
        cells = []
        for metric in metrics:
            whole = result["models"][name]["mean"]["test"][metric]
            cells.append(f"{whole:.4f}")
            for share in shares:
                entry = sections[share]["models"].get(name)
                reads = name not in MODELS or MODELS[name].uses_content
                if entry is not None:
                    cells.append(f"{entry['mean']['test'][metric]:.4f}")
                else:
                    cells.append(NONE if reads else f"{whole:.4f}")
        table.add(label(result, name), *cells)
    return table


def notes(result: dict[str, Any]) -> list[str]:
    """What a reader of the tables must know, a sentence or two each."""
    protocol, machine, papers = result["protocol"], result["machine"], published(result)
    lines = [
        f"Test figures, mean ± standard deviation over seeds; {protocol['ranking']}; epoch chosen "
        f"by {protocol['epoch_chosen_by']}. val is the validation recall@20 of that epoch. "
        + _ending(protocol),
        "trials and hours are what tuning on validation took; 0 trials are the defaults. The rule: "
        "the same number of trials for all models or, where a trial takes over 20 minutes on 2 "
        "cores, the same hours.",
    ]
    lines += [
        f"Trials of {', '.join(names)} ran on {device}: their hours are that machine's."
        for device, names in tuned_elsewhere(result).items()
    ]
    if "split" in protocol:
        lines.append(f"Split: {protocol['split']}; see graphdiff.transforms.")
    statistics = result.get("statistics") or {}
    if statistics:
        lines.append(
            f"* at recall@20 and ndcg@20: differs from the best other model (the best model: from "
            f"the second) with p < {LEVEL} by both tests, after correction: {statistics['tests']}; "
            f"{statistics['correction']}; over {statistics['users']:,} {statistics['sample']}."
        )
    if statistics.get("left_out"):
        lines.append(
            "Not tested, because per-user values of an earlier run are missing: "
            + ", ".join(label(result, name) for name in statistics["left_out"])
            + "."
        )
    lines += budget_warnings({name: one["tuning"] for name, one in result["models"].items()})
    cited = _cited(papers)
    if papers.references or any(name in papers.figures for name in result["models"]):
        if papers.note:
            lines.append(papers.note[0].upper() + papers.note[1:] + ".")
        lines += [f"[{n}] {papers.sources[key]}." for n, key in enumerate(cited, 1)]
    lines += _skipped(result)
    lines.append(f"Measured on {_machine(machine)}. Data fingerprint {result['fingerprint']}.")
    for other in result.get("earlier_machines", []):
        lines.append(f"Some seeds were measured earlier on {_machine(other)}.")
    return lines


def tuned_elsewhere(result: dict[str, Any]) -> dict[str, list[str]]:
    """Names of the models that were tuned on other devices than that of the figures, by device."""
    found: dict[str, list[str]] = {}
    for model in result["models"].values():
        devices = {one["device"] for one in model["tuning"].get("machines", [])}
        for device in sorted(devices - {result["machine"]["device"]}):
            found.setdefault(device, []).append(model["name"])
    return found


def _ending(protocol: dict[str, Any]) -> str:
    """When trainings end; results from before there was a least number of steps had none."""
    return (
        f"Training ends after {protocol['patience']} validations without improvement, but not "
        f"before {protocol.get('min_steps', 0):,} steps, and after {protocol['epochs']} epochs at "
        "the latest."
    )


def _skipped(result: dict[str, Any]) -> list[str]:
    sections = {"": result, **result.get("dropped_features", {})}
    return [
        f"Skipped: {label(result, one['model'])}"
        + (f", seed {one['seed']}" if one["seed"] is not None else "")
        + (f", with {100 * float(share):g} % of the features taken away" if share else "")
        + f": {one['reason']}."
        for share, section in sections.items()
        for one in section.get("skipped", [])
    ]


def _machine(machine: dict[str, Any]) -> str:
    several = f", {machine['jobs']} trainings side by side" if "jobs" in machine else ""
    return (
        f"{machine['processor']}, {machine['threads']} thread(s){several}, {machine['device']}; "
        f"torch {machine['torch']}"
    )
