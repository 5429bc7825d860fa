import pytest
import torch

from graphdiff.errors import ConfigError
from graphdiff.schema import similar, validate
from graphdiff.transforms import ModalityGraph, ReplaceFeatures
from tests.conftest import random_data


@pytest.fixture
def data():
    data = random_data(20, 200, {"image": 3, "text": 2})
    data["item"].has_image = torch.arange(200) % 4 > 0
    data["item"].x_image[::4] = 0
    data["item"].x_text *= 5
    data["item"].x_text += 3
    return ModalityGraph(k=2)(data)


def test_shuffled_features_are_those_of_other_items(data):
    found = ReplaceFeatures("shuffled")(data)
    validate(found)
    order = {}
    for name in ("image", "text"):
        has = data["item"][f"has_{name}"]
        assert torch.equal(found["item"][f"has_{name}"], has)
        assert not found["item"][f"x_{name}"][~has].any()
        old, new = data["item"][f"x_{name}"][has], found["item"][f"x_{name}"][has]
        match = (old[:, None] == new[None]).all(-1)
        assert (match.sum(0) == 1).all()
        assert match.diagonal().sum() < 10
        order[name] = match.int().argmax(0)
        assert similar(name) not in found.edge_types
        assert similar(name) in data.edge_types
    assert not torch.equal(order["image"][:20], order["text"][:20])


def test_noise_has_the_moments_of_the_features(data):
    found = ReplaceFeatures("noise")(data)
    validate(found)
    for name in ("image", "text"):
        has = data["item"][f"has_{name}"]
        old, new = data["item"][f"x_{name}"][has], found["item"][f"x_{name}"][has]
        assert not (old == new).any()
        error = (old.std(0) / len(old) ** 0.5) * 4
        assert ((old.mean(0) - new.mean(0)).abs() < error).all()
        assert ((old.std(0) / new.std(0)).log().abs() < 0.3).all()
        assert not found["item"][f"x_{name}"][~has].any()


@pytest.mark.parametrize("by", ["shuffled", "noise"])
def test_the_seed_decides(data, by):
    one, same, other = (ReplaceFeatures(by, seed)(data)["item"].x_text for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_another_replacement_is_refused():
    with pytest.raises(ConfigError, match="by is 'zeros'; expected one of 'shuffled', 'noise'"):
        ReplaceFeatures("zeros")
