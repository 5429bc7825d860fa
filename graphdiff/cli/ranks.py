"""``graphdiff ranks``: models over several datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphdiff.console import print_text, show_table


def ranks(
    files: Annotated[
        list[Path], typer.Argument(help="JSON files that `graphdiff compare --out` wrote.")
    ],
    metric: Annotated[str, typer.Option(help="Metric on the test pairs.")] = "recall@20",
    markdown: Annotated[Path | None, typer.Option(help="Markdown page to write.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Critical-difference diagram to write, .svg or .png."),
    ] = None,
) -> None:
    """Rank models over the datasets of several comparisons.

    Writes the table of models by datasets with mean ranks, Friedman's test, and Nemenyi's critical
    difference. Datasets of the same name, as two logs read as csv, are named by the files.
    """
    from graphdiff.experiments.rank_plot import plot_ranking
    from graphdiff.experiments.ranks import dataset_names, rank_table, ranking
    from graphdiff.experiments.report import rich_table, table_to_markdown
    from graphdiff.experiments.result import ComparisonResult
    from graphdiff.experiments.tables import label
    from graphdiff.figures import check_figure
    from graphdiff.files import make_folder, write_text

    if plot is not None:
        check_figure(plot)
    results = [ComparisonResult.read(path).content for path in files]
    names = dataset_names(results, files)
    found = ranking(results, metric, names)
    table = rank_table(results, found)
    show_table(rich_table(table))
    print_text(table.note)
    if plot is not None:
        plot_ranking(found, {name: label(results[0], name) for name in found.models}, plot)
    if markdown is not None:
        make_folder(markdown.parent)
        lines = [f"# {metric} over {len(names)} datasets", "", *table_to_markdown(table)]
        if plot is not None:
            lines += ["", f"![Critical-difference diagram]({plot.name})"]
        write_text(markdown, "\n".join(lines) + "\n")
