"""Configuration of the documentation site; ``docs/build.py`` assembles its pages."""

from __future__ import annotations

from html import escape
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

import graphdiff

logger = logging.getLogger(__name__)

project = "graphdiff"
author = "The graphdiff developers"
version = release = graphdiff.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
source_suffix = {".md": "markdown"}
root_doc = "index"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
napoleon_use_ivar = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"graphdiff {release}"
html_show_sphinx = False
html_copy_source = False
html_theme_options: dict[str, Any] = {"navigation_with_keys": True}
html_math_renderer = "mathml"


def mathml(tex: str, display: str) -> str:
    """Return a formula as MathML, which browsers show without a script from the network."""
    try:
        return str(convert(tex, display=display))
    except Exception as error:  # The library has no base of its errors but Exception.
        logger.warning("no MathML of the formula %r: %s", tex, type(error).__name__)
        return f"<code>{escape(tex)}</code>"


def visit_math(self: Any, node: nodes.math) -> None:
    """Write a formula within a line."""
    self.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_displaymath(self: Any, node: nodes.math_block) -> None:
    """Write a formula on a line of its own."""
    tex = node.astext()
    if "\\\\" in tex or "&" in tex:
        # Without the braces a bracket at the start would be taken for an argument.
        tex = f"\\begin{{align*}}{{}}{tex}\\end{{align*}}"
    self.body.append(f'<div class="math">{mathml(tex, "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the renderer of formulas."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
