"""Groups of users and items, on numbers of interactions chosen by hand."""

import torch

from graphdiff.evaluation.groups import ITEM_GROUPS, item_groups, user_groups
from graphdiff.schema import build_data
from tests.conftest import random_data


def members(groups):
    return {name: mask.nonzero().flatten().tolist() for name, mask in groups.items()}


def data_of(user_degrees=None, item_degrees=None):
    """Users, or items, with so many training interactions each."""
    degrees = user_degrees or item_degrees
    one = torch.arange(len(degrees)).repeat_interleave(torch.tensor(degrees))
    other = torch.cat([torch.arange(n) for n in degrees])
    pairs = torch.stack([one, other] if user_degrees else [other, one])
    sizes = (len(degrees), max(degrees)) if user_degrees else (max(degrees), len(degrees))
    return build_data(*sizes, pairs)


def test_users_fall_into_quarters():
    data = data_of(user_degrees=[1, 2, 3, 4, 5, 6, 7, 40])
    assert members(user_groups(data)) == {"1–2": [0, 1], "3–4": [2, 3], "5–6": [4, 5], "7+": [6, 7]}


def test_equal_quartiles_make_one_group_and_the_inactive_are_apart():
    data = data_of(user_degrees=[0, 2, 2, 2, 2, 2, 3, 9])
    assert members(user_groups(data)) == {"0": [0], "1–2": [1, 2, 3, 4, 5], "3+": [6, 7]}
    data = data_of(user_degrees=[3, 3, 3])
    assert members(user_groups(data)) == {"1–3": [0, 1, 2]}


def test_quartiles_are_those_of_the_chosen_users():
    data = data_of(user_degrees=[0, 1, 1, 1, 1, 1, 1, 5, 6, 7, 8])
    chosen = torch.tensor([7, 8, 9, 10])
    assert members(user_groups(data, chosen)) == {"1–5": [7], "6": [8], "7": [9], "8+": [10]}
    assert members(user_groups(data, torch.tensor([0]))) == {"0": [0]}


def test_items_by_thirds_of_the_interactions():
    # Of 24 interactions, items more popular hold 0, 9, 15, 15, 21, 21, 21; thirds end at 8 and 16.
    data = data_of(item_degrees=[0, 9, 6, 3, 3, 1, 1, 1])
    assert members(item_groups(data)) == {
        "cold": [0], "tail": [5, 6, 7], "mid": [2, 3, 4], "head": [1]
    }  # fmt: skip


def test_groups_divide_everything_once():
    data = random_data(60, 40, seed=3)
    for groups, size in ((user_groups(data), 60), (item_groups(data), 40)):
        assert torch.stack(list(groups.values())).sum(dim=0).tolist() == [1] * size
    found = item_groups(data)
    assert list(found) == [name for name in ITEM_GROUPS if name in found]
    popularity = torch.bincount(data["user", "interacts", "item"].edge_index[1], minlength=40)
    highest = [int(popularity[mask].max()) for mask in found.values()]
    lowest = [int(popularity[mask].min()) for mask in found.values()]
    assert all(high < low for high, low in zip(highest, lowest[1:], strict=False))
