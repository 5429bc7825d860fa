"""Build the documentation site from ``docs/``, results, cards and docstrings: ``make docs``.

The pages are assembled in ``build/site/source``: those of ``docs/``, the pages elsewhere in the
repository that they link to, and one page per public package. Warnings are errors.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
#: Pages outside ``docs/``, and what they are called in the site.
PAGES = {
    ROOT / "datasets" / "README.md": "datasets.md",
    ROOT / "examples" / "README.md": "examples.md",
    ROOT / "CHANGELOG.md": "changelog.md",
    ROOT / "CONTRIBUTING.md": "contributing.md",
    **{
        page: f"results/{page.name}"
        for page in sorted((ROOT / "benchmarks" / "results").glob("*.md"))
    },
}
#: Packages with public names. A name is documented in the first that lists it.
PACKAGES = (
    "graphdiff.models",
    "graphdiff.nn",
    "graphdiff.datasets",
    "graphdiff.transforms",
    "graphdiff.describe",
    "graphdiff.schema",
    "graphdiff.graph",
    "graphdiff.evaluation",
    "graphdiff.experiments",
    "graphdiff.serving",
    "graphdiff.training",
    "graphdiff",
)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def assemble(source: Path) -> None:
    """Write all pages into a new folder.

    Args:
        source: The folder; replaced.
    """
    shutil.rmtree(source, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "build.py")
    shutil.copytree(DOCS, source, ignore=ignored)
    pages = {page: page.relative_to(DOCS).as_posix() for page in sorted(DOCS.rglob("*.md"))}
    pages |= {page: name for page, name in PAGES.items() if page.exists()}
    for page, name in pages.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(relink(page.read_text(encoding="utf-8"), page, name, pages, source))
    list_further_pages(source, sorted(pages.values()))
    write_results_index(source, [name for name in pages.values() if name.startswith("results/")])
    write_reference(source)


def relink(text: str, page: Path, name: str, pages: dict[Path, str], source: Path) -> str:
    """Return the text of a page with links that fit its place in the site.

    Links to pages lead to their places, pictures are copied, and links to other files of the
    repository become their text.
    """

    def replaced(match: re.Match[str]) -> str:
        target = match["target"]
        if "://" in target or target.startswith(("mailto:", "#")):
            return match[0]
        file = (page.parent / target).resolve()
        if file in pages:
            where = os.path.relpath(pages[file], Path(name).parent).replace(os.sep, "/")
            return f"[{match['text']}]({where}{match['anchor'] or ''})"
        if match["image"]:
            copy = source / "pictures" / file.name
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(file, copy)
            where = os.path.relpath(copy, (source / name).parent).replace(os.sep, "/")
            return f"![{match['text']}]({where})"
        return match["text"]

    # Links in code blocks stay as they are.
    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(p if p.startswith("```") else LINK.sub(replaced, p) for p in parts)


def list_further_pages(source: Path, names: list[str]) -> None:
    """Add the pages that no list of the first page has to it."""
    index = source / "index.md"
    text = index.read_text(encoding="utf-8")
    listed = {line.strip() for line in text.splitlines()}
    further = [
        name.removesuffix(".md")
        for name in names
        if name.removesuffix(".md") not in listed
        and name != "index.md"
        and not name.startswith("results/")
    ]
    if further:
        entries = "\n".join(further)
        text += f"\n```{{toctree}}\n:caption: More\n:maxdepth: 1\n\n{entries}\n```\n"
        index.write_text(text, encoding="utf-8")


def write_results_index(source: Path, names: list[str]) -> None:
    """Write the page that lists the complete result pages."""
    listed = "\n".join(Path(name).stem for name in sorted(names))
    (source / "results" / "index.md").write_text(
        f"# Complete result pages\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"
    )


def write_reference(source: Path) -> None:
    """Write one page per package, with every public name."""
    folder = source / "api"
    folder.mkdir()
    seen: set[int] = set()
    listed = []
    for package in PACKAGES:
        module = importlib.import_module(package)
        names, elsewhere = [], []
        for name in sorted(getattr(module, "__all__", []), key=str.lower):
            value = getattr(module, name)
            if inspect.ismodule(value):
                continue
            is_object = inspect.isclass(value) or inspect.isroutine(value)
            if is_object and id(value) in seen:
                elsewhere.append(value)
                continue
            names.append(name)
            if is_object:
                seen.add(id(value))
        (folder / f"{package}.md").write_text(reference_page(package, module, names, elsewhere))
        listed.append(package)
    entries = "\n".join(sorted(listed))
    (folder / "index.md").write_text(
        f"# API reference\n\nEvery public name, by package.\n\n```{{toctree}}\n:maxdepth: 1\n\n"
        f"{entries}\n```\n"
    )


def reference_page(package: str, module: object, names: list[str], elsewhere: list[object]) -> str:
    """Return the page of one package."""
    parts = [f"# {package}", "```{eval-rst}", f".. automodule:: {package}", "   :no-members:", ""]
    for name in names:
        value = getattr(module, name)
        kind = (
            "autoclass"
            if inspect.isclass(value)
            else "autofunction"
            if inspect.isroutine(value)
            else "py:data"
        )
        parts.append(f".. {kind}:: {package}.{name}")
        if kind == "py:data":
            # Docstrings of plain values are those of their types.
            shown = repr(value)
            parts += ["", f"   ``{shown if len(shown) < 300 else type(value).__name__}``"]
        if kind == "autoclass":
            parts += [
                "   :members:",
                "   :exclude-members: model_config",
                "   :show-inheritance:",
            ]
        parts.append("")
    if elsewhere:
        links = ", ".join(f":py:obj:`{one.__name__}`" for one in elsewhere)  # type: ignore[attr-defined]
        parts += [f"Also importable from here, and documented with their packages: {links}.", ""]
    return "\n".join([*parts, "```", ""])


def main() -> None:
    """Build the site; the exit code is Sphinx's."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from sphinx.cmd.build import build_main

    source = options.out / "source"
    assemble(source)
    sys.exit(
        build_main(
            ["-W", "--keep-going", "-q", "-b", "html", str(source), str(options.out / "html")]
        )
    )


if __name__ == "__main__":
    main()
