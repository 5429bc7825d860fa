"""Feature rows go missing as if they had never been there."""

import pytest
import torch

from graphdiff import FREEDOM
from graphdiff.errors import ConfigError
from graphdiff.schema import fingerprint, similar, validate
from graphdiff.transforms import DropFeatures, ModalityGraph
from tests.conftest import random_data


@pytest.fixture
def data():
    data = random_data(30, 40, features={"image": 6, "text": 5})
    data["item"].has_image[3] = False
    data["item"].x_image[3] = 0
    return data


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_the_share_of_the_rows_that_are_there_is_dropped(data, share):
    dropped = DropFeatures(share, seed=1)(data)
    validate(dropped)
    for name, there in (("image", 39), ("text", 40)):
        has, x = dropped["item"][f"has_{name}"], dropped["item"][f"x_{name}"]
        assert int(has.sum()) == there - round(share * there)
        assert not (has & ~data["item"][f"has_{name}"]).any()
        assert (x[~has] == 0).all()
        assert torch.equal(x[has], data["item"][f"x_{name}"][has])


def test_modalities_lose_rows_independently(data):
    item = DropFeatures(0.5)(data)["item"]
    assert (item.has_image & ~item.has_text).any()
    assert (item.has_text & ~item.has_image).any()


def test_more_is_what_less_takes_and_more(data):
    less, more = (DropFeatures(share, seed=2)(data)["item"].has_text for share in (0.3, 0.7))
    assert not (more & ~less).any()
    other = DropFeatures(0.3, seed=3)(data)["item"].has_text
    assert not torch.equal(less, other)


def test_the_argument_stays_and_old_graphs_are_not_used(data):
    data = ModalityGraph(3)(data)
    before = fingerprint(data)
    dropped = DropFeatures(0.5)(data)
    assert fingerprint(data) == before
    assert similar("image") in data.edge_types
    assert similar("image") not in dropped.edge_types
    graph = FREEDOM.from_data(dropped).graph
    linked = graph.similar("image")[0].unique()
    assert graph.features("image")[1][linked].all()


def test_settings_show_and_are_checked():
    assert str(DropFeatures(0.3)) == "DropFeatures(share=0.3, seed=0)"
    with pytest.raises(ConfigError, match="from 0 to 1"):
        DropFeatures(1.5)
