"""Heads side by side."""

import torch

from graphdiff.nn.heads import HeadLinear, head_blocks, join_heads, normalize_heads, split_heads


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
