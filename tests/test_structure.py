"""The structure of the package: sizes of files and classes, and the direction of imports.

Imports are read from the syntax tree, including those inside functions. Imports under ``if
TYPE_CHECKING`` serve annotations alone and do not count.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import graphdiff

ROOT = Path(graphdiff.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

LONGEST_FILE = 450
LONGEST_CLASS = 350

# A package or module of ``graphdiff`` may import those of the lines above its own.
LAYERS = [
    {"errors"},
    {"autocast", "distributed", "files", "console", "plugins", "seeds", "validation"},
    {"figures"},
    {"schema"},
    {"graph"},
    {"nn", "datasets", "transforms"},
    {"models", "options", "describe"},
    {"evaluation", "serving"},
    {"training"},
    {"runs", "experiments"},
    {"cluster", "updates"},
    {"doctor"},
    {"cli"},
    {"__main__"},
]

# Imports inside functions that go upward or close a circle, with the reason.
DEFERRED = {
    (
        "graphdiff.models.base",
        "graphdiff.models.storage",
    ): "save_pretrained and from_pretrained are "
    "methods, and storage needs the registry of the subclasses",
    ("graphdiff.models.registry", "graphdiff.models.base"): (
        "subclasses register when they are defined, and a class named by a user must be one"
    ),
    ("graphdiff.models.changes", "graphdiff.training.update"): "update and forget are methods, and "
    "training reads the model's interface",
    ("graphdiff.models.base", "graphdiff.models.interaction_scores"): "interaction_scores is a "
    "method, and the module reads the model's attributes",
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def import_statements(
    node: ast.AST, in_function: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Yield the import statements that run, and whether they are inside a function."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield node, in_function
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        children = list(node.orelse)
    in_function = in_function or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    for child in children:
        yield from import_statements(child, in_function)


def imports(name: str, tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield the modules of graphdiff that a module imports, and whether inside a function."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    for statement, in_function in import_statements(tree):
        if isinstance(statement, ast.Import):
            found = [alias.name for alias in statement.names]
        else:
            base = statement.module or ""
            if statement.level:
                ancestor = package.split(".")[: len(package.split(".")) - statement.level + 1]
                base = ".".join([*ancestor, *([base] if base else [])])
            # ``from package import module`` imports the module.
            found = [
                full if (full := f"{base}.{alias.name}") in MODULES else base
                for alias in statement.names
            ]
        for target in found:
            if target in MODULES and target != name:
                yield target, in_function


@cache
def edges() -> set[tuple[str, str]]:
    """Pairs (module, imported module), without the deferred imports."""
    found = set()
    for name, path in MODULES.items():
        for target, in_function in imports(name, ast.parse(path.read_text())):
            if not (in_function and (name, target) in DEFERRED):
                found.add((name, target))
    return found


def package_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "graphdiff"


def layer_of(package: str) -> int:
    return next(n for n, group in enumerate(LAYERS) if package in group)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_classes_are_of_readable_size(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno + 1 <= LONGEST_CLASS, node.name


def test_every_package_has_a_layer():
    listed = [package for group in LAYERS for package in group]
    assert len(set(listed)) == len(listed)
    assert {package_of(name) for name in MODULES} - {"graphdiff"} <= set(listed)


def test_imports_go_one_way():
    wrong = [
        f"{source} imports {target}"
        for source, target in sorted(edges())
        if package_of(source) != package_of(target)
        and "graphdiff" not in (package_of(source), package_of(target))
        and layer_of(package_of(target)) >= layer_of(package_of(source))
    ]
    assert not wrong, "\n".join(wrong)


def test_layers_know_no_dataset_and_no_model():
    for source, target in edges():
        if package_of(source) in ("schema", "graph", "nn"):
            assert package_of(target) not in ("datasets", "transforms", "models"), source


def test_the_package_itself_is_imported_for_its_version_alone():
    """``graphdiff/__init__`` loads everything on demand, which no other check here sees."""
    for name, path in MODULES.items():
        if name == "graphdiff" or layer_of(package_of(name)) >= layer_of("doctor"):
            continue
        for statement, _ in import_statements(ast.parse(path.read_text())):
            if isinstance(statement, ast.ImportFrom) and statement.module == "graphdiff":
                names = {a.name for a in statement.names if f"graphdiff.{a.name}" not in MODULES}
                assert names <= {"__version__"}, name


def test_there_is_no_import_cycle():
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for source, target in edges():
        graph[source].add(target)
    assert cycle(graph) is None


def cycle(graph: dict[str, set[str]]) -> list[str] | None:
    """Return modules that import each other in a circle, or None."""
    done: set[str] = set()
    for start in graph:
        path, stack = [start], [iter(sorted(graph[start]))]
        while stack and start not in done:
            following = next(stack[-1], None)
            if following is None:
                done.add(path.pop())
                stack.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following not in done:
                path.append(following)
                stack.append(iter(sorted(graph[following])))
    return None


def test_a_cycle_is_found():
    graph: dict[str, set[str]] = {"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}
    assert cycle(graph) == ["b", "d", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_deferred_imports_exist_and_are_inside_functions():
    for source, target in DEFERRED:
        found = list(imports(source, ast.parse(MODULES[source].read_text())))
        assert (target, True) in found
        assert (target, False) not in found


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import graphdiff.graph.rows", [("graphdiff.graph.rows", False)]),
        ("from graphdiff.graph import rows", [("graphdiff.graph.rows", False)]),
        ("from graphdiff.graph import Rows", [("graphdiff.graph", False)]),
        ("from . import topk", [("graphdiff.nn.topk", False)]),
        ("from ..graph.rows import Rows", [("graphdiff.graph.rows", False)]),
        ("class A:\n def f(self):\n  import graphdiff.schema", [("graphdiff.schema", True)]),
        ("if TYPE_CHECKING:\n import graphdiff.graph\nelse:\n import graphdiff.schema",
         [("graphdiff.schema", False)]),
        ("import torch", []),
    ],
)  # fmt: skip
def test_imports_are_read_from_code(code, expected):
    assert list(imports("graphdiff.nn.losses", ast.parse(code))) == expected
