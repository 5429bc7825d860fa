"""Figures as files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from graphdiff.errors import ConfigError
from graphdiff.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Blue and orange of Okabe and Ito's palette, which colour-blind readers can distinguish.
BLUE, ORANGE = "#0072b2", "#e69f00"


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, drawn without a display."""
    from matplotlib.figure import Figure  # Takes half a second, which nothing else needs.

    return Figure(figsize=(width, height), layout="constrained")


def check_figure(path: str | Path) -> None:
    """Check that a figure can be written as ``path``, by its suffix.

    Raises:
        ConfigError: If there is no such format.
    """
    kind = _kind(path)
    if kind not in new_figure(1, 1).canvas.get_supported_filetypes():
        raise ConfigError(
            f"{path} is not the name of a figure; give a name that ends in .png, .svg or .pdf"
        )


def write_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure atomically; the same figure gives the same file.

    Args:
        figure: The figure.
        path: The file; its suffix determines the format, such as ``.png`` or ``.svg``.

    Raises:
        ConfigError: If there is no such format.
        OSError: If the file cannot be written.
    """
    from matplotlib import rc_context

    check_figure(path)
    kind = _kind(path)
    content = io.BytesIO()
    with rc_context({"svg.hashsalt": "graphdiff"}):
        undated = {"Date": None} if kind == "svg" else None
        figure.savefig(content, format=kind, dpi=150, metadata=undated)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getvalue())


def _kind(path: str | Path) -> str:
    return Path(path).suffix.lower().removeprefix(".")
