import torch

from graphdiff.nn.generated import chosen_pairs


def test_empty_places_are_no_pairs():
    user, item = chosen_pairs(torch.tensor([[3, -1], [-1, -1], [0, 2]]))
    assert user.tolist() == [0, 2, 2]
    assert item.tolist() == [3, 0, 2]
