"""Tensors that form no graph are refused when they are read."""

import pytest
import torch

from graphdiff.errors import DataError
from graphdiff.graph.store import RecGraph
from tests.conftest import random_data

NUM_ITEMS = 9
BAD = {
    "rowptr": {
        "missing": None,
        "int32": lambda t: t.int(),
        "2-D": lambda t: t[None],
        "empty": lambda t: t[:1],
        "not from 0": lambda t: t + 1,
        "too short": lambda t: t[:-1],
        "not ascending": lambda t: torch.cat([t[:1], t[1:-1].flip(0), t[-1:]]),
        "negative": lambda t: torch.cat([t[:1], -t[1:2], t[2:]]),
    },
    "col": {
        "missing": None,
        "float": lambda t: t.float(),
        "item out of range": lambda t: torch.cat([t[:-1], t.new_tensor([NUM_ITEMS])]),
        "negative": lambda t: torch.cat([t.new_tensor([-1]), t[1:]]),
        "too long": lambda t: torch.cat([t, t[:1]]),
    },
    "x_image": {
        "int": lambda t: t.long(),
        "1-D": lambda t: t[:, 0],
        "a row less": lambda t: t[1:],
    },
    "has_image": {
        "missing": None,
        "long": lambda t: t.long(),
        "2-D": lambda t: t[:, None],
        "an item less": lambda t: t[1:],
    },
    "similar_image_index": {
        "int16": lambda t: t.short(),
        "an edge less": lambda t: t[:, 1:],
        "one row": lambda t: t[:1],
        "item out of range": lambda t: t + NUM_ITEMS,
        "negative": lambda t: t - NUM_ITEMS,
    },
    "similar_image_weight": {
        "missing": None,
        "long": lambda t: t.long(),
        "2-D": lambda t: t[None],
        "an edge less": lambda t: t[1:],
    },
}
CASES = [(name, case) for name, cases in BAD.items() for case in cases]


@pytest.fixture
def tensors():
    data = random_data(num_items=NUM_ITEMS, features={"image": 4})
    return RecGraph.from_data(data, num_neighbors=2).state_dict()


@pytest.mark.parametrize(("name", "case"), CASES)
def test_tensors_that_do_not_fit_are_refused(tensors, name, case):
    change = BAD[name][case]
    if change is None:
        del tensors[name]
        message = f"the graph has no tensor {name}; it has "
    else:
        tensors[name] = change(tensors[name])
        message = r"of the graph is a .* tensor .*; expected "
    with pytest.raises(DataError, match=message):
        RecGraph.from_tensors(tensors, NUM_ITEMS)


def test_another_number_of_items_does_not_fit(tensors):
    RecGraph.from_tensors(tensors, NUM_ITEMS)
    for num_items in (NUM_ITEMS - 1, NUM_ITEMS + 1, 0):
        with pytest.raises(DataError, match="expected"):
            RecGraph.from_tensors(tensors, num_items)
