import torch
import torch.nn.functional as F

from graphdiff.nn.losses import info_nce_loss, l2_penalty


def test_info_nce_is_the_softmax_of_cosines():
    view, other = torch.randn(5, 3), torch.randn(5, 3)
    cosine = F.cosine_similarity(view[:, None], other[None], dim=-1) / 0.2
    expected = -(cosine.diag().exp() / cosine.exp().sum(dim=1)).log().mean()
    torch.testing.assert_close(info_nce_loss(view, other, 0.2), expected)


def test_l2_penalty_counts_each_embedding_per_row():
    a, b = torch.full((4, 2), 3.0), torch.full((4, 2), 1.0)
    torch.testing.assert_close(l2_penalty(a, b), torch.tensor((18.0 + 2.0) / 2))
