"""The program ``graphdiff``: its commands, and how errors are printed.

No command imports PyTorch or pandas before it runs, so that ``--help`` is quick.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any

import typer

from graphdiff import __version__
from graphdiff.cli.backtest import backtest
from graphdiff.cli.compare import compare
from graphdiff.cli.data import convert, describe, list_datasets
from graphdiff.cli.doctor import doctor
from graphdiff.cli.many_values import ManyValues
from graphdiff.cli.models import list_models, list_settings
from graphdiff.cli.ranks import ranks
from graphdiff.cli.score import score
from graphdiff.cli.train import train
from graphdiff.cli.tune import tune
from graphdiff.cli.update import forget, update, versions
from graphdiff.cli.use import evaluate, export, recommend, serve
from graphdiff.console import visible
from graphdiff.errors import GraphDiffError

# Plain help: rich's would take [serve] for markup.
app = typer.Typer(
    help="Multimodal recommendation by light diffusion.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
COMMANDS = (train, evaluate, recommend, score, serve, update, versions, forget)
for command in (*COMMANDS, ranks, backtest, describe, convert, export, doctor):
    app.command()(command)
app.command(name="datasets")(list_datasets)
app.command(name="models")(list_models)
app.command(name="settings")(list_settings)
app.command(cls=ManyValues)(compare)
app.command(cls=ManyValues)(tune)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"graphdiff {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Multimodal recommendation by light diffusion."""


# The base of the errors that typer raises for unfit arguments; it has no public name.
_UsageError: Any = typer.BadParameter.__base__


def main() -> None:
    """Run the command line.

    Errors are printed on one line; with ``--debug`` anywhere among the arguments the traceback is
    printed instead.

    Exit codes: 0 success; 2 a mistake in the request, the data or the folder; 1 an error in
    graphdiff itself; 130 stopped by Ctrl-C, 143 by SIGTERM.
    """
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    _escape_unencodable()
    try:
        # Not app(), which prints usage errors on several lines and hides interrupts.
        command = typer.main.get_command(app)
        with command.make_context("graphdiff", arguments or ["--help"]) as context:
            command.invoke(context)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except BrokenPipeError:
        # The reader has closed the pipe; nothing may be written to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (KeyboardInterrupt, Exception) as error:
        if debug:
            raise
        line, code = _describe(error)
        print(f"graphdiff: {visible(line)}", file=sys.stderr)
        sys.exit(code)


def _escape_unencodable() -> None:
    """Print characters that the output's encoding lacks as escapes instead of failing."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _describe(error: BaseException) -> tuple[str, int]:
    """Return the line to print about an error, and the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return _one_line(error) or "interrupted", 128 + getattr(error, "signal", signal.SIGINT)
    if isinstance(error, GraphDiffError):
        return _one_line(error), 2
    if isinstance(error, _UsageError):
        return f"{_one_line(error.format_message())}; see graphdiff --help", 2
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror or _one_line(error)}", 2
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory ({_one_line(error)}); try a smaller batch_size", 2
    kind = type(error).__name__
    return f"an error in graphdiff ({kind}: {_one_line(error)}); --debug shows where", 1


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    main()
