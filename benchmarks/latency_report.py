"""The figures of the latency benchmark: ratios, targets, a page and tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from latency_paths import BARE, FREE, IN_D, INDEX, INNER, NO_RANKING, ON_ROWS
from rich.console import Console
from rich.table import Table

from graphdiff.serving.index import EXACT_UP_TO

#: A target without a limit: a figure to know.
NO_LIMIT = "any"


def ratios(figures: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return the forward-free pass over each other path: in users per second, and in how many
    times faster a single request is, each by elapsed time and by time of the processor."""
    base = {
        "": next(f for f in figures if f["path"] == FREE),
        NO_RANKING: next(f for f in figures if f["path"] == FREE + NO_RANKING),
    }
    out: dict[str, dict[str, float | None]] = {}
    for other in figures:
        ending = NO_RANKING if other["path"].endswith(NO_RANKING) else ""
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
    """A target and what was measured.

    Attributes:
        what: What is measured.
        wanted: The limit, in words.
        found: The figure.
        met: Whether it is within the limit.
    """

    what: str
    wanted: str
    found: float
    met: bool


def targets(catalogue: dict[str, Any]) -> list[Target]:
    """Return the targets that the measured paths allow to check."""
    paths = {(one["model"], one["path"]): one for one in catalogue["paths"]}
    ours = paths["LD4MRec", FREE]
    large = catalogue["items"] > EXACT_UP_TO
    used = paths["LD4MRec", INDEX] if large else ours
    limit = 50 if large else 10

    def over(model: str, path: str) -> Iterator[tuple[str, float]]:
        """Yield ours over another path, by users per second and by single requests."""
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
    p99 = used["p99_ms"]
    found.append(Target(f"p99 of a request in ms, {used['path']}", f"< {limit}", p99, p99 < limit))
    if ("none", BARE) in paths:
        ratio = used["p50_ms"] / paths["none", BARE]["p50_ms"]
        found.append(Target(f"a request, {used['path']}, over {BARE}", NO_LIMIT, ratio, True))
    recall = catalogue["index"]["recall"]
    found.append(Target("recall@20 of the index", "≥ 0.95", recall, recall >= 0.95))
    return found


def page(result: dict[str, Any]) -> str:
    """Return the figures as a Markdown page."""
    machine = result["machine"]
    lines = [
        "# Latency",
        "",
        f"Written by `benchmarks/latency.py` on {machine['processor']}, {machine['threads']} "
        f"threads, torch {machine['torch']}: the {result['k']} best items for one user at a time "
        f"({result['requests']} requests of each path, in milliseconds) and for "
        f"{result['batch']:,} at once. LD4MRec, LightGCN and DiffMM have vectors of width "
        f"{result['width']}.",
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
            met = "" if row["wanted"] == NO_LIMIT else ("met" if row["met"] else "**missed**")
            lines.append(f"| {row['what']} | {row['wanted']} | {row['found']:.3g} | {met} |")
        lines += [
            "",
            "LD4MRec's own chain leaves the range of float32 for "
            f"{one['chain_overflows_for']:.1%} of the users with these weights; it is timed with a "
            "scale at which it does not.",
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
    """Return users per second as tables show them."""
    return "-" if value is None else f"{value:,.0f}"


def show(catalogue: dict[str, Any], console: Console) -> None:
    """Print the figures of one catalogue."""
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
    console.print(f"chain overflows for {catalogue['chain_overflows_for']:.1%} of users")
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
