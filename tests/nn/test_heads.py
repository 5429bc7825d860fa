"""Heads side by side."""

import pytest
import torch

from graphdiff.nn.heads import (
    SOFT_LENGTH,
    CosineHeads,
    HeadLinear,
    head_blocks,
    join_heads,
    normalize_heads,
    split_heads,
)


def test_heads_are_consecutive_parts_and_come_together_again():
    x = torch.randn(5, 6)
    heads = split_heads(x, 3)
    torch.testing.assert_close(heads, torch.stack(x.chunk(3, dim=1)))
    torch.testing.assert_close(join_heads(heads), x)
    torch.testing.assert_close(split_heads(x[0], 3), x[0].view(3, 2))


def test_blocks_of_a_gram_matrix_are_the_heads_own():
    x = torch.randn(5, 6)
    expected = torch.stack([head.t() @ head for head in x.chunk(3, dim=1)])
    torch.testing.assert_close(head_blocks(x.t() @ x, 3), expected)


def test_inner_products_of_normalised_heads_are_mean_cosines():
    x, y = torch.randn(5, 6), torch.randn(5, 6)
    cosines = [
        torch.nn.functional.cosine_similarity(a, b)
        for a, b in zip(x.chunk(3, 1), y.chunk(3, 1), strict=True)
    ]
    found = (normalize_heads(x, 3) * normalize_heads(y, 3)).sum(dim=1)
    torch.testing.assert_close(found, torch.stack(cosines).mean(dim=0))
    assert normalize_heads(torch.zeros(1, 6), 3).eq(0).all()


def test_each_head_has_a_linear_map_of_its_own():
    torch.manual_seed(0)
    linear = HeadLinear(2, 3, 4)
    x = torch.randn(2, 5, 3)
    for head in range(2):
        expected = x[head] @ linear.weight[head] + linear.bias[head]
        torch.testing.assert_close(linear(x)[head], expected)
    before = linear.weight.clone()
    linear.reset_parameters()
    assert not torch.equal(before, linear.weight)
    assert linear.weight.abs().max() <= 3**-0.5


def test_queries_of_cosine_heads_give_mean_cosines_over_the_temperature():
    torch.manual_seed(0)
    heads = CosineHeads(3, temperature=0.4).double()
    hidden, table = 100 * torch.randn(5, 6).double(), torch.randn(7, 6).double()
    cosines = [
        torch.nn.functional.cosine_similarity(a.unsqueeze(1), b.unsqueeze(0), dim=2)
        for a, b in zip(hidden.chunk(3, 1), table.chunk(3, 1), strict=True)
    ]
    expected = torch.stack(cosines).mean(dim=0) / 0.4
    found = heads(hidden) @ heads.normalize(table).t()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_short_hidden_states_have_short_queries():
    heads = CosineHeads(1, temperature=1.0)
    hidden = torch.tensor([[0.0, 0.0], [SOFT_LENGTH, 0.0]], requires_grad=True)
    query = heads(hidden)
    assert query[0].tolist() == [0, 0]
    assert query[1, 0].item() == pytest.approx(0.5**0.5)
    query.sum().backward()
    assert hidden.grad.abs().max() <= 1 / SOFT_LENGTH + 1e-3


def test_the_temperature_is_learned_and_bounded():
    heads = CosineHeads(2, temperature=0.3)
    assert heads.temperature.item() == pytest.approx(0.3)
    with torch.no_grad():
        heads.log_temperature.fill_(-9.0)
    assert heads.temperature.item() == pytest.approx(0.02)
    heads.reset_parameters()
    assert heads.temperature.item() == pytest.approx(0.3)


@pytest.mark.parametrize("num_heads", [1, 3])
def test_the_inference_form_of_the_heads_computes_the_same(num_heads):
    heads = CosineHeads(num_heads, temperature=0.3).double()
    hidden = torch.randn(5, 6, dtype=torch.float64)
    hidden[2] = 0
    frozen, expected = heads.freeze(), heads(hidden)
    torch.testing.assert_close(frozen(hidden), expected)
    with torch.no_grad():
        heads.log_temperature += 1
    torch.testing.assert_close(frozen(hidden), expected)
