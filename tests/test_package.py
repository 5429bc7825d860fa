"""Public names of the package and the cost of importing it."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
import types
from collections import defaultdict
from pathlib import Path

import pytest

import graphdiff
from graphdiff.models import MODELS

PACKAGES = ["graphdiff", *(f"graphdiff.{name}" for name in graphdiff.__all__ if name.islower()
                           and isinstance(getattr(graphdiff, name), types.ModuleType))]  # fmt: skip


def modules():
    """All modules of the package."""
    found = pkgutil.walk_packages(graphdiff.__path__, "graphdiff.")
    return [importlib.import_module(module.name) for module in found]


def test_every_public_name_is_there():
    for name in graphdiff.__all__:
        assert getattr(graphdiff, name) is not None
    assert set(graphdiff.__all__) <= set(dir(graphdiff))
    with pytest.raises(AttributeError, match="No graphdiff attribute nothing"):
        graphdiff.nothing  # noqa: B018


def test_every_registered_model_is_a_public_name():
    # Other tests register models of their own.
    built_in = [model for model in MODELS.values() if model.__module__.startswith("graphdiff.")]
    assert len(built_in) > 20
    for model in built_in:
        assert getattr(graphdiff, model.__name__) is model


def test_asking_for_help_does_not_wait_for_pytorch():
    code = (
        "import sys, graphdiff.cli.main\n"
        "from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(graphdiff.cli.main.app, ['--help']).exit_code == 0\n"
        "assert 'torch' not in sys.modules\n"
        "assert graphdiff.datasets.load and 'torch' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_a_model_does_not_wait_for_what_it_may_not_need():
    code = (
        "import sys\n"
        "from graphdiff import LD4MRec\n"
        "heavy = {'sklearn', 'scipy.stats', 'lightning', 'torchmetrics', 'matplotlib'}\n"
        "heavy |= {'torch_geometric', 'pandas', 'torch._dynamo'}\n"
        "heavy |= {'networkx', 'faiss', 'onnx', 'polars', 'ray', 'typer'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_names_of_the_documentation_can_be_imported():
    code = (
        "from graphdiff.nn import DiffusionSchedule, CNet, ModalityGate, ModalitySignal\n"
        "from graphdiff import LD4MRec, compare\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("package", PACKAGES)
def test_all_public_names_of_a_package_exist(package):
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", []):
        assert getattr(module, name) is not None
    names = getattr(module, "__all__", [])
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "stub",
    sorted(Path(graphdiff.__file__).parent.rglob("*.pyi")),
    ids=lambda path: path.parent.name,
)
def test_a_stub_lists_each_name_once_and_hides_nothing(stub):
    imports = [
        node for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ImportFrom)
    ]
    aliases = [alias for node in imports for alias in node.names]
    # Type checkers take a name of a stub for public only if it is imported under its own name.
    assert all(alias.asname == alias.name for alias in aliases)
    assert len({alias.name for alias in aliases}) == len(aliases)


def test_no_two_public_objects_share_a_name():
    listed = defaultdict(dict)
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", []):
            value = getattr(module, name)
            if not isinstance(value, types.ModuleType):
                listed[name][id(value)] = package
    assert not {name: places for name, places in listed.items() if len(places) > 1}
    defined = defaultdict(list)
    for module in modules():
        for name, value in vars(module).items():
            is_own = inspect.isclass(value) and value.__module__ == module.__name__
            if is_own and not name.startswith("_") and value.__name__ == name:
                defined[name].append(module.__name__)
    assert len(defined) > 100
    assert not {name: places for name, places in defined.items() if len(places) > 1}
