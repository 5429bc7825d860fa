"""The split withholds items from training, and only those are held out."""

import pytest
import torch

from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import INTERACTS, build_data, similar, validate
from graphdiff.transforms import ColdItems, ModalityGraph
from tests.conftest import random_data


def pairs(data, attribute):
    return set(zip(*data[INTERACTS][attribute].tolist(), strict=True))


ALL = ("edge_index", "val_edge_label_index", "test_edge_label_index")


@pytest.fixture
def data():
    return random_data(60, 40, features={"image": 5}, seed=2)


def test_withheld_items_are_in_validation_and_test_alone(data):
    cold = ColdItems(0.2, seed=3)(data)
    validate(cold)
    withheld = set(cold["item"].is_withheld.nonzero().flatten().tolist())
    seen = data[INTERACTS].edge_index[1].unique()
    assert len(withheld) == round(0.2 * seen.numel())
    assert withheld <= set(seen.tolist())
    train, val, test = (pairs(cold, attribute) for attribute in ALL)
    before = [pairs(data, attribute) for attribute in ALL]
    assert train == {(u, i) for u, i in before[0] if i not in withheld}
    # Every interaction with a withheld item is kept once, wherever it was.
    assert not val & test
    assert val | test == {(u, i) for u, i in set.union(*before) if i in withheld}
    assert len(test) - len(val) in (0, 1)


def test_the_argument_and_the_content_stay(data):
    data = ModalityGraph(3)(data)
    before = {attribute: data[INTERACTS][attribute].clone() for attribute in ALL}
    cold = ColdItems(0.3)(data)
    for attribute, value in before.items():
        assert torch.equal(data[INTERACTS][attribute], value)
    assert "is_withheld" not in data["item"]
    assert torch.equal(cold["item"].x_image, data["item"].x_image)
    assert torch.equal(cold[similar("image")].edge_index, data[similar("image")].edge_index)


def test_what_belongs_to_an_edge_goes_with_it(data):
    data[INTERACTS].time = data[INTERACTS].edge_index.sum(dim=0)
    cold = ColdItems(0.3)(data)
    assert torch.equal(cold[INTERACTS].time, cold[INTERACTS].edge_index.sum(dim=0))


def test_a_seed_draws_the_same_split(data):
    once, again, other = (ColdItems(0.2, seed=s)(data)[INTERACTS] for s in (1, 1, 2))
    assert torch.equal(once.test_edge_label_index, again.test_edge_label_index)
    assert not torch.equal(once.edge_index, other.edge_index) or not torch.equal(
        once.test_edge_label_index, other.test_edge_label_index
    )


def test_at_least_one_item_is_withheld(data):
    assert int(ColdItems(0.001)(data)["item"].is_withheld.sum()) == 1
    once_each = build_data(3, 3, [[0, 1, 2], [0, 1, 2]])
    with pytest.raises(DataError, match="and 1 pairs to hold out"):
        ColdItems(0.001)(once_each)


def test_settings_show_and_are_checked(data):
    assert str(ColdItems(0.25, seed=4)) == "ColdItems(share=0.25, seed=4)"
    for share in (0.0, 1.0, -1):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            ColdItems(share)
    with pytest.raises(DataError, match="leaves 0 training interactions"):
        ColdItems(0.999)(data)
