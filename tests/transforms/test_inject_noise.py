"""Training interactions are spoiled, and nothing else."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdiff.datasets import SyntheticMultimedia
from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import INTERACTS, fingerprint, validate
from graphdiff.transforms import InjectNoise
from tests.conftest import random_data

HELD_OUT = ("val_edge_label_index", "test_edge_label_index")


def pairs(data, attribute="edge_index"):
    return set(map(tuple, data[INTERACTS][attribute].t().tolist()))


def noise(data):
    store = data[INTERACTS]
    return set(map(tuple, store.edge_index[:, store.is_noise].t().tolist()))


@pytest.mark.parametrize("mode", ["add", "drop"])
@pytest.mark.parametrize("pair", [(0, 30), (0, -1), (20, 0), (-1, 5)])
@pytest.mark.parametrize("attribute", ["edge_index", *HELD_OUT])
def test_kind_a_a_pair_out_of_range_is_no_pair_of_another_user(mode, pair, attribute):
    data = random_data(20, 30)
    store = data[INTERACTS]
    store[attribute] = torch.cat([store[attribute], torch.tensor(pair).view(2, 1)], dim=1)
    if mode == "drop" and attribute != "edge_index":
        assert InjectNoise(0.5, mode)(data).num_edges  # does not read held-out pairs
        return
    with pytest.raises(DataError, match=r"pairs have (user|item) indices from .*; expected 0 to"):
        InjectNoise(0.5, mode)(data)


@settings(deadline=None, max_examples=25)
@given(share=st.floats(0, 0.8), seed=st.integers(0, 99), graph=st.integers(0, 9))
def test_fake_pairs_are_new_and_held_out_pairs_stay(share, seed, graph):
    data = random_data(20, 30, seed=graph)
    spoiled = InjectNoise(share, seed=seed)(data)
    validate(spoiled)
    true, fake = pairs(data), noise(spoiled)
    assert len(fake) == round(share * len(true))
    assert pairs(spoiled) == true | fake
    assert not fake & true
    for attribute in HELD_OUT:
        assert torch.equal(spoiled[INTERACTS][attribute], data[INTERACTS][attribute])
        assert not fake & pairs(data, attribute)


@settings(deadline=None, max_examples=25)
@given(share=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_a_share_is_dropped(share, seed):
    data = random_data(20, 30)
    spoiled = InjectNoise(share, "drop", seed)(data)
    validate(spoiled)
    before, after = pairs(data), pairs(spoiled)
    assert after <= before
    assert len(before - after) == round(share * len(before))
    for attribute in HELD_OUT:
        assert torch.equal(spoiled[INTERACTS][attribute], data[INTERACTS][attribute])


@pytest.mark.parametrize("mode", ["add", "drop"])
def test_more_is_what_less_does_and_more_whatever_the_order_of_edges(mode):
    data, mixed = random_data(20, 30), random_data(20, 30)
    edges = mixed[INTERACTS].edge_index
    mixed[INTERACTS].edge_index = edges[:, torch.randperm(edges.size(1))]
    changed = [pairs(InjectNoise(s, mode, 3)(data)) ^ pairs(data) for s in (0.2, 0.5)]
    assert changed[0] < changed[1]
    assert pairs(InjectNoise(0.5, mode, 3)(mixed)) ^ pairs(data) == changed[1]
    assert pairs(InjectNoise(0.5, mode, 4)(data)) ^ pairs(data) != changed[1]


def test_active_users_get_more_fake_pairs():
    data = random_data(2, 2000, density=0)
    rest = torch.tensor([[0] * 99, list(range(99))])
    held_out = pairs(data, HELD_OUT[0]) | pairs(data, HELD_OUT[1]) | pairs(data)
    new = [p for p in rest.t().tolist() if tuple(p) not in held_out]
    data[INTERACTS].edge_index = torch.cat([data[INTERACTS].edge_index, torch.tensor(new).t()], 1)
    user = torch.tensor([u for u, _ in noise(InjectNoise(3.0)(data))])
    # User 1 has 1 of 100 interactions: 3 fake pairs of 300 expected.
    assert 0 < int((user == 1).sum()) < 15


def test_labels_that_are_there_are_kept():
    data = SyntheticMultimedia(num_users=60, num_items=40, noise=0.3)[0]
    old = noise(data)
    assert old
    added = InjectNoise(0.2)(data)
    assert old < noise(added)
    dropped = InjectNoise(1.0, "drop")(data)
    assert pairs(dropped) == noise(dropped) == old


def test_attributes_of_edges_follow_them():
    data = random_data()
    store = data[INTERACTS]
    store.time = torch.arange(store.edge_index.size(1))
    store.weight = store.time.float()
    before = fingerprint(data)
    assert "weight" not in InjectNoise(0.3)(data)[INTERACTS]
    dropped = InjectNoise(0.5, "drop")(data)[INTERACTS]
    assert torch.equal(store.edge_index[:, dropped.time], dropped.edge_index)
    assert "is_noise" not in dropped
    assert fingerprint(data) == before
    assert "time" in store


@pytest.mark.parametrize("dtype", [torch.long, torch.double])
def test_fake_pairs_get_times_of_their_users(dtype):
    data, untimed = random_data(20, 30), random_data(20, 30)
    store = data[INTERACTS]
    store.time = torch.arange(store.edge_index.size(1)).to(dtype)
    spoiled, plain = InjectNoise(0.8, seed=3)(data)[INTERACTS], InjectNoise(0.8, seed=3)(untimed)
    validate(data)
    assert torch.equal(spoiled.edge_index, plain[INTERACTS].edge_index)
    assert torch.equal(spoiled.is_noise, plain[INTERACTS].is_noise)
    assert "time" not in plain[INTERACTS]
    assert spoiled.time.dtype == dtype
    # The time of a pair is its position, so that it says which interaction it comes from.
    source = store.edge_index[:, spoiled.time.long()]
    real = ~spoiled.is_noise
    assert torch.equal(source[:, real], spoiled.edge_index[:, real])
    assert torch.equal(source[0], spoiled.edge_index[0])
    assert source[1, spoiled.is_noise].unique().numel() > 5


def test_times_do_not_depend_on_the_order_of_edges():
    data, mixed = random_data(20, 30), random_data(20, 30)
    store, other = data[INTERACTS], mixed[INTERACTS]
    store.time = torch.arange(store.edge_index.size(1))
    order = torch.randperm(store.time.numel())
    other.edge_index, other.time = store.edge_index[:, order], store.time[order]
    assert fingerprint(InjectNoise(0.5)(mixed)) == fingerprint(InjectNoise(0.5)(data))
    assert torch.equal(
        InjectNoise(0.5)(mixed)[INTERACTS].time, InjectNoise(0.5)(data)[INTERACTS].time
    )


def test_what_cannot_be_done_is_refused():
    with pytest.raises(ConfigError, match="from 0 to 1"):
        InjectNoise(1.2, "drop")
    with pytest.raises(ConfigError, match="'add' or 'drop'"):
        InjectNoise(0.2, "swap")
    with pytest.raises(DataError, match="smaller share"):
        InjectNoise(1.0, "drop")(random_data())
    with pytest.raises(DataError, match="fake pairs were found"):
        InjectNoise(50.0)(random_data())
    assert str(InjectNoise(0.2)) == "InjectNoise(share=0.2, mode='add', seed=0)"
