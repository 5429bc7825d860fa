"""Configuration of the documentation site; ``docs/build.py`` assembles its pages."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

import graphdiff

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


def visit_math(self: Any, node: nodes.math) -> None:
    """Write a formula within a line as MathML, which browsers show without a script."""
    self.body.append(convert(node.astext(), display="inline"))
    raise nodes.SkipNode


def visit_displaymath(self: Any, node: nodes.math_block) -> None:
    """Write a formula on a line of its own."""
    tex = node.astext()
    if "\\\\" in tex or "&" in tex:
        tex = f"\\begin{{align*}}{tex}\\end{{align*}}"
    self.body.append(f'<div class="math">{convert(tex, display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the renderer of formulas."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
