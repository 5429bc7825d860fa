"""Public names of the package and the cost of importing it."""

import subprocess
import sys

import pytest

import graphdiff
from graphdiff.models import MODELS


def test_every_public_name_is_there():
    for name in graphdiff.__all__:
        assert getattr(graphdiff, name) is not None
    assert set(graphdiff.__all__) <= set(dir(graphdiff))
    with pytest.raises(AttributeError, match="No graphdiff attribute nothing"):
        graphdiff.nothing  # noqa: B018


def test_every_registered_model_is_a_public_name():
    for model in MODELS.values():
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
