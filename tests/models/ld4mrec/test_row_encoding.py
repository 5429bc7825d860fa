"""Encoding of rows by item tables, for training and for inference."""

import torch

from graphdiff.graph.rows import Rows
from graphdiff.models.ld4mrec.row_encoding import encode_entries, encode_scaled_rows, row_scale

ROWS = Rows(torch.tensor([0, 0, 0, 2]), torch.tensor([1, 3, 4, 0]), num=3)


def dense():
    x = torch.zeros(3, 5, dtype=torch.float64)
    x[ROWS.row, ROWS.item] = 1
    return x / x.sum(dim=1, keepdim=True).clamp(min=1).sqrt()


def test_rows_are_scaled_to_length_one():
    torch.testing.assert_close(dense().norm(dim=1), torch.tensor([1.0, 0, 1]).double())
    expected = torch.tensor([3**-0.5, 1, 1], dtype=torch.float64)
    torch.testing.assert_close(row_scale(ROWS, torch.float64), expected)


def test_both_encodings_are_products_with_the_table():
    table = torch.randn(5, 4, dtype=torch.float64)
    expected = dense() @ table
    torch.testing.assert_close(encode_scaled_rows(table, ROWS), expected)
    torch.testing.assert_close(encode_entries(table[ROWS.item], ROWS), expected)


def test_training_has_the_gradient_of_the_product():
    entries = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: encode_entries(x, ROWS), [entries])


def test_one_row_is_encoded_as_among_others():
    table = torch.randn(5, 4)
    alone = Rows(torch.tensor([0, 0, 0]), torch.tensor([1, 3, 4]), num=1)
    torch.testing.assert_close(
        encode_scaled_rows(table, alone), encode_scaled_rows(table, ROWS)[:1]
    )
