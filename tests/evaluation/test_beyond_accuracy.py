import math
from itertools import combinations

import numpy as np
import pytest
import torch
from torch_geometric.metrics import (
    LinkPredAveragePopularity,
    LinkPredDiversity,
    LinkPredPersonalization,
)
from torch_geometric.metrics.link_pred import LinkPredMetricData

from graphdiff.errors import DataError
from graphdiff.evaluation import beyond_accuracy as module
from graphdiff.evaluation import evaluate
from graphdiff.evaluation.beyond_accuracy import BEYOND_ACCURACY, beyond_accuracy
from graphdiff.evaluation.groups import item_groups
from graphdiff.schema import build_data
from tests.conftest import random_data
from tests.evaluation.test_ranking import FixedLists, make_data, pairs


def problem(num_users=40, num_items=30, k=6, seed=0):
    """Data with two modalities, and full lists of distinct items."""
    data = random_data(num_users, num_items, {"image": 5, "text": 4}, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    top = torch.rand(num_users, num_items, generator=generator).argsort(dim=1)[:, :k]
    row, item = data["user", "interacts", "item"].test_edge_label_index
    return data, LinkPredMetricData(top, (row, item))


def test_pyg_agrees_on_full_lists():
    data, ranked = problem()
    popularity = torch.bincount(data["user", "interacts", "item"].edge_index[1], minlength=30)
    data["item"].category = torch.arange(30) % 4
    found = beyond_accuracy(ranked, (3, 6), data)
    for k in (3, 6):
        expected = {
            "diversity": LinkPredDiversity(k, data["item"].category),
            "personalization": LinkPredPersonalization(k, max_src_nodes=None),
            "average_popularity": LinkPredAveragePopularity(k, popularity),
        }
        for name, metric in expected.items():
            metric.update(ranked.pred_index_mat, ranked.edge_label_index)
            assert found[f"{name}@{k}"] == pytest.approx(metric.compute().item(), rel=1e-5), name


@pytest.mark.parametrize("block", [2**22, 50])
def test_definitions_agree_one_pair_at_a_time(block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ENTRIES", block)
    data, ranked = problem(seed=1)
    # Lists that end early, as where candidates run out: item 30 is beyond the catalogue.
    ranked.pred_index_mat[3, 1:] = 30
    ranked.pred_index_mat[7, 4:] = 30
    ranked.pred_index_mat[9] = 30
    data["item"].has_image = torch.arange(30) % 5 > 0
    lists = [[i for i in row if i < 30] for row in ranked.pred_index_mat.tolist()]
    found = beyond_accuracy(ranked, (6,), data)

    edges = data["user", "interacts", "item"].edge_index[1].tolist()
    count = [edges.count(i) for i in range(30)]
    filled = [row for row in lists if row]
    assert found["average_popularity@6"] == pytest.approx(
        np.mean([np.mean([count[i] for i in row]) for row in filled])
    )
    assert found["novelty@6"] == pytest.approx(
        np.mean([np.mean([-math.log2(max(count[i], 1) / 40) for i in row]) for row in filled])
    )
    assert found["personalization@6"] == pytest.approx(
        np.mean([1 - len(set(a) & set(b)) / 6 for a, b in combinations(lists, 2)])
    )
    exposure = sorted(sum(i in row for row in lists) for i in range(30))
    differences = sum(abs(a - b) for a in exposure for b in exposure)
    assert found["gini@6"] == pytest.approx(differences / (2 * 30 * sum(exposure)))

    unit = {}
    for name in ("image", "text"):
        x, has = data["item"][f"x_{name}"].numpy(), data["item"][f"has_{name}"].numpy()
        z = (x - x[has].mean(0)) / x[has].std(0)
        unit[name] = {i: z[i] / np.linalg.norm(z[i]) for i in range(30) if has[i]}
    values = []
    for row in lists:
        cosines = [
            [one[i] @ one[j] for i, j in combinations(row, 2) if i in one and j in one]
            for one in unit.values()
        ]
        if known := [np.mean(one) for one in cosines if one]:
            values.append(1 - np.mean(known))
    assert len(values) == 38
    assert found["diversity@6"] == pytest.approx(np.mean(values), rel=1e-5)


def test_recall_of_groups_counts_their_held_out_items_alone():
    data, ranked = problem(seed=2)
    groups = item_groups(data)
    found = beyond_accuracy(ranked, (6,), data)
    row, item = (index.tolist() for index in ranked.edge_label_index)
    for name in ("tail", "cold"):
        wanted = {}
        for user, held_out in zip(row, item, strict=True):
            if name in groups and groups[name][held_out]:
                wanted.setdefault(user, set()).add(held_out)
        if not wanted:
            assert f"{name}_recall@6" not in found
            continue
        recalls = [
            len(items & set(ranked.pred_index_mat[user].tolist())) / len(items)
            for user, items in wanted.items()
        ]
        assert found[f"{name}_recall@6"] == pytest.approx(np.mean(recalls))
    assert "tail_recall@6" in found


def test_extremes():
    same = torch.tensor([[0, 1]] * 4)
    apart = torch.arange(8).view(4, 2)
    data = build_data(4, 8, [[0, 1, 2, 3], [0, 0, 0, 0]])
    nobody = (torch.empty(0, dtype=torch.long),) * 2
    everyone_alike = beyond_accuracy(LinkPredMetricData(same, nobody), (2,), data)
    assert everyone_alike["personalization@2"] == 0
    assert everyone_alike["gini@2"] == pytest.approx(1 - 2 / 8)
    assert everyone_alike["average_popularity@2"] == 2
    all_different = beyond_accuracy(LinkPredMetricData(apart, nobody), (2,), data)
    assert all_different["personalization@2"] == 1
    assert all_different["gini@2"] == pytest.approx(0)
    # An item of all four users has no information, one of none counts as one of a single user.
    assert all_different["novelty@2"] == pytest.approx((1 + 2 + 2 + 2) / 4)


def test_what_is_not_defined_is_missing():
    data = make_data(2, 6, pairs([0], [0]), pairs([]), pairs([5], []))
    found = evaluate(FixedLists([[1, 2], [3, 4]]), data, ks=(1, 2))
    names = {name.partition("@")[0] for name in found} & set(BEYOND_ACCURACY)
    assert names == {"average_popularity", "novelty", "gini", "cold_recall"}
    assert found["cold_recall@2"] == 0
    data["item"].category = torch.zeros(6, dtype=torch.long)
    found = evaluate(FixedLists([[1, 2], [3, 4]]), data, ks=(1, 2))
    assert found["diversity@2"] == 0
    assert "diversity@1" not in found


def test_categories_may_be_texts():
    data, ranked = problem()
    data["item"].category = ["ab"[n % 2] if n > 4 else "" for n in range(30)]
    texts = beyond_accuracy(ranked, (6,), data)["diversity@6"]
    data["item"].category = torch.tensor([n % 2 if n > 4 else 10 + n for n in range(30)])
    assert texts == beyond_accuracy(ranked, (6,), data)["diversity@6"]


@pytest.mark.parametrize("category", [torch.zeros(5, dtype=torch.long), torch.zeros(6)])
def test_categories_that_do_not_fit_are_refused(category):
    data = make_data(1, 6, pairs([0]), pairs([]), pairs([5]))
    data["item"].category = category
    with pytest.raises(DataError, match=r"one integer per item, shape \[6\]"):
        evaluate(FixedLists([[1, 2]]), data, ks=(2,))
