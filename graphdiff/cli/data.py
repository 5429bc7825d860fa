"""Commands about datasets: ``describe``, ``datasets`` and ``convert``."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from graphdiff.cli.arguments import AsJson, Features, Option, Root
from graphdiff.console import print_table, print_text
from graphdiff.options import dataset_options


class Layout(StrEnum):
    """Layouts that can be written."""

    parquet = "parquet"
    mapped = "mapped"


def describe(
    dataset: Annotated[str, typer.Option(help="Name of the dataset.")],
    root: Root = None,
    features: Features = None,
    option: Option = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the degrees into this .png or .svg.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="HTML page to write, with figures of degrees and features.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Describe a dataset: what is unusual in it, its sizes, degrees and features."""
    from graphdiff.describe import describe_dataset, oddities, plot_degrees, write_page
    from graphdiff.describe.page import tables
    from graphdiff.figures import check_figure

    if plot is not None:
        check_figure(plot)
    data, found = describe_dataset(dataset, root, **dataset_options(dataset, features, option))
    if plot is not None:
        plot_degrees(data, plot)
    if report is not None:
        write_page(data, found, report)
    if as_json:
        print(json.dumps({**found, "oddities": oddities(found)}, indent=2))
        return
    for line in oddities(found) or ["nothing unusual was found"]:
        print_text((f"! {line}", "yellow"))
    for title, header, rows in tables(found):
        print_text((title, "bold"))
        print_table(header, rows)
    if report is not None:
        print_text(f"report: {report}")


def list_datasets(
    root: Annotated[
        Path | None,
        typer.Option(help="Folder of the datasets' folders, NAME in each; or $GRAPHDIFF_DATA."),
    ] = None,
    check: Annotated[bool, typer.Option(help="Compare the files' checksums.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the datasets that have a card: source, licence, files found, command."""
    from graphdiff.datasets.cards import data_folder
    from graphdiff.datasets.registry import list_cards

    rows = [
        {
            "name": card.name,
            "title": card.title,
            "source": card.source,
            "licence": " ".join(card.licence.split()),  # Prose of several lines.
            "files": card.found(data_folder(root, card.name), check),
            "command": card.command,
        }
        for card in list_cards()
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print_text((str(row["name"]), "bold"), f"  {row['title']}")
        for key in ("source", "licence", "files", "command"):
            print_text(f"  {key:8} {row[key]}")


def convert(
    source: Annotated[Path, typer.Argument(help="The dataset's folder, or an archive of it.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    from_: Annotated[
        str, typer.Option("--from", help="Its layout: csv, diffmm, mmrec, pairs, parquet, recbole.")
    ],
    to: Annotated[Layout, typer.Option("--to", help="The layout to write.")] = Layout.parquet,
    features: Features = None,
    option: Option = None,
) -> None:
    """Convert a dataset to Parquet files, to read with `--dataset parquet`, or to arrays that stay
    on disk, to read with `--dataset mapped`."""
    from graphdiff.datasets import convert as conversion

    options = dataset_options(from_, features, option)
    meta = conversion.convert(source, out, from_, to.value, **options)
    print_text(
        f"{meta['users']} users, {meta['items']} items, {meta['training']} + "
        f"{meta['validation']} + {meta['test']} pairs, "
        f"{', '.join(meta['channels']) or 'no features'}: written to {out} as {to.value}"
    )
