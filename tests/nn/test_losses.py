import pytest
import torch
import torch.nn.functional as F

import graphdiff.nn.losses as module
from graphdiff.nn.losses import (
    info_nce_loss,
    l2_penalty,
    log_partition,
    table_contrast_loss,
    two_sided_contrast_loss,
)


def test_info_nce_is_the_softmax_of_cosines():
    view, other = torch.randn(5, 3), torch.randn(5, 3)
    cosine = F.cosine_similarity(view[:, None], other[None], dim=-1) / 0.2
    expected = -(cosine.diag().exp() / cosine.exp().sum(dim=1)).log().mean()
    torch.testing.assert_close(info_nce_loss(view, other, 0.2), expected)


def test_l2_penalty_counts_each_embedding_per_row():
    a, b = torch.full((4, 2), 3.0), torch.full((4, 2), 1.0)
    torch.testing.assert_close(l2_penalty(a, b), torch.tensor((18.0 + 2.0) / 2))


def test_contrast_with_a_table_is_the_softmax_over_all_of_it():
    view, other = torch.randn(6, 3), torch.randn(6, 3)
    node = torch.tensor([4, 0, 4, 5])
    cosine = F.cosine_similarity(view[node][:, None], other[None], dim=-1) / 0.3
    expected = -(cosine[range(4), node].exp() / cosine.exp().sum(dim=1)).log().mean()
    torch.testing.assert_close(table_contrast_loss(view, other, node, 0.3), expected)


def test_two_sided_contrast_counts_both_views_but_not_oneself():
    view, other = torch.randn(5, 3), torch.randn(5, 3)
    between = (F.cosine_similarity(view[:, None], other[None], dim=-1) / 0.3).exp()
    within = (F.cosine_similarity(view[:, None], view[None], dim=-1) / 0.3).exp()
    whole = between.sum(dim=1) + within.sum(dim=1) - within.diag()
    expected = -(between.diag() / whole).log().mean()
    torch.testing.assert_close(two_sided_contrast_loss(view, other, 0.3), expected)


def test_info_nce_of_counted_rows_is_that_of_repeated_rows():
    torch.manual_seed(0)
    view, other = torch.randn(2, 5, 3, requires_grad=True).unbind()
    count = torch.tensor([1, 3, 1, 2, 4])
    found = info_nce_loss(view, other, 0.2, count)
    repeated = (x.repeat_interleave(count, dim=0) for x in (view, other))
    expected = info_nce_loss(*repeated, 0.2)
    torch.testing.assert_close(found, expected)
    for one, two in zip(
        torch.autograd.grad(found, (view, other), retain_graph=True),
        torch.autograd.grad(expected, (view, other)),
        strict=True,
    ):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("entries", [1, 14, 1000])
@pytest.mark.parametrize("heads", [(), (2,)])
@pytest.mark.parametrize("biased", [False, True])
def test_log_partition_and_its_gradient_in_blocks_or_whole(entries, heads, biased, monkeypatch):
    monkeypatch.setattr(module, "_KEPT_ENTRIES", entries)
    monkeypatch.setattr(module, "_CACHED_ENTRIES", entries)
    generator = torch.Generator().manual_seed(0)
    query, table, bias = (
        (20 * torch.randn(*size, generator=generator, dtype=torch.float64)).requires_grad_()
        for size in ((*heads, 5, 3), (*heads, 7, 3), (7,))
    )
    weight = torch.rand(*heads, 5, generator=generator, dtype=torch.float64)
    found = log_partition(query, table, bias if biased else None)
    expected = (query @ table.mT + (bias if biased else 0)).logsumexp(dim=-1)
    torch.testing.assert_close(found, expected)
    inputs = (query, table, bias) if biased else (query, table)
    for one, two in zip(
        torch.autograd.grad((weight * found).sum(), inputs),
        torch.autograd.grad((weight * expected).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, two)
