"""Rows that count a user's latest items more."""

import pytest
import torch

from graphdiff import EASE, LD4MRec, fit
from graphdiff.errors import ConfigError
from graphdiff.graph.recency import last_places, recency_weights
from graphdiff.models.query import Query
from graphdiff.models.recency import EXPONENTS
from graphdiff.schema import INTERACTS, build_data
from tests.conftest import make_model, random_data
from tests.graph.test_recency import timed_data

SIZES = {"num_users": 40, "num_items": 30, "features": {"image": 6}}


def make(seed=0, linear=True, **settings):
    """A model with random weights and, if asked for, a linear path that counts."""
    data = timed_data(**SIZES)
    model = make_model(LD4MRec, data, seed, linear_path={"enabled": linear, "rank": 4}, **settings)
    torch.nn.init.normal_(model.cnet.blocks[0].outer.weight)
    torch.nn.init.normal_(model.bias)
    if linear:
        model.linear.start(model.graph, torch.Generator().manual_seed(seed))
        model.linear.weight.fill_(0.5)
    return model.eval(), data


def histories(model):
    """The items of each user in the order of time."""
    rows = model.graph.rows(torch.arange(model.num_users))
    order = (rows.row * 1000 - rows.age).argsort()
    return [rows.item[order][rows.row == user].tolist() for user in range(model.num_users)]


def all_scores(model, **users):
    item, score = model.recommend(**users, k=model.num_items, exclude_seen=False)
    return torch.zeros_like(score).scatter(1, item, score)


def everyone(model):
    return all_scores(model, user_index=torch.arange(model.num_users))


@pytest.mark.parametrize("linear", [False, True])
def test_vectors_are_those_of_weighted_rows(linear):
    model, _ = make(linear=linear, recency=0.75)
    model, tables = model.double(), model.double().tables()
    rows = model.graph.rows(torch.arange(model.num_users))
    weight = recency_weights(rows, 0.75).double()
    dense = torch.zeros(rows.num, model.num_items, dtype=torch.float64)
    dense[rows.row, rows.item] = weight / rows.degree().double().sqrt()[rows.row]
    found = model.user_vectors(Query(rows), tables)
    expected = tables.inference(dense @ tables.row_encoder)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_history_counts_as_the_user_who_has_it_in_this_order():
    model, _ = make(recency=1.0)
    lists = histories(model)
    torch.testing.assert_close(all_scores(model, history_index=lists), everyone(model))
    backwards = all_scores(model, history_index=[one[::-1] for one in lists])
    assert not torch.allclose(backwards, everyone(model))
    # Of repeats the latest counts.
    repeated = all_scores(model, history_index=[[one[-1], *one] for one in lists])
    torch.testing.assert_close(repeated, everyone(model))


def test_without_times_or_at_zero_the_order_does_not_matter():
    for model in (
        make(recency=0.0)[0],
        make_model(LD4MRec, random_data(**SIZES), recency=1.0).eval(),
    ):
        lists = [[1, 5, 2], [7, 3]]
        found = all_scores(model, history_index=lists)
        backwards = all_scores(model, history_index=[one[::-1] for one in lists])
        torch.testing.assert_close(found, backwards)


def test_an_explanation_sums_to_the_score():
    model, _ = make(recency=0.5)
    scores = everyone(model)
    for user, item in ((0, 3), (7, 11)):
        found = model.explain(item, user_index=user)
        assert found.score == pytest.approx(scores[user, item].item(), abs=1e-4)
        assert sum(found.parts.values()) == pytest.approx(found.score, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_validation_chooses_the_least_exponent_of_the_best_recall(seed):
    model, _ = make(seed, linear=False, cold_items={"neighbor_weight": 0.0, "exposure": 0.0})
    users = torch.arange(model.num_users)
    # Held out are items that each user is recommended with one of the values.
    model.recency.exponent.fill_(EXPONENTS[2 + seed])
    ranked = model.recommend(users, k=22)[0]
    target = torch.stack([users.repeat_interleave(2), ranked[:, 20:].flatten()])
    recalls = []
    for exponent in EXPONENTS:
        model.recency.exponent.fill_(exponent)
        found = model.recommend(users, k=20)[0]
        hits = (found[target[0]] == target[1][:, None]).any(dim=1).float()
        recalls.append(hits.view(-1, 2).mean().item())
    model.recency.exponent.zero_()
    model.calibrate(target)
    assert model.recency.exponent.item() == EXPONENTS[recalls.index(max(recalls))]
    assert len(set(recalls)) > 1


def test_a_given_exponent_stays():
    model, data = make(recency=0.3)
    model.calibrate(data[INTERACTS].val_edge_label_index)
    assert model.recency.exponent.item() == pytest.approx(0.3)
    with pytest.raises(ConfigError, match="recency"):
        LD4MRec.configure(recency=-1.0)


def test_the_exponent_is_saved_and_set_back_for_another_training(tmp_path):
    model, data = make()
    model.recency.exponent.fill_(0.75)
    model.save_pretrained(tmp_path)
    again = LD4MRec.from_pretrained(tmp_path)
    assert again.recency.exponent == 0.75
    torch.testing.assert_close(again.graph.age, model.graph.age)
    torch.testing.assert_close(everyone(again), everyone(model))
    fit(again, data, epochs=1, progress=False)
    assert again.recency.exponent.item() in EXPONENTS


def test_rows_whose_last_items_say_most_are_weighted():
    # Users jump between places on a ring and take four neighbouring items at each; what is held out
    # continues the last place.
    num_users, num_items, places = 300, 300, 8
    generator = torch.Generator().manual_seed(0)
    start = torch.randint(num_items, (num_users, places), generator=generator)
    walk = (start[:, :, None] + torch.arange(4)).flatten(1) % num_items
    users = torch.arange(num_users)
    train = torch.stack([users.repeat_interleave(walk.size(1)), walk.flatten()])
    held_out = [torch.stack([users, (start[:, -1] + n) % num_items]) for n in (4, 5)]
    recall = {}
    for known in (False, True):
        data = ordered_data(num_users, num_items, train, *held_out, known)
        model = LD4MRec.from_data(data, hidden_channels=32, num_heads=2)
        recall[known] = fit(model, data, epochs=30, progress=False).val["recall@20"]
    assert model.recency.exponent > 0
    assert recall[True] > 1.2 * recall[False]


def ordered_data(num_users, num_items, train, val, test, known):
    """Data whose training pairs are in the order of time; repeats and held-out pairs are left out
    of training."""
    key = train[0] * num_items + train[1]
    _, place = last_places(key)
    held = torch.cat([val, test], dim=1)
    kept = place[~torch.isin(key[place], held[0] * num_items + held[1])].sort().values
    data = build_data(num_users, num_items, train[:, kept], val, test)
    if known:
        data[INTERACTS].time = kept
    return data


@pytest.mark.parametrize("exponent", [0.5, None])
def test_ease_weighs_rows_alike(exponent, tmp_path):
    data = timed_data(**SIZES, most=100)
    model = EASE.from_data(data, "recent", **({} if exponent is None else {"recency": exponent}))
    fit(model, data, progress=False)
    chosen = model.recency.exponent.item()
    assert chosen == exponent or (exponent is None and chosen in EXPONENTS)
    rows = model.graph.rows(torch.arange(model.num_users))
    dense = torch.zeros(rows.num, model.num_items)
    weight = recency_weights(rows, chosen)
    dense[rows.row, rows.item] = 1.0 if weight is None else weight
    torch.testing.assert_close(everyone(model), dense @ model.weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(everyone(model.eval()), model(torch.arange(model.num_users)))
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(everyone(EASE.from_pretrained(tmp_path)), everyone(model))


def test_ease_needs_times_for_it():
    with pytest.raises(ConfigError, match="the data has no times"):
        EASE.from_data(random_data(**SIZES), "recent")
