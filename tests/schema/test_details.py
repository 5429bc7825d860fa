import copy

import pytest
import torch

from graphdiff.errors import DataError
from graphdiff.schema import ItemDetails, build_data, details_in, fingerprint, validate


def data(**details):
    return build_data(1, 2, [[0], [1]], details=details)


def test_details_are_kept_in_the_graph():
    made = data(title=["Blue mug", None], category=["mugs", "cups"])
    assert made["item"].title == ["Blue mug", ""]
    found = ItemDetails.from_data(made)
    assert found.of(0) == {"title": "Blue mug", "category": "mugs"}
    assert found.of(1) == {"category": "cups"}
    assert found.title(1) == ""
    assert fingerprint(made) == fingerprint(data())


def test_columns_without_any_text_are_absent():
    found = ItemDetails(2, {"title": ["", None]})
    assert not found
    assert found.columns == {}
    assert found == ItemDetails(2)
    assert found != ItemDetails(3)


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ({"title": ["one"]}, "there are 1 titles but 2 items"),
        ({"title": ["one", 2]}, r"a title of an item is of type int \(2\); give text"),
        ({"title": "ab"}, "the titles of items are of type str; give a list"),
        ({"title": ["one", "\ud800"]}, "not valid Unicode"),
        ({"name": ["one", "two"]}, "items have no name; give title, category, image"),
    ],
)
def test_details_that_do_not_fit_are_refused(details, message):
    with pytest.raises(DataError, match=message):
        data(**details)


def test_a_graph_built_by_hand_is_checked():
    made = data()
    made["item"].title = ["one"]
    with pytest.raises(DataError, match="there are 1 titles but 2 items"):
        validate(made)


def test_a_tensor_of_the_same_name_is_another_attribute():
    made = data()
    made["item"].category = torch.tensor([3, 4])
    validate(made)
    assert details_in(made) == []
    assert not ItemDetails.from_data(made)


def test_new_items_have_empty_texts():
    grown = ItemDetails(1, {"title": ["one"]}).grown(1, {"category": ["new"]})
    assert grown.columns == {"title": ["one", ""], "category": ["", "new"]}
    assert grown.num_items == 2
    assert ItemDetails(1, {"title": ["one"]}).grown(2).columns == {"title": ["one", "", ""]}


def test_of_some_items_the_texts_stay_with_their_items():
    found = ItemDetails(3, {"title": ["one", "two", "three"], "category": ["", "new", ""]})
    assert found.kept([2, 0]).columns == {"title": ["three", "one"]}
    assert found.kept([1]).of(0) == {"title": "two", "category": "new"}
    assert found.kept([2, 0]).num_items == 2


def test_they_can_be_copied_and_shown():
    found = ItemDetails(1, {"title": ["one"]})
    assert copy.deepcopy(found) == found
    assert repr(found) == "ItemDetails(1, title)"
