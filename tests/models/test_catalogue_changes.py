"""Adding and removing items after training."""

import re

import pandas as pd
import pytest
import scipy.sparse
import torch
import torch.nn.functional as F

from graphdiff import LD4MRec, LightGCN, evaluate
from graphdiff.errors import ConfigError, DataError
from tests.conftest import random_data

NEW = {
    "image": torch.tensor([[1.0, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1], [torch.nan] * 6]),
    "text": torch.tensor([[1.0, 0, 2, 0, 3], [torch.nan] * 5, [torch.nan] * 5]),
}


def make(**settings):
    torch.manual_seed(0)
    data = random_data(features={"image": 6, "text": 5})
    model = LD4MRec.from_data(data, hidden_channels=8, num_neighbors=3, **settings).eval()
    model.start_epoch(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
    return model


def nearest(model, name, x):
    old = model.graph.features(name)[0][:9]
    return F.cosine_similarity(x[None], old, dim=1).topk(3).indices


def test_a_new_item_gets_the_mean_of_its_nearest_items():
    model = make()
    table = model.items(model.graph).detach().clone()
    index = model.add_items(NEW)
    assert index.tolist() == [9, 10, 11]
    encoder = model.tables().encoder
    own = model.items.content()[9:] / (
        1 + model.config.propagation.num_layers
    )  # no other item sends it messages
    assert own[:2].any(dim=1).all()
    image = table[nearest(model, "image", NEW["image"][0])].mean(dim=0)
    text = table[nearest(model, "text", NEW["text"][0])].mean(dim=0)
    weight, share = model.config.propagation.content_weight, model.shares()
    both = share[0] * image + share[1] * text
    torch.testing.assert_close(encoder[9], own[0] + weight * both)
    alone = table[nearest(model, "image", NEW["image"][1])].mean(dim=0)
    torch.testing.assert_close(encoder[10], own[1] + weight * alone)
    # The last item has no features.
    assert encoder[11].abs().max() == 0
    items, scores = model.recommend([0, 5], k=12, exclude_seen=False)
    assert scores.isfinite().all()
    assert items.sort(dim=1).values.tolist() == [list(range(12))] * 2


def test_a_new_item_with_the_features_of_another_has_its_content_embedding():
    model = make()
    model.add_items({name: model.graph.features(name)[0][:2] for name in ("image", "text")})
    content = model.items.content()
    assert content[:2].any(dim=1).all()
    torch.testing.assert_close(content[9:], content[:2])


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_scores_of_existing_items_do_not_change(linear, kept):
    model = make(linear_path={"enabled": linear})
    if linear:
        model.linear.weight.fill_(0.5)
        if kept:
            model.linear.keep(model.graph, torch.tensor(0.5))
    users = torch.arange(12)
    before = model(users)
    model.add_items(NEW)
    torch.testing.assert_close(model(users)[:, :9], before)


def test_new_items_can_be_in_a_history_and_are_saved(tmp_path):
    model = make()
    model.catalogue.item_ids = [f"film-{n}" for n in range(9)]
    model.add_items(NEW, item_id=["new-a", "new-b", "new-c"])
    model.remove_items(item_id=["film-2"])
    expected = model.recommend(history=["new-a", "film-1"], k=10)
    assert not (expected[0] == 2).any()
    model.save_pretrained(tmp_path)
    again = LD4MRec.from_pretrained(tmp_path)
    found = again.recommend(history=["new-a", "film-1"], k=10)
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1])
    assert again.catalogue.item_id(9) == "new-a"


def test_new_items_have_titles_categories_and_pictures(tmp_path):
    model = make()
    model.catalogue.item_ids = [f"film-{n}" for n in range(9)]
    # The first titles of this model, and a frame instead of a dictionary.
    model.add_items(NEW, item_id=["a", "b", "c"], details={"title": ["Alien", None, "Cube"]})
    more = pd.DataFrame({"category": ["crime"], "image": ["pictures/heat.jpg"], "title": ["Heat"]})
    model.add_items({"image": torch.ones(1, 6)}, item_id=["d"], details=more)
    model.add_items({"image": torch.ones(1, 6)}, item_id=["e"])
    model.save_pretrained(tmp_path)
    again = LD4MRec.from_pretrained(tmp_path)
    for one in (model, again):
        details = one.catalogue.details
        assert [details.title(n) for n in range(9, 14)] == ["Alien", "", "Cube", "Heat", ""]
        assert details.of(12) == {
            "title": "Heat", "category": "crime", "image": "pictures/heat.jpg"
        }  # fmt: skip
        assert details.of(0) == {}
        frame = one.recommend_frame(histories=[["film-1"]], k=2, candidates=["a", "d"])
        assert dict(zip(frame["item"], frame["title"], strict=True)) == {"a": "Alien", "d": "Heat"}


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ({"title": ["one"]}, "there are 1 titles but 2 items"),
        ({"title": ["one", 2]}, "give text, or None where an item has none"),
        ({"title": "ab"}, "the titles of items are of type str"),
        ({"name": ["one", "two"]}, "items have no name; give title, category, image"),
        ([["one", "two"]], "give a dictionary with texts of any of title, category, image"),
        ("title", "give a dictionary"),
    ],
)
def test_kind_d_invalid_details_of_new_items_are_refused_and_nothing_changes(details, message):
    model = make()
    with pytest.raises(DataError, match=message):
        model.add_items({"image": torch.ones(2, 6)}, details=details)
    assert model.num_items == model.catalogue.num_items == 9
    assert not model.catalogue.details


def test_a_grown_model_can_be_trained_further():
    model = make()
    model.add_items(NEW)
    model.train()
    model.loss(torch.arange(12), torch.Generator().manual_seed(0)).backward()
    assert model.items.weight.grad.shape == (12, 8)


def test_items_without_any_features_among_those_with(tmp_path):
    data = random_data(features={"image": 6, "text": 5})
    for name in ("image", "text"):
        data["item"][f"has_{name}"][[8, 2]] = False
        data["item"][f"x_{name}"][[8, 2]] = 0
    data["item"].has_text[:] = False
    data["item"].x_text[:] = 0
    model = LD4MRec.from_data(data, hidden_channels=8)
    assert model.recommend(torch.arange(12), k=9, exclude_seen=False)[1].isfinite().all()


def test_removed_items_are_never_recommended():
    model = make()
    model.remove_items([4, 5])
    items, _ = model.recommend([0, 1], k=9, exclude_seen=False)
    assert items.sort(dim=1).values.tolist() == [[-1, -1, 0, 1, 2, 3, 6, 7, 8]] * 2
    items, _ = model.recommend([0], k=2, exclude_seen=False, candidate_index=[4, 7])
    assert items.tolist() == [[7, -1]]


@pytest.mark.parametrize(
    ("features", "ids", "message"),
    [
        ({}, None, "no modality"),
        ({"smell": torch.zeros(1, 3)}, None, r"\['smell'\]; the model knows image, text"),
        ({"image": torch.zeros(2, 5)}, None, r"image are \[2, 5\]; expected \[2, 6\]"),
        ({"image": torch.zeros(1, 6)}, ["x"], "has no raw item ids"),
    ],
)
def test_features_that_do_not_fit_are_refused(features, ids, message):
    with pytest.raises(DataError, match=message):
        make().add_items(features, item_id=ids)


def test_ids_of_new_items_are_new():
    model = make()
    model.catalogue.item_ids = list(range(100, 109))
    one = {"image": torch.ones(1, 6)}
    with pytest.raises(DataError, match="give one for each"):
        model.add_items(one)
    with pytest.raises(DataError, match="'103' is known already"):
        model.add_items(one, item_id=["103"])
    model.add_items(one, item_id=[109])
    assert model.recommend(history=["109"], k=1)[0].shape == (1, 1)


def test_models_without_content_cannot_add_items():
    model = LightGCN.from_data(random_data(), hidden_channels=8)
    with pytest.raises(ConfigError, match="cannot add items"):
        model.add_items({"image": torch.zeros(1, 6)})
    with pytest.raises(ConfigError, match="cannot explain"):
        model.explain(0, user_index=0)


@pytest.mark.parametrize(("linear", "content_rank"), [(False, 4), (True, 4), (True, 0), (False, 0)])
@pytest.mark.parametrize("features", [{}, {"image": 6}, {"image": 6, "text": 5}])
def test_the_parts_of_a_score_sum_to_it(features, linear, content_rank):
    torch.manual_seed(0)
    settings = {
        "hidden_channels": 8,
        "num_neighbors": 3,
        "linear_path.enabled": linear,
        "content_rank": content_rank,
    }
    model = LD4MRec.from_data(random_data(features=features), **settings).eval()
    model.start_epoch(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn_like(p)
    if linear:
        model.linear.weight.fill_(0.5)
    scores = model(torch.tensor([3]))
    explanation = model.explain(7, user_index=3)
    assert explanation.score == pytest.approx(scores[0, 7].item(), abs=1e-5)
    assert sum(explanation.parts.values()) == pytest.approx(explanation.score, abs=1e-5)
    expected = {"behaviour", "collaborative", "remainder"}
    expected |= {"linear"} if linear else set()
    expected |= {f"features_{name}" for name in features} if content_rank else set()
    assert set(explanation.parts) == expected | {f"preference_{name}" for name in features}
    mine = model.graph.rows(torch.tensor([3])).item.tolist()
    assert sorted(one.item for one in explanation.history) == mine
    assert set(explanation.remainder) == {"cnet", "bias"}
    remainder = explanation.parts["remainder"]
    assert sum(explanation.remainder.values()) == pytest.approx(remainder, abs=1e-5)
    explained = pytest.approx(explanation.score - remainder, abs=1e-5)
    assert sum(one.value for one in explanation.history) == explained
    for one in explanation.history:
        assert sum(one.parts.values()) == pytest.approx(one.value, abs=1e-5)
    few = model.explain(7, user_index=3, num_items=1)
    assert few.history == explanation.history[:1]
    assert few.history[0].value + few.unnamed == explained
    assert model.explain(item_index=7, history_index=mine) == explanation
    with pytest.raises(ConfigError, match="give either item_index or item_id"):
        model.explain(user_index=3)
    with pytest.raises(ConfigError, match="one item and one user"):
        model.explain(item_index=7, history_index=[[1], [2]])


def test_parts_of_features_do_not_depend_on_learned_embeddings():
    model = make()
    before = model.explain(item_index=7, history_index=[1, 2]).parts
    with torch.no_grad():
        model.items.weight.zero_()
    after = model.explain(item_index=7, history_index=[1, 2]).parts
    assert before["behaviour"] != 0
    assert after["behaviour"] == 0
    assert after["features_image"] != 0


def test_an_empty_history_leaves_only_the_bias():
    model = make(num_blocks=0).eval()
    with torch.no_grad():
        model.bias[7] = 0.5
    explanation = model.explain(item_index=7, history_index=[[]])
    assert explanation.parts.pop("remainder") == explanation.score == 0.5
    assert explanation.remainder == {"cnet": 0.0, "bias": 0.5}
    assert set(explanation.parts.values()) == {0.0}
    assert explanation.history == []


@pytest.mark.parametrize(
    "hold",
    [
        torch.Tensor.tolist,
        torch.Tensor.numpy,
        lambda x: x.double().numpy(),
        lambda x: [tuple(row) for row in x.tolist()],
        lambda x: list(x),
        lambda x: pd.DataFrame(x.numpy(), index=[7, 3]),
        lambda x: scipy.sparse.csr_matrix(x.numpy()),
        lambda x: x.to_sparse(),
        lambda x: x.clone().requires_grad_(),
    ],
    ids=["lists", "array", "float64", "tuples", "tensors", "table", "scipy", "sparse", "gradient"],
)
def test_kind_d_features_of_new_items_in_every_form(hold):
    x = torch.tensor([[1.0, 2, 0, 4, 5, 6], [6, 5, 4, 3, 2, 1]])
    expected, model = make(), make()
    expected.add_items({"image": x})
    assert model.add_items({"image": hold(x)}).tolist() == [9, 10]
    for name in ("image", "text"):
        for one, other in zip(
            model.graph.features(name), expected.graph.features(name), strict=True
        ):
            assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"image": [[1, 2, 3, 4, 5, torch.nan]]}, "1 of 1 items (0) has NaN in part of the row"),
        ({"image": [[1, 2, 3, 4, 5, torch.inf]]}, "1 of 1 items (0) has an infinite value"),
        ({"image": [[1, 2, 3, 4, 5, 1e30]]}, "a value beyond"),
        ({"image": [1, 2, 3, 4, 5, 6]}, "x_image has shape [6]; give [6, F]"),
        ({"image": [[[1, 2, 3, 4, 5, 6]]]}, "x_image has shape [1, 1, 6]"),
        ({"image": 5}, "x_image has shape []"),
        ({"image": [[1, 2, 3], [1, 2]]}, "x_image"),
        ({"image": [["a"] * 6]}, "x_image"),
        ({"image": torch.ones(1, 6, dtype=torch.complex64)}, "give real numbers"),
        ({"image": None}, "x_image"),
        (
            {"image": torch.ones(2, 6), "text": torch.ones(1, 5)},
            "x_text has 1 rows but x_image has",
        ),
        ({5: torch.ones(1, 6)}, "['5']; the model knows image, text"),
        ([[1, 2, 3, 4, 5, 6]], "of type list; give a dictionary with the rows of each modality"),
        (None, "of type NoneType"),
    ],
)
def test_kind_d_invalid_features_are_refused_and_nothing_changes(features, message):
    model = make()
    before = model.recommend([0, 5], k=9)
    with pytest.raises(DataError, match=re.escape(message)):
        model.add_items(features)
    assert model.num_items == model.catalogue.num_items == 9
    for found, expected in zip(model.recommend([0, 5], k=9), before, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ("new", DataError, "1 ids for 2 new items"),
        (["new"], DataError, "1 ids for 2 new items"),
        (["new", "new"], DataError, "give a new id for each"),
        ([5, "5"], DataError, "give a new id for each"),
        (["new", "film-3"], DataError, "'film-3' is known already"),
        (["new", None], ConfigError, "item_id holds None"),
        (["new", 1.5], ConfigError, r"item_id holds 1\.5"),
        ({"new", "other"}, ConfigError, "item_id is a set"),
        (None, DataError, "give one for each new item"),
    ],
)
def test_kind_d_invalid_ids_of_new_items_are_refused(ids, error, message):
    model = make()
    model.catalogue.item_ids = [f"film-{n}" for n in range(9)]
    with pytest.raises(error, match=message):
        model.add_items({"image": torch.ones(2, 6)}, item_id=ids)
    assert model.num_items == len(model.catalogue.item_ids) == 9


def test_kind_d_a_grown_model_is_evaluated_on_the_items_of_the_data():
    data = random_data(features={"image": 6, "text": 5})
    model, grown = make(), make()
    expected = evaluate(model, data, ks=(3, 9))
    grown.add_items({name: 5 * values for name, values in NEW.items()})
    assert evaluate(grown, data, ks=(3, 9)) == pytest.approx(expected, abs=1e-6)
    model = LD4MRec.from_data(random_data(num_items=8), hidden_channels=8, num_heads=2)
    with pytest.raises(
        DataError, match="the model knows 8 items but the data has 9; evaluate a mod"
    ):
        evaluate(model, data, ks=(3,))
