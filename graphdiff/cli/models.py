"""Commands about models: ``models`` and ``settings``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from graphdiff.cli.arguments import AsJson
from graphdiff.console import print_table


def list_models(as_json: AsJson = False) -> None:
    """List the models: kind, paper, whether they read features and serve unseen users."""
    from graphdiff.models.overview import describe_models

    rows = describe_models()
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    print_table(
        ["name", "kind", "reads features", "unseen users", "paper"],
        [
            [
                row["name"],
                row["kind"],
                _yes(row["features"]),
                _yes(row["unseen_users"]),
                f"{row['paper']} {row['link']}".strip(),
            ]
            for row in rows
        ],
    )


def list_settings(
    model: Annotated[
        str, typer.Argument(help="Name of the model, MODEL-PRESET, or package.module:Class.")
    ],
    as_json: AsJson = False,
) -> None:
    """List the settings of a model, to give as `--set name=value` or in `--config FILE.yaml`."""
    from graphdiff.models.overview import describe_settings

    rows = describe_settings(model)
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    print_table(
        ["setting", "default", "type", "description"],
        [[row["name"], str(row["default"]), row["type"], row["description"]] for row in rows],
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"
