from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from graphdiff.cli.many_values import ManyValues

app = typer.Typer()


@app.command(cls=ManyValues)
def show(
    models: Annotated[list[str] | None, typer.Option()] = None,
    shares: Annotated[list[float] | None, typer.Option()] = None,
    out: Annotated[str, typer.Option()] = "none",
    quiet: Annotated[bool, typer.Option()] = False,
) -> None:
    """Print what was given."""
    print(models, shares, out, quiet)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--models a b c --out x", "['a', 'b', 'c'] None x False"),
        ("--models a --models b", "['a', 'b'] None none False"),
        ("--models a b --quiet --shares 0.5 1 --models c", "['a', 'b', 'c'] [0.5, 1.0] none True"),
        ("--models=a --out x", "['a'] None x False"),
    ],
)
def test_all_values_up_to_the_next_option_are_taken(given, expected):
    assert CliRunner().invoke(app, given.split()).output.strip() == expected


@pytest.mark.parametrize("given", ["--out x y", "--quiet y", "y", "--models=a b"])
def test_values_of_other_options_are_not(given):
    assert CliRunner().invoke(app, given.split()).exit_code == 2


def test_help_is_shown():
    assert "Print what was given" in CliRunner().invoke(app, ["--help"]).output
