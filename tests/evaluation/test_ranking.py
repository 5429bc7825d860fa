import math

import numba
import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData
from torch_geometric.metrics import (
    LinkPredCoverage,
    LinkPredHitRatio,
    LinkPredMAP,
    LinkPredMetricCollection,
    LinkPredMRR,
    LinkPredNDCG,
    LinkPredPrecision,
    LinkPredRecall,
)

from graphdiff.errors import ConfigError, DataError, GraphDiffError
from graphdiff.evaluation.beyond_accuracy import BEYOND_ACCURACY
from graphdiff.evaluation.ranking import evaluate, evaluate_users, rank
from graphdiff.models import EASE
from tests.conftest import make_model, random_data

NAMES = ["recall", "ndcg", "precision", "map", "mrr", "hit_ratio"]


class FixedScores(torch.nn.Module):
    """Recommends by a given matrix [U, I]; the plain way, with the whole of it in memory."""

    def __init__(self, score, data):
        super().__init__()
        self.score = score
        self.train_pairs = data["user", "interacts", "item"].edge_index
        self.part = torch.nn.Dropout().eval()

    def recommend(self, user_index, *, k, exclude_seen=True, exclude_index=None):
        assert exclude_seen
        assert not self.training
        assert not torch.is_grad_enabled()
        score = self.score.clone()
        score[self.train_pairs[0], self.train_pairs[1]] = -torch.inf
        score = score[user_index]
        if exclude_index is not None:
            score[exclude_index] = -torch.inf
        value, index = score.topk(k, dim=1)
        return index.masked_fill(value == -torch.inf, -1), value


class FixedLists(torch.nn.Module):
    """Recommends given lists, whatever they are."""

    def __init__(self, lists):
        super().__init__()
        self.lists = torch.tensor(lists)

    def recommend(self, user_index, *, k, exclude_seen=True, exclude_index=None):
        return self.lists[user_index, :k], torch.zeros(user_index.numel(), k)


def pairs(*items_of_user):
    """Items of users 0, 1, ... as int64 [2, P]."""
    found = [(user, item) for user, items in enumerate(items_of_user) for item in items]
    return torch.tensor(found, dtype=torch.long).reshape(-1, 2).t()


def make_data(num_users, num_items, train, val, test):
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    edges = data["user", "interacts", "item"]
    edges.edge_index, edges.val_edge_label_index, edges.test_edge_label_index = train, val, test
    return data


def random_problem(seed, num_users=60, num_items=40):
    """Scores without ties, and disjoint splits in which a third of the users hold out nothing."""
    generator = torch.Generator().manual_seed(seed)
    score = torch.randperm(num_users * num_items, generator=generator).view(num_users, num_items)
    role = torch.rand(num_users, num_items, generator=generator)
    role[::3] = role[::3].clamp(max=0.89)  # users without test items
    role[:, -3:] = role[:, -3:].clamp(min=0.3)  # items without training interactions
    split = [
        ((role >= low) & (role < high)).nonzero().t()
        for low, high in ((0.0, 0.2), (0.8, 0.9), (0.9, 1.0))
    ]
    data = make_data(num_users, num_items, *split)
    return FixedScores(score.float(), data), data


def accuracy(model, data, ks):
    """The metrics of evaluate without those of graphdiff.evaluation.beyond_accuracy."""
    found = evaluate(model, data, ks=ks)
    return {name: found[name] for name in found if name.partition("@")[0] not in BEYOND_ACCURACY}


def brute_force(model, data, split, k, mask_validation=False):
    """Per-user metrics by their definitions, one user and one item at a time."""
    edges = data["user", "interacts", "item"]
    as_set = lambda index: set(map(tuple, index.t().tolist()))  # noqa: E731
    train, val = as_set(edges.edge_index), as_set(edges.val_edge_label_index)
    held_out = val if split == "val" else as_set(edges.test_edge_label_index)
    masked = train | (val if mask_validation else set())
    result = {name: [] for name in NAMES}
    users, covered = sorted({user for user, _ in held_out}), set()
    for user in users:
        ranked = np.argsort(-model.score[user].numpy())
        ranked = [item for item in ranked if (user, item) not in masked][:k]
        covered |= set(ranked)
        wanted = {item for other, item in held_out if other == user}
        hits = [item in wanted for item in ranked]
        ideal = sum(1 / math.log2(j + 2) for j in range(min(k, len(wanted))))
        gains = [hit / math.log2(j + 2) for j, hit in enumerate(hits)]
        precisions = [sum(hits[: j + 1]) / (j + 1) for j, hit in enumerate(hits) if hit]
        result["recall"].append(sum(hits) / len(wanted))
        result["ndcg"].append(sum(gains) / ideal)
        result["precision"].append(sum(hits) / k)
        result["map"].append(sum(precisions) / min(k, len(wanted)))
        result["mrr"].append(max([hit / (j + 1) for j, hit in enumerate(hits)], default=0))
        result["hit_ratio"].append(float(any(hits)))
    coverage = len(covered) / data["item"].num_nodes
    return users, {name: np.array(value) for name, value in result.items()}, coverage


def test_a_case_computed_by_hand():
    data = make_data(
        4, 6, train=pairs([0], [], [5], [1]), val=pairs([1]), test=pairs([2, 3], [4], [], [0, 2, 3])
    )
    model = FixedLists([[2, 4, 3], [0, 1, 2], [0, 1, 2], [4, 5, -1]])
    found = evaluate_users(model, data, ks=(1, 3))
    assert found["user"].tolist() == [0, 1, 3]
    expected = {
        "recall@1": [1 / 2, 0, 0],
        "ndcg@1": [1, 0, 0],
        "precision@1": [1, 0, 0],
        "map@1": [1, 0, 0],
        "mrr@1": [1, 0, 0],
        "hit_ratio@1": [1, 0, 0],
        "recall@3": [1, 0, 0],
        # Hits in places 1 and 3; ideally in places 1 and 2.
        "ndcg@3": [(1 + 1 / 2) / (1 + 1 / math.log2(3)), 0, 0],
        "precision@3": [2 / 3, 0, 0],
        "map@3": [(1 + 2 / 3) / 2, 0, 0],
        "mrr@3": [1, 0, 0],
        "hit_ratio@3": [1, 0, 0],
    }
    assert list(found) == ["user", *expected]
    for name, values in expected.items():
        assert found[name].tolist() == pytest.approx(values), name
    mean = accuracy(model, data, ks=(1, 3))
    # User 2 holds out nothing, so what it is recommended is not covered. In the first places are
    # 2, 0 and 4; in the first three places all items.
    assert mean == pytest.approx(
        {name: sum(values) / 3 for name, values in expected.items()}
        | {"coverage@1": 3 / 6, "coverage@3": 1}
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("split", "mask_validation"), [("val", False), ("test", False), ("test", True)]
)
def test_brute_force_agrees(seed, split, mask_validation):
    model, data = random_problem(seed)
    arguments = {"split": split, "mask_validation": mask_validation, "batch_size": 7}
    mean = evaluate(model, data, ks=(5, 20), **arguments)
    per_user = evaluate_users(model, data, ks=(5, 20), **arguments)
    for k in (5, 20):
        users, expected, coverage = brute_force(model, data, split, k, mask_validation)
        assert per_user["user"].tolist() == users
        for name in NAMES:
            found = per_user[f"{name}@{k}"].numpy()
            np.testing.assert_allclose(found, expected[name], rtol=1e-6, atol=0, err_msg=name)
            assert mean[f"{name}@{k}"] == pytest.approx(found.mean(dtype=float), rel=1e-12)
        assert mean[f"coverage@{k}"] == pytest.approx(coverage)


@pytest.fixture(scope="module")
def ranx():
    with pytest.MonkeyPatch.context() as patch:
        # Compiling takes ranx more than a minute, and its Python is fast enough here.
        patch.setattr(numba.config, "DISABLE_JIT", True)
        import ranx

        yield ranx


def ranx_values(ranx, model, data, split, k, mask_validation):
    edges = data["user", "interacts", "item"]
    held_out = edges.val_edge_label_index if split == "val" else edges.test_edge_label_index
    score = model.score.clone()
    score[tuple(edges.edge_index)] = -torch.inf
    if mask_validation:
        score[tuple(edges.val_edge_label_index)] = -torch.inf
    wanted: dict[str, dict[str, int]] = {}
    for user, item in held_out.t().tolist():
        wanted.setdefault(f"u{user:03}", {})[f"i{item}"] = 1
    run = {}
    for user in wanted:
        candidates = enumerate(score[int(user[1:])].tolist())
        run[user] = {f"i{item}": value for item, value in candidates if value > -math.inf}
    # Its names: hit rate is our hit ratio, and its MAP divides by |H| where ours divides by
    # min(k, |H|), so it is left to the brute force above.
    names = {"recall": "recall", "ndcg": "ndcg", "precision": "precision", "mrr": "mrr"}
    names["hit_ratio"] = "hit_rate"
    found = ranx.evaluate(
        ranx.Qrels(wanted), ranx.Run(run), [f"{name}@{k}" for name in names.values()]
    )
    return {f"{ours}@{k}": found[f"{theirs}@{k}"] for ours, theirs in names.items()}


@pytest.mark.parametrize("k", [5, 20])
@pytest.mark.parametrize(
    ("split", "mask_validation"), [("val", False), ("test", False), ("test", True)]
)
def test_ranx_agrees(ranx, split, mask_validation, k):
    model, data = random_problem(seed=10 + k)
    found = evaluate(model, data, split, (k,), mask_validation, batch_size=16)
    expected = ranx_values(ranx, model, data, split, k, mask_validation)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_the_metric_collection_of_pyg_agrees():
    model, data = random_problem(seed=20)
    held_out = data["user", "interacts", "item"].test_edge_label_index
    users, row = held_out[0].unique(return_inverse=True)
    with torch.no_grad():
        index, _ = model.eval().recommend(users, k=10)
    collection = LinkPredMetricCollection(
        {
            "recall@10": LinkPredRecall(10),
            "ndcg@10": LinkPredNDCG(10),
            "precision@10": LinkPredPrecision(10),
            "map@10": LinkPredMAP(10),
            "mrr@10": LinkPredMRR(10),
            "hit_ratio@10": LinkPredHitRatio(10),
            "coverage@10": LinkPredCoverage(10, num_dst_nodes=40),
        }
    )
    collection.update(index, torch.stack([row, held_out[1]]))
    expected = {name: value.item() for name, value in collection.compute().items()}
    assert accuracy(model, data, ks=(10,)) == pytest.approx(expected, rel=1e-6)


def test_padding_never_hits():
    # With -1 read as an index, user 1 would hit the last item of user 0, and item 5 be covered.
    data = make_data(2, 6, train=pairs([0], [0]), val=pairs([]), test=pairs([5], [5]))
    model = FixedLists([[-1, -1, -1], [1, -1, -1]])
    found = accuracy(model, data, ks=(2, 3))
    assert found.pop("coverage@2") == found.pop("coverage@3") == pytest.approx(1 / 6)
    assert set(found.values()) == {0.0}


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_batches_do_not_matter(batch_size):
    model, data = random_problem(seed=1)
    found = evaluate(model, data, mask_validation=True, batch_size=batch_size)
    assert found == evaluate(model, data, mask_validation=True)


def test_a_random_model_recalls_what_chance_gives():
    generator = torch.Generator().manual_seed(0)
    num_users, num_items, k = 2000, 100, 20
    held_out = torch.stack(
        [torch.arange(num_users), torch.randint(num_items, (num_users,), generator=generator)]
    )
    data = make_data(num_users, num_items, pairs([]), pairs([]), held_out)
    model = FixedScores(torch.rand(num_users, num_items, generator=generator), data)
    found = evaluate(model, data, ks=(k,))
    chance = k / num_items
    sigma = math.sqrt(chance * (1 - chance) / num_users)
    assert found["recall@20"] == pytest.approx(chance, abs=4 * sigma)
    assert found["hit_ratio@20"] == found["recall@20"]
    assert found["coverage@20"] == 1


def test_a_perfect_model_is_perfect_and_reaches_cold_items():
    data = make_data(2, 5, train=pairs([0], [1]), val=pairs([]), test=pairs([4], [3]))
    found = accuracy(FixedLists([[4], [3]]), data, ks=(1,))
    assert {name: value for name, value in found.items() if name != "coverage@1"} == {
        f"{name}@1": 1.0 for name in NAMES
    }


def test_the_mode_of_every_part_comes_back():
    model, data = random_problem(seed=2)
    model.train()
    model.part.eval()
    evaluate(model, data)
    assert model.training
    assert not model.part.training
    model.score = None
    with pytest.raises(AttributeError):
        evaluate(model, data)
    assert model.training


def test_a_model_need_not_be_a_module():
    class Popular:
        def recommend(self, user_index, *, k, exclude_seen=True, exclude_index=None):
            return torch.arange(k).repeat(user_index.numel(), 1), None

    _, data = random_problem(seed=3)
    assert 0 < evaluate(Popular(), data)["recall@20"] < 1


def test_progress_goes_to_standard_error(capfd):
    model, data = random_problem(seed=4)
    evaluate(model, data, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Ranking test" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "train"}, "split is 'train'; expected 'val' or 'test'"),
        ({"split": "val", "mask_validation": True}, "use it with split='test'"),
        ({"ks": ()}, r"ks is \[\]"),
        ({"ks": (10, 41)}, r"ks is \[10, 41\] with a catalogue of 40 items"),
        ({"ks": (0,)}, "from 1 to 40"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    model, data = random_problem(seed=5)
    with pytest.raises(ConfigError, match=message):
        evaluate(model, data, **arguments)


def test_nothing_held_out_is_refused():
    model, data = random_problem(seed=5)
    data["user", "interacts", "item"].val_edge_label_index = pairs([])
    with pytest.raises(DataError, match="no validation pairs to evaluate on"):
        evaluate(model, data, "val")
    del data["user", "interacts", "item"].test_edge_label_index
    with pytest.raises(DataError, match="no test pairs to evaluate on"):
        evaluate(model, data)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[0, 1]], r"items of shape \[1, 2\]; expected \[1, 3\]"),
        ([[0, 1, 6]], "item 6; expected 0 to 5"),
        ([[0, 1, -2]], "item -2; expected 0 to 5"),
        ([[0, 4, 0]], "an item twice to 1 of 1 users"),
    ],
)
def test_what_is_no_ranking_is_refused(lists, message):
    data = make_data(1, 6, pairs([5]), pairs([]), pairs([0]))
    with pytest.raises(GraphDiffError, match=message):
        evaluate(FixedLists(lists), data, ks=(3,))


def test_a_ranking_of_some_items_is_that_of_data_that_holds_out_those_alone():
    data = random_data(30, 25, seed=4)
    model = FixedScores(torch.rand(30, 25, generator=torch.Generator().manual_seed(1)), data)
    ranking = rank(model, data, ks=(3, 5))
    assert ranking.mean() == accuracy(model, data, ks=(3, 5))
    items = torch.arange(25) % 3 == 0
    held_out = data["user", "interacts", "item"].test_edge_label_index
    data["user", "interacts", "item"].test_edge_label_index = held_out[:, items[held_out[1]]]
    expected = evaluate_users(model, data, ks=(3, 5))
    found = ranking.of_items(items).users()
    assert 0 < expected["user"].numel() < 30
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_a_ranking_without_held_out_items_has_no_users():
    data = random_data(30, 25)
    model = FixedScores(torch.rand(30, 25), data)
    nobody = rank(model, data, ks=(3,)).of_items(torch.zeros(25, dtype=torch.bool)).users()
    assert nobody["user"].numel() == nobody["recall@3"].numel() == 0


def test_metrics_of_each_user_as_a_frame():
    data = random_data(num_users=12, num_items=25)
    data["user"].raw_id = [f"u{n}" for n in range(12)]
    model = make_model(EASE, data)
    frame = evaluate(model, data, ks=(5, 10), per_user=True)
    users = evaluate_users(model, data, ks=(5, 10))
    assert frame["user"].tolist() == [f"u{n}" for n in users["user"].tolist()]
    assert set(frame.columns) == set(users)
    mean = evaluate(model, data, ks=(5, 10))
    assert frame["recall@5"].mean() == pytest.approx(mean["recall@5"], abs=1e-6)
