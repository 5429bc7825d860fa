"""Properties for any data: invariance to the order of users and items, and validation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from graphdiff import FREEDOM, LD4MRec, LightGCN
from graphdiff.errors import DataError
from graphdiff.schema import INTERACTS, build_data, fingerprint, prepare, validate
from tests.conftest import random_data

seeds = st.integers(0, 2**32 - 1)


def permuted(data: HeteroData, users: torch.Tensor, items: torch.Tensor) -> HeteroData:
    """Permute the data: user ``users[n]`` becomes user n, likewise for items."""
    new_user, new_item = users.argsort(), items.argsort()

    def pairs(attribute: str) -> torch.Tensor:
        user, item = data[INTERACTS][attribute]
        return torch.stack([new_user[user], new_item[item]])

    return build_data(
        data["user"].num_nodes,
        data["item"].num_nodes,
        pairs("edge_index"),
        pairs("val_edge_label_index"),
        pairs("test_edge_label_index"),
        {"image": data["item"].x_image[items]},
    )


def permute_parameters(one, other, users, items):
    """Copy the parameters of ``one`` to ``other``, with rows of users and items permuted.

    A table is one of items, of users, or of users above items, by its number of rows.
    """
    rows = {
        one.num_items: items,
        one.num_users: users,
        one.num_users + one.num_items: torch.cat([users, one.num_users + items]),
    }
    parameters = dict(one.named_parameters())
    with torch.no_grad():
        for name, p in other.named_parameters():
            source = parameters[name]
            p.copy_(
                source[rows[source.size(0)]] if source.dim() and source.size(0) in rows else source
            )


@pytest.mark.parametrize("model_class", [LD4MRec, LightGCN, FREEDOM])
@settings(max_examples=5, deadline=None)
@given(seed=seeds)
def test_the_order_of_users_and_items_does_not_matter(model_class, seed):
    # Sizes that no other dimension has, so that tables are identified by their rows.
    data = random_data(23, 37, {"image": 6}, seed=seed % 1000)
    generator = torch.Generator().manual_seed(seed)
    users = torch.randperm(23, generator=generator)
    items = torch.randperm(37, generator=generator)
    torch.manual_seed(seed)
    one = model_class.from_data(data, hidden_channels=8).double().eval()
    other = model_class.from_data(permuted(data, users, items), hidden_channels=8).double().eval()
    permute_parameters(one, other, users, items)
    with torch.no_grad():
        expected = one(torch.arange(23))[users][:, items]
        torch.testing.assert_close(other(torch.arange(23)), expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(
            other.tables().item, one.tables().item[items], rtol=1e-6, atol=1e-6
        )
    found, _ = other.recommend(torch.arange(23), k=5)
    wanted, scores = one.recommend(users, k=5)
    # Nearly equal scores may swap places.
    clear = (scores.diff(dim=1).abs() > 1e-5).all(dim=1)
    assert torch.equal(items[found][clear], wanted[clear])


@settings(max_examples=30, deadline=None)
@given(seed=seeds, split=st.sampled_from(["val", "test"]))
def test_a_held_out_pair_in_training_is_rejected_everywhere(seed, split):
    data = random_data(seed=seed % 1000)
    store = data[INTERACTS]
    held_out = store[f"{split}_edge_label_index"]
    n = seed % held_out.size(1)
    store.edge_index = torch.cat([store.edge_index, held_out[:, n : n + 1]], dim=1)
    for check in (validate, prepare, LightGCN.from_data, LD4MRec.from_data):
        with pytest.raises(DataError, match="also found among the training pairs"):
            check(data)


tensors = st.one_of(
    st.sampled_from(
        [
            *(torch.empty(0), torch.tensor(1.0), torch.zeros(2, 0, dtype=torch.long)),
            *(torch.ones(4, 2), torch.ones(4, 2).double(), torch.ones(4, 0), torch.ones(4, 2, 1)),
            *(torch.tensor([[0], [0]]), torch.tensor([[3], [9]]), torch.tensor([[-1], [0]])),
            *(torch.full((4, 2), torch.nan), torch.full((4, 2), torch.inf), torch.ones(4).bool()),
            *(torch.ones(4, 2).to_sparse(), torch.ones(4, 2, dtype=torch.complex64)),
            *(torch.full((4, 2), 1e30), torch.arange(4), torch.zeros(4, dtype=torch.uint8)),
        ]
    ),
    st.integers(-3, 2**40),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.lists(st.one_of(st.integers(0, 5), st.text(max_size=2)), max_size=4),
)
places = st.sampled_from(
    [
        *(("user", name) for name in ("num_nodes", "raw_id", "x")),
        *(("item", name) for name in ("num_nodes", "raw_id", "x_image", "has_image", "x_", "x_ä")),
        *((INTERACTS, f"{name}edge_{kind}index") for name, kind in (("", ""), ("val_", "label_"))),
        *((INTERACTS, name) for name in ("test_edge_label_index", "edge_weight")),
        *((("item", "similar_image", "item"), name) for name in ("edge_index", "edge_weight")),
    ]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(places, tensors), min_size=1, max_size=4))
def test_an_unusual_graph_is_rejected_or_valid(changes):
    data = build_data(
        3, 4, [[0, 0, 1], [0, 1, 2]], [[1], [0]], [[2], [1]], {"image": torch.ones(4, 2)}
    )
    for (store, name), value in changes:
        data[store][name] = value
    try:
        sound = prepare(data)
    except DataError:
        return
    validate(sound)
    assert len(fingerprint(sound)) == 16
    users, items = sound[INTERACTS].edge_index
    assert users.min() >= 0
    assert users.max() < sound["user"].num_nodes
    assert items.min() >= 0
    assert items.max() < sound["item"].num_nodes
