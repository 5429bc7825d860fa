"""``model.forget``: users and items leave no trace in graph, tables and optimizer."""

import pytest
import torch

from graphdiff.errors import ConfigError, DataError
from graphdiff.schema.details import ItemDetails
from tests.updates.samples import FEATURES, NEW, contents, interactions, trained


@pytest.mark.parametrize("linear", [False, True])
def test_forgotten_users_and_items_leave_the_graph_and_the_tables(linear):
    model = trained(linear_path={"enabled": linear})
    model.catalogue.details = ItemDetails(25, {"title": [f"title of i{n}" for n in range(25)]})
    state = model.update(NEW, FEATURES, passes=1).state
    before = interactions(model)
    weights = dict(zip(model.catalogue.item_ids, model.items.weight.detach().clone(), strict=True))
    result = model.forget(
        user_id=["u3", "new user"], item_id=["i4", "new item"], state=state, passes=1, lr=1e-12
    )
    gone = {"u3", "new user", "i4", "new item"}
    assert interactions(model) == {pair for pair in before if not gone & set(pair)}
    assert not gone & set(model.catalogue.user_ids + model.catalogue.item_ids)
    assert (result.users, result.items) == (-2, -2)
    assert result.interactions == len(interactions(model)) - len(before)
    assert result.steps > 0
    for name, value in result.state.items():
        if name.startswith(model.item_parameters) and value.dim():
            assert len(value) == model.num_items == 25
    # The rows of the other items are still theirs.
    for n, item_id in enumerate(model.catalogue.item_ids):
        torch.testing.assert_close(model.items.weight[n], weights[item_id], atol=1e-5, rtol=0)
        assert model.catalogue.details.title(n) in (f"title of {item_id}", "")
    items, scores = model.recommend(user_id=["u5"], k=25, exclude_seen=False)
    assert items.sort(dim=1).values.tolist() == [list(range(25))]
    assert scores.isfinite().all()
    with pytest.raises(DataError, match="no user 'u3'"):
        model.recommend(user_id=["u3"], k=1)


def test_forgetting_repairs_the_model_by_training():
    model, bare = trained(), trained()
    model.forget(item_id="i4")
    bare.forget(item_id="i4", lr=1e-12)
    assert not torch.allclose(model.items.weight, bare.items.weight, atol=1e-4)


def test_without_raw_ids_the_ids_of_others_stay():
    model = trained(ids=False)
    expected = {pair for pair in interactions(model) if pair[0] != 3 and pair[1] != 4}
    model.forget(user_id=3, item_id=4, passes=1)
    assert interactions(model) == expected
    assert model.catalogue.item_ids == [n for n in range(25) if n != 4]


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({}, ConfigError, "give user_id, item_id or both"),
        ({"user_id": "nobody"}, DataError, "no user 'nobody'"),
        ({"item_id": ["i1", "nothing"]}, DataError, "no item 'nothing'"),
        ({"user_id": [f"u{n}" for n in range(30)]}, DataError, "no interaction would be left"),
    ],
)
def test_what_cannot_be_forgotten_is_refused_and_nothing_changes(asked, error, message):
    model = trained()
    before = contents(model)
    with pytest.raises(error, match=message):
        model.forget(**asked)
    assert contents(model) == before
