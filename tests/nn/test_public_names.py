"""The public names of graphdiff.nn."""

import inspect
import subprocess
import sys

import pytest

import graphdiff.nn


def test_every_listed_name_can_be_imported():
    names = dir(graphdiff.nn)
    assert {"DiffusionSchedule", "CNet", "ModalityGate", "ModalitySignal"} <= set(names)
    for name in names:
        assert getattr(graphdiff.nn, name).__module__.startswith("graphdiff.nn.")


@pytest.mark.parametrize("name", dir(graphdiff.nn))
def test_every_layer_and_function_has_an_example(name):
    value = getattr(graphdiff.nn, name)
    record = isinstance(value, type) and issubclass(value, tuple)
    assert record or ">>>" in inspect.getdoc(value)


def test_names_are_imported_on_first_use():
    code = (
        "import sys, graphdiff.nn\n"
        "assert 'torch' not in sys.modules\n"
        "from graphdiff.nn import CNet\n"
        "assert 'torch' in sys.modules and CNet.__name__ == 'CNet'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
