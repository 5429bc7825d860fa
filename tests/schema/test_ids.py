"""Indices and raw ids."""

import numpy as np
import pytest
import torch

from graphdiff.errors import DataError
from graphdiff.schema import build_data, index_of, raw_ids
from tests.schema.samples import arguments


@pytest.mark.parametrize("ids", [None, [7, 9, 8, 2**40], ["x", "7", "é", ""]])
def test_there_and_back(ids):
    data = build_data(**arguments(item_ids=ids))
    listed = raw_ids(data, "item", range(4))
    assert listed == ([0, 1, 2, 3] if ids is None else ids)
    assert [index_of(data, "item", i) for i in listed] == [0, 1, 2, 3]
    assert [index_of(data, "item", str(i)) for i in listed] == [0, 1, 2, 3]


def test_any_form_of_index():
    data = build_data(**arguments(item_ids=["a", "b", "c", "d"]))
    assert raw_ids(data, "item", 2) == ["c"]
    assert raw_ids(data, "item", torch.tensor([[3, 0], [1, 1]])) == ["d", "a", "b", "b"]
    assert raw_ids(data, "item", []) == []


@pytest.mark.parametrize("ids", [None, [7, 9, 8, 6], ["w", "x", "y", "z"]])
@pytest.mark.parametrize("unknown", ["nobody", 99, -1, 2**80])
def test_unknown_ids_are_refused(ids, unknown):
    data = build_data(**arguments(item_ids=ids))
    with pytest.raises(DataError, match=f"no item has the id '?{unknown}'?; the graph has 4"):
        index_of(data, "item", unknown)


@pytest.mark.parametrize("index", [-1, 4])
def test_index_out_of_range_is_refused(index):
    with pytest.raises(DataError, match=f"item index {index} is out of range"):
        raw_ids(build_data(**arguments()), "item", index)


@pytest.mark.parametrize("index", [1.7, [0.0, 2.0], torch.tensor([True]), np.array([1.5])])
def test_kind_f_indices_are_integers(index):
    with pytest.raises(DataError, match=r"item indices are .*; give integers"):
        raw_ids(build_data(**arguments()), "item", index)


@pytest.mark.parametrize("ids", [None, [0, 1, 10, 3]])
@pytest.mark.parametrize("wrong", [1.7, True, "1_0", " 1", "1.0", "01", None, [1], float("nan")])
def test_kind_f_an_id_is_never_rounded_or_reread(ids, wrong):
    data = build_data(**arguments(item_ids=ids))
    with pytest.raises(DataError, match="no item has the id"):
        index_of(data, "item", wrong)
    for right in (1, 1.0, np.int64(1), np.float64(1), "1"):
        assert index_of(data, "item", right) == 1
