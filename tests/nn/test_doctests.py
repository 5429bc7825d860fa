"""The examples in the docstrings of schema, graph, transforms, layers and parts of LD4MRec."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import graphdiff.graph
import graphdiff.models.diffmm
import graphdiff.models.ld4mrec
import graphdiff.nn
import graphdiff.schema
import graphdiff.transforms

PACKAGES = (
    graphdiff.schema,
    graphdiff.graph,
    graphdiff.transforms,
    graphdiff.nn,
    graphdiff.models.diffmm,
    graphdiff.models.ld4mrec,
)
MODULES = [
    f"{package.__name__}.{module.name}"
    for package in PACKAGES
    for module in pkgutil.iter_modules(package.__path__)
] + [
    "graphdiff.datasets.pyg",
    "graphdiff.models.frames",
    "graphdiff.models.overview",
    "graphdiff.training.progress",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name):
    result = doctest.testmod(import_module(name))
    assert result.failed == 0


def test_there_are_examples():
    assert doctest.testmod(import_module("graphdiff.nn.diffusion")).attempted > 4
