"""The table and the figure of a backtest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphdiff.experiments.backtest import ARMS
from graphdiff.experiments.plots import COLOURS, LINES, MARKERS
from graphdiff.figures import new_figure, write_figure

#: Figures of a table, by their names in the result.
SHOWN = ("recall@20", "ndcg@20", "cold_recall@20", "seconds", "steps")


def means(result: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return each model's figures, averaged over the cut-offs; None where there is no value."""
    found: dict[str, dict[str, float | None]] = {}
    for arm in _arms(result):
        rows = [row["models"][arm] for row in result["cutoffs"]]
        found[arm] = {name: _mean([row[name] for row in rows]) for name in SHOWN}
    return found


def table_rows(result: dict[str, Any]) -> list[list[str]]:
    """Return the cells of a table: cut-off, model and :data:`SHOWN`; the last rows are means."""
    rows = [
        [str(row["number"]), arm, *(_cell(name, row["models"][arm][name]) for name in SHOWN)]
        for row in result["cutoffs"]
        for arm in _arms(result)
    ]
    rows += [
        ["mean", arm, *(_cell(name, values[name]) for name in SHOWN)]
        for arm, values in means(result).items()
    ]
    return rows


def summary(result: dict[str, Any]) -> list[str]:
    """Return sentences that compare the models over all cut-offs."""
    found = means(result)
    whole, lines = found["retrained"], []
    for arm in _arms(result)[1:]:
        one = found[arm]
        share, cost = _ratio(one["recall@20"], whole["recall@20"]), ""
        if arm == "updated":
            seconds, steps = (_ratio(one[n], whole[n]) for n in ("seconds", "steps"))
            cost = f", for {seconds:.1%} of the seconds and {steps:.1%} of the steps"
        lines.append(f"{arm}: {share:.1%} of the retrained model's recall@20{cost}")
    return lines


def markdown(result: dict[str, Any], figure: str | None = None) -> str:
    """Return the table as a Markdown page.

    Args:
        result: From :func:`~graphdiff.experiments.backtest.backtest`.
        figure: File name of the figure, relative to the page.
    """
    last = result["cutoffs"][-1]
    lines = [
        f"# Backtest of {result['model']} on {result['dataset']}",
        "",
        f"{len(result['cutoffs'])} cut-offs after the first {result['first']:.0%} of the log; "
        f"{last['training']:,} interactions before the last one. Nothing later than a cut-off is "
        "trained on. `cold_recall@20` counts the items that first appear after the cut-off.",
        "",
        "| cut-off | model | " + " | ".join(SHOWN) + " |",
        "| ---: | --- |" + " ---: |" * len(SHOWN),
        *("| " + " | ".join(cells) + " |" for cells in table_rows(result)),
        "",
        *(f"- {line}" for line in summary(result)),
        "",
        *(
            f"{what}: {_written(result[key])}."
            for what, key in (("Data", "options"), ("Model", "settings"), ("Updates", "update"))
        ),
        f"Machine: {result['machine']['processor']}, {result['machine']['threads']} thread(s).",
    ]
    if figure:
        lines += ["", f"![Recall and seconds at each cut-off]({figure})"]
    return "\n".join(lines) + "\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw recall@20 and seconds at each cut-off.

    Raises:
        ConfigError: If the suffix of ``path`` is no format of figures.
    """
    figure = new_figure(8, 3.2)
    left, right = figure.subplots(1, 2)
    numbers = [row["number"] for row in result["cutoffs"]]
    for n, arm in enumerate(_arms(result)):
        rows = [row["models"][arm] for row in result["cutoffs"]]
        style = {"color": COLOURS[n], "linestyle": LINES[n], "marker": MARKERS[n], "label": arm}
        left.plot(numbers, [row["recall@20"] for row in rows], **style)
        if arm != "unchanged":
            right.plot(numbers, [row["seconds"] for row in rows], **style)
    left.set_ylabel("recall@20")
    right.set_ylabel("seconds")
    right.set_yscale("log")
    for axes in (left, right):
        axes.set_xlabel("cut-off")
        axes.set_xticks(numbers)
        axes.legend()
    write_figure(figure, path)


def _written(settings: dict[str, Any]) -> str:
    """Return settings as text."""
    return ", ".join(f"`{name}={value}`" for name, value in settings.items()) or "as by default"


def _arms(result: dict[str, Any]) -> list[str]:
    return [arm for arm in ARMS if arm in result["cutoffs"][0]["models"]]


def _mean(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def _ratio(value: float | None, whole: float | None) -> float:
    return value / whole if value is not None and whole else float("nan")


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name == "steps":
        return f"{value:.0f}"
    return f"{value:.1f}" if name == "seconds" else f"{value:.4f}"
