"""The store of interactions and item content."""

import torch

from graphdiff.graph.store import RecGraph
from graphdiff.transforms import ModalityGraph


def test_rows_are_the_users_items(plain_data):
    graph = RecGraph.from_data(plain_data)
    user, item = plain_data["user", "interacts", "item"].edge_index
    users = torch.tensor([7, 0, 7, 3])
    row, found, *_ = graph.rows(users)
    for position, index in enumerate(users.tolist()):
        assert sorted(found[row == position].tolist()) == sorted(item[user == index].tolist())


def test_rows_of_a_user_without_items():
    graph = RecGraph(torch.tensor([0, 2, 2, 3]), torch.tensor([0, 1, 1]), num_items=2)
    row, item, *_ = graph.rows(torch.tensor([1, 2, 0]))
    assert row.tolist() == [1, 2, 2]
    assert item.tolist() == [1, 0, 1]
    assert graph.rows(torch.tensor([1]))[1].numel() == 0


def test_user_of_finds_the_owner_of_each_interaction():
    graph = RecGraph(torch.tensor([0, 2, 2, 3]), torch.tensor([0, 1, 1]), num_items=2)
    assert graph.user.tolist() == [0, 0, 2]
    assert graph.user_of(torch.tensor([2, 0, 1])).tolist() == [2, 0, 0]


def test_a_weighted_graph_replaces_what_the_data_has(multimodal_data):
    data = ModalityGraph(k=2)(multimodal_data)
    (source, target), _ = RecGraph.from_data(data, num_neighbors=3).similar("text")
    assert target.bincount().tolist() == [2] * 9
    assert (source != target).all()
    (source, target), _ = RecGraph.from_data(data, num_neighbors=3, weighted=True).similar("text")
    assert target.bincount().tolist() == [3] * 9
    assert (source == target).sum() == 9


def test_graph_comes_back_from_its_state(multimodal_data):
    graph = RecGraph.from_data(multimodal_data, num_neighbors=3)
    again = RecGraph.from_tensors(graph.state_dict(), graph.num_items)
    assert again.modalities == ["image", "text"]
    for name, tensor in graph.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_edges_are_kept_in_32_bits_and_read_from_64(multimodal_data):
    graph = RecGraph.from_data(multimodal_data, num_neighbors=3)
    assert graph.similar("image")[0].dtype == torch.int32
    state = graph.state_dict()
    long = {name: x.long() if name.endswith("_index") else x for name, x in state.items()}
    again = RecGraph.from_tensors(long, graph.num_items)
    assert again.similar("text")[0].dtype == torch.int32
    graph.load_state_dict(long)
    for name, tensor in state.items():
        assert torch.equal(again.state_dict()[name], tensor)
        assert torch.equal(graph.state_dict()[name], tensor)
    without = RecGraph.from_data(multimodal_data, similarity=False).similar("image")
    assert [x.dtype for x in without] == [torch.int32, torch.float32]


def test_held_out_pairs_never_enter(plain_data):
    graph = RecGraph.from_data(plain_data)
    pairs = set(zip(graph.user.tolist(), graph.col.tolist(), strict=True))
    store = plain_data["user", "interacts", "item"]
    for held_out in (store.val_edge_label_index, store.test_edge_label_index):
        assert not pairs & set(zip(*held_out.tolist(), strict=True))


def test_a_graph_contains_its_pairs_alone(plain_data):
    graph = RecGraph.from_data(plain_data)
    user, item = torch.cartesian_prod(torch.arange(12), torch.arange(10)).t()
    pairs = set(zip(graph.user.tolist(), graph.col.tolist(), strict=True))
    expected = [pair in pairs for pair in zip(user.tolist(), item.tolist(), strict=True)]
    assert graph.contains(user, item).tolist() == expected
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    found = graph.contains(user[order], item[order])
    assert found.tolist() == torch.tensor(expected)[order].tolist()
    assert graph.contains(user[:0], item[:0]).shape == (0,)


def test_a_graph_with_empty_rows_contains_its_pairs():
    graph = RecGraph(torch.tensor([0, 0, 2, 2]), torch.tensor([0, 2]), num_items=3)
    user, item = torch.tensor([0, 1, 1, 1, 2]), torch.tensor([0, 0, 1, 2, 2])
    assert graph.contains(user, item).tolist() == [False, True, False, True, False]
    empty = RecGraph(torch.tensor([0, 0]), torch.empty(0, dtype=torch.long), num_items=3)
    assert empty.contains(torch.tensor([0]), torch.tensor([0])).tolist() == [False]
