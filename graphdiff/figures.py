"""Figures as files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from graphdiff.errors import ConfigError
from graphdiff.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Okabe and Ito's blue and orange, which colour-blind readers tell apart.
BLUE, ORANGE = "#0072b2", "#e69f00"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, drawn without a display."""
    from matplotlib.figure import Figure  # Half a second that nothing else needs.

    return Figure(figsize=(width, height), layout="constrained")


def write_figure(figure: Figure, path: str | Path) -> None:
    """Writes a figure, atomically; the same figure gives the same file.

    Args:
        figure: What was drawn.
        path: Where it goes; the suffix says the format, such as ``.png`` or ``.svg``.

    Raises:
        ConfigError: If there is no such format.
        OSError: If it cannot be written.
    """
    from matplotlib import rc_context

    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in figure.canvas.get_supported_filetypes():
        raise ConfigError(f"{path} is no figure; give a name that ends in .png, .svg or .pdf")
    content = io.BytesIO()
    with rc_context({"svg.hashsalt": "graphdiff"}):
        undated = {"Date": None} if kind == "svg" else None
        figure.savefig(content, format=kind, dpi=150, metadata=undated)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getvalue())
