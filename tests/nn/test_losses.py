import torch
import torch.nn.functional as F

from graphdiff.nn.losses import (
    info_nce_loss,
    l2_penalty,
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
