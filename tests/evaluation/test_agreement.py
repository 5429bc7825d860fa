"""A model is measured on the data that it was trained on, and not on what it has learned."""

import numpy as np
import pandas as pd
import pytest
import torch

from graphdiff import LD4MRec, evaluate, fit
from graphdiff.datasets import from_frame
from graphdiff.errors import DataError
from graphdiff.evaluation.ranking import evaluate_users
from graphdiff.schema import INTERACTS
from tests.conftest import make_model, random_data

SETTINGS = {"batch_size": 32, "objective.num_negatives": 16}


def log(number=str):
    rng, num = np.random.default_rng(0), 500
    frame = pd.DataFrame(
        {
            "user": [number(x) for x in rng.integers(40, size=num)],
            "item": [number(x) for x in (30 * rng.random(num) ** 1.7).astype(int)],
            "timestamp": rng.permutation(num),
        }
    )
    return frame.drop_duplicates(["user", "item"])


def problem(number=str):
    """A log, its data, and a model of it."""
    frame = log(number)
    data = from_frame(frame, split="leave_one_out", by="time")
    return frame, data, make_model(LD4MRec, data, **SETTINGS)


def with_another_item(model):
    model.forget(item_id=model.catalogue.item_id(0), passes=1)
    model.update({"user": [model.catalogue.user_id(1)], "item": ["999"]}, passes=1)


def with_another_user(model):
    model.forget(user_id=model.catalogue.user_id(5), passes=1)
    model.update({"user": ["999"], "item": [model.catalogue.item_id(1)]}, passes=1)


@pytest.mark.parametrize("number", [str, int], ids=["text", "integers"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_another_item, r"\d+ of the data's \d+ items are not at their places in the model: "),
        (with_another_user, r"\d+ of the data's \d+ users are not at their places in the model: "),
    ],
    ids=["item", "user"],
)
def test_a_model_whose_places_have_moved_is_refused(change, message, number):
    _, data, model = problem(number)
    sizes = model.num_users, model.num_items
    change(model)
    assert (model.num_users, model.num_items) == sizes
    for measure in (evaluate, evaluate_users):
        with pytest.raises(DataError, match=f"{message}.*on the data that it was trained on, befo"):
            measure(model, data, "test")
    with pytest.raises(DataError, match=rf"{message}.*make the model with from_data\(data\)"):
        fit(model, data, epochs=1, progress=False)


def test_a_model_with_fewer_users_is_refused():
    _, data, model = problem()
    num = model.num_users
    model.forget(user_id=model.catalogue.user_id(num - 1), passes=1)
    with pytest.raises(DataError, match=f"knows {num - 1} users but the data has {num}; evaluate"):
        evaluate(model, data)


def test_a_model_that_has_learned_held_out_pairs_is_refused():
    frame, data, model = problem()
    evaluate(model, data)
    num = data[INTERACTS].test_edge_label_index.size(1)
    user, item = data[INTERACTS].test_edge_label_index[:, 0].tolist()
    one = {"user": [model.catalogue.user_id(user)], "item": [model.catalogue.item_id(item)]}
    model.update(one, passes=1)
    evaluate(model, data, "val")
    with pytest.raises(DataError, match=f"1 of the data's {num} test pairs are among the training"):
        evaluate(model, data)
    model.update(frame, passes=1)
    with pytest.raises(DataError, match=f"{num} of the data's {num} test pairs .* it was trained"):
        evaluate(model, data)
    num = data[INTERACTS].val_edge_label_index.size(1)
    with pytest.raises(DataError, match=rf"{num} of the data's {num} validation pairs .* from_dat"):
        fit(model, data, epochs=1, progress=False)


def test_a_model_with_further_users_items_and_pairs_is_measured():
    _, data, model = problem()
    user, item = model.catalogue.user_id(0), model.catalogue.item_id(0)
    model.update({"user": ["x", user], "item": [item, "y"]}, passes=1)
    assert 0 <= evaluate(model, data)["recall@20"] <= 1


def test_ids_are_compared_by_their_text(tmp_path):
    _, data, model = problem(int)
    expected = evaluate(model, data)
    model.catalogue.item_ids = [str(one) for one in model.catalogue.item_ids]
    assert evaluate(model, data) == expected
    model.save_pretrained(tmp_path)
    assert evaluate(LD4MRec.from_pretrained(tmp_path), data) == expected


def test_data_may_hold_out_what_it_trains_on():
    data = random_data()
    model = make_model(LD4MRec, data, **SETTINGS)
    pairs = data[INTERACTS]
    pairs.edge_index = pairs.edge_index.flip(1)
    for split, name in (("val", "val_edge_label_index"), ("test", "test_edge_label_index")):
        pairs[name] = torch.cat([pairs[name], pairs.edge_index[:, :3]], dim=1)
        assert 0 < evaluate(model, data, split, ks=(5,))["recall@5"] < 1


def test_what_only_recommends_is_taken_as_it_is():
    _, data, model = problem()
    with_another_item(model)

    class Wrapper:
        def recommend(self, user_index, **options):
            return model.recommend(user_index, **options)

    assert 0 <= evaluate(Wrapper(), data)["recall@20"] <= 1
