"""Sparse rows against dense ones."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from graphdiff.graph.rows import Rows


@given(st.lists(st.sets(st.integers(0, 6)), min_size=1, max_size=5))
def test_rows_equal_their_dense_form(sets):
    row = torch.tensor([n for n, items in enumerate(sets) for _ in items], dtype=torch.long)
    item = torch.tensor([i for items in sets for i in sorted(items)], dtype=torch.long)
    rows = Rows(row, item, len(sets))
    dense = rows.dense(7)
    assert dense.shape == (len(sets), 7)
    for line, items in zip(dense, sets, strict=True):
        assert set(line.nonzero().flatten().tolist()) == items
    assert rows.degree().tolist() == [len(items) for items in sets]
    starts = rows.starts().tolist()
    for start, items in zip(starts, sets, strict=True):
        assert rows.item[start : start + len(items)].tolist() == sorted(items)
