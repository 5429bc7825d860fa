import pytest
import torch
from torch_geometric.data import HeteroData
from torch_geometric.transforms import RandomLinkSplit

from graphdiff.datasets import from_link_split, from_pyg
from graphdiff.errors import DataError
from graphdiff.schema import INTERACTS, validate

BUYS = ("customer", "buys", "product")


@pytest.fixture
def shop():
    data = HeteroData()
    data["customer"].num_nodes = 30
    data["product"].x = torch.randn(20, 4)
    data["product"].x[3] = float("nan")
    generator = torch.Generator().manual_seed(0)
    data[BUYS].edge_index = (torch.rand(30, 20, generator=generator) < 0.4).nonzero().t()
    return data


def keys(pairs):
    return set(map(tuple, pairs.t().tolist()))


def test_other_names_of_nodes_and_edges(shop):
    shop["product"].raw_id = [f"p{n}" for n in range(20)]
    made = from_pyg(shop, user="customer", item="product")
    validate(made)
    assert keys(made[INTERACTS].edge_index) == keys(shop[BUYS].edge_index)
    assert (made["user"].num_nodes, made["item"].num_nodes) == (30, 20)
    assert made["item"].has_features.tolist() == [n != 3 for n in range(20)]
    assert made["item"].raw_id[4] == "p4"


def test_edges_in_the_other_direction_and_repeated(shop):
    edges = shop[BUYS].edge_index
    del shop[BUYS]
    shop["product", "bought_by", "customer"].edge_index = torch.cat([edges, edges], 1).flip(0)
    made = from_pyg(shop, user="customer", item="product", features={"image": "x"})
    assert keys(made[INTERACTS].edge_index) == keys(edges)
    assert made["item"].x_image.shape == (20, 4)


def test_held_out_pairs_leave_training(shop):
    edges = shop[BUYS].edge_index
    made = from_pyg(shop, "customer", "product", val=edges[:, :5], test=edges[:, 5:12].numpy())
    assert keys(made[INTERACTS].val_edge_label_index) == keys(edges[:, :5])
    assert keys(made[INTERACTS].test_edge_label_index) == keys(edges[:, 5:12])
    assert keys(made[INTERACTS].edge_index) == keys(edges[:, 12:])


def test_a_graph_of_the_schema_stays_as_it_is(multimodal_data):
    multimodal_data["item"].title = [f"T{n}" for n in range(9)]
    made = from_pyg(multimodal_data)
    for name in ("edge_index", "val_edge_label_index", "test_edge_label_index"):
        assert keys(made[INTERACTS][name]) == keys(multimodal_data[INTERACTS][name])
    assert torch.equal(made["item"].has_image, multimodal_data["item"].has_image)
    assert made["item"].title == multimodal_data["item"].title


@pytest.mark.parametrize("disjoint", [0.0, 0.3])
@pytest.mark.parametrize("negatives", [0.0, 1.0])
def test_random_link_split(shop, disjoint, negatives):
    split = RandomLinkSplit(
        0.1, 0.2, edge_types=[BUYS], disjoint_train_ratio=disjoint, neg_sampling_ratio=negatives
    )
    train, val, test = split(shop)
    made = from_link_split(train, val, test, user="customer", item="product")
    parts = [
        keys(made[INTERACTS][name])
        for name in ("edge_index", "val_edge_label_index", "test_edge_label_index")
    ]
    assert set.union(*parts) == keys(shop[BUYS].edge_index)
    assert sum(map(len, parts)) == shop[BUYS].edge_index.size(1)
    assert len(parts[1]) == int(0.1 * shop[BUYS].edge_index.size(1))
    assert len(parts[2]) == int(0.2 * shop[BUYS].edge_index.size(1))


def times(data, edge=INTERACTS):
    """When each edge happened; the last one counts."""
    pairs = map(tuple, data[edge].edge_index.t().tolist())
    return dict(zip(pairs, data[edge].time.tolist(), strict=True))


@pytest.mark.parametrize("flipped", [False, True])
def test_times_of_edges_are_kept(shop, flipped):
    edges = shop[BUYS].edge_index
    num = edges.size(1)
    # In decreasing order, so that the last of two edges is the earliest.
    shop[BUYS].edge_index = torch.cat([edges, edges], dim=1)
    shop[BUYS].time = torch.arange(2 * num).flip(0) / 2
    expected = times(shop, BUYS)
    edge = BUYS
    if flipped:
        edge = ("product", "bought_by", "customer")
        shop[edge].edge_index, shop[edge].time = shop[BUYS].edge_index.flip(0), shop[BUYS].time
    made = from_pyg(shop, "customer", "product", edge, val=edges[:, :5])
    validate(made)
    assert times(made) == {pair: expected[pair] for pair in keys(edges[:, 5:])}
    shop[edge].time = torch.zeros(3)
    assert "time" not in from_pyg(shop, "customer", "product", edge)[INTERACTS]


@pytest.mark.parametrize("disjoint", [0.0, 0.3])
def test_times_survive_a_link_split_if_all_are_known(shop, disjoint):
    shop[BUYS].time = torch.arange(shop[BUYS].edge_index.size(1))
    split = RandomLinkSplit(0.1, 0.2, edge_types=[BUYS], disjoint_train_ratio=disjoint)
    made = from_link_split(*split(shop), user="customer", item="product")
    if disjoint:
        assert "time" not in made[INTERACTS]
    else:
        known = times(shop, BUYS)
        assert times(made) == {pair: known[pair] for pair in keys(made[INTERACTS].edge_index)}


def test_what_does_not_fit_is_refused(shop):
    with pytest.raises(DataError, match="has no nodes 'user'; it has customer, product"):
        from_pyg(shop)
    with pytest.raises(DataError, match=r"has no x_image; it has"):
        from_pyg(shop, "customer", "product", features={"image": "x_image"})
    with pytest.raises(DataError, match="features is of type list; give a mapping"):
        from_pyg(shop, "customer", "product", features=["x"])
    with pytest.raises(DataError, match="has no edge_label_index"):
        from_link_split(shop, shop, shop, "customer", "product")
    with pytest.raises(DataError, match="expected a HeteroData"):
        from_pyg([1])
    with pytest.raises(DataError, match="has no edges"):
        from_pyg(shop, "customer", "product", edge=("customer", "sees", "product"))
    shop["customer", "sees", "product"].edge_index = shop[BUYS].edge_index
    with pytest.raises(DataError, match="has 2 types of edges from customer to product"):
        from_pyg(shop, "customer", "product")
