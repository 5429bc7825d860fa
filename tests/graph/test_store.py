import torch

from graphdiff.graph.message_graphs import (
    item_to_user_graph,
    item_to_user_graph_without,
    similarity_graph,
    strongest_similarity_graph,
)
from graphdiff.graph.negatives import sample_negatives
from graphdiff.graph.propagation import FixedConv
from graphdiff.graph.store import RecGraph
from graphdiff.schema import build_data
from graphdiff.transforms import ModalityGraph
from tests.conftest import random_data


def test_rows_are_the_users_items(plain_data):
    graph = RecGraph.from_data(plain_data)
    user, item = plain_data["user", "interacts", "item"].edge_index
    users = torch.tensor([7, 0, 7, 3])
    row, found, _ = graph.rows(users)
    for position, index in enumerate(users.tolist()):
        assert sorted(found[row == position].tolist()) == sorted(item[user == index].tolist())


def test_rows_of_a_user_without_items():
    graph = RecGraph(torch.tensor([0, 2, 2, 3]), torch.tensor([0, 1, 1]), num_items=2)
    row, item, _ = graph.rows(torch.tensor([1, 2, 0]))
    assert row.tolist() == [1, 2, 2]
    assert item.tolist() == [1, 0, 1]
    assert graph.rows(torch.tensor([1]))[1].numel() == 0


def test_user_of_finds_the_owner_of_each_interaction():
    graph = RecGraph(torch.tensor([0, 2, 2, 3]), torch.tensor([0, 1, 1]), num_items=2)
    assert graph.user.tolist() == [0, 0, 2]
    assert graph.user_of(torch.tensor([2, 0, 1])).tolist() == [2, 0, 0]


def test_negatives_are_never_training_items():
    graph = RecGraph.from_data(random_data(30, 8, density=0.8))
    trained = graph.col.unique()
    assert graph.trained_items().tolist() == trained.tolist() == list(range(7))
    users = torch.arange(30).repeat(50)
    negative = sample_negatives(graph, users, torch.Generator().manual_seed(0))
    seen = torch.zeros(30, 8, dtype=torch.bool)
    seen[graph.user, graph.col] = True
    some_left = ~seen[:, trained].all(dim=1)
    assert some_left.sum() > 20
    assert not seen[users, negative][some_left[users]].any()
    # All that is left to draw from is drawn, but never what nobody has.
    drawn = torch.zeros(30, 8, dtype=torch.bool)
    drawn[users, negative] = True
    assert torch.equal(drawn[some_left][:, trained], ~seen[some_left][:, trained])
    assert not drawn[:, 7].any()


def test_interactions_left_out_are_as_if_they_had_never_been(plain_data):
    graph = RecGraph.from_data(plain_data)
    user = torch.tensor([3, 0, 7])
    rows, position = graph.located_rows(user)
    assert torch.equal(rows.item, graph.col[position])
    assert torch.equal(user[rows.row], graph.user[position])
    left = position[::2]
    kept = torch.ones(graph.num_interactions, dtype=torch.bool)
    kept[left] = False
    pairs = torch.stack([graph.user, graph.col])[:, kept]
    without = RecGraph.from_data(build_data(graph.num_users, graph.num_items, pairs))
    for found, expected in (
        (item_to_user_graph_without(graph, left), item_to_user_graph(without)),
        (graph.cached(item_to_user_graph), item_to_user_graph(graph)),
    ):
        for one, other in ((found, expected), (found.reversed(), expected.reversed())):
            x = torch.randn(one.num_sources, 5)
            torch.testing.assert_close(FixedConv()(x, one), FixedConv()(x, other))


def test_negatives_of_a_user_who_has_everything():
    graph = RecGraph(torch.tensor([0, 2]), torch.tensor([0, 1]), num_items=2)
    negative = sample_negatives(graph, torch.zeros(5, dtype=torch.long), torch.Generator())
    assert ((negative >= 0) & (negative < 2)).all()


def test_negatives_skip_untrained_items_anywhere_in_the_catalogue():
    pairs = [[0, 0, 1, 2, 2], [1, 4, 6, 1, 9]]
    graph = RecGraph.from_data(build_data(3, 11, pairs), content=False)
    negative = sample_negatives(
        graph, torch.arange(3).repeat(200), torch.Generator().manual_seed(0)
    ).view(200, 3)
    counts = [column.unique(return_counts=True) for column in negative.t()]
    assert [item.tolist() for item, _ in counts] == [[6, 9], [1, 4, 9], [4, 6]]
    assert min(int(count.min()) for _, count in counts) > 45


def test_negatives_from_the_whole_catalogue():
    graph = RecGraph.from_data(build_data(2, 5, [[0, 0, 1], [1, 4, 1]]), content=False)
    negative = sample_negatives(
        graph, torch.arange(2).repeat(400), torch.Generator().manual_seed(0), untouched=True
    ).view(400, 2)
    counts = [column.unique(return_counts=True) for column in negative.t()]
    assert [item.tolist() for item, _ in counts] == [[0, 2, 3], [0, 2, 3, 4]]
    assert min(int(count.min()) for _, count in counts) > 60


def test_of_an_edge_in_several_similarity_graphs_the_largest_weight_counts(multimodal_data):
    graph = RecGraph.from_data(multimodal_data, num_neighbors=4, weighted=True)
    whole = torch.zeros(2, 9, 9)
    for n, name in enumerate(graph.modalities):
        (source, target), weight = graph.similar(name)
        whole[n, target, source] = weight
    union = strongest_similarity_graph(graph)
    found = FixedConv()(torch.eye(9), union)
    assert torch.equal(found, whole.amax(dim=0))


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


def test_held_out_pairs_never_enter(plain_data):
    graph = RecGraph.from_data(plain_data)
    pairs = set(zip(graph.user.tolist(), graph.col.tolist(), strict=True))
    store = plain_data["user", "interacts", "item"]
    for held_out in (store.val_edge_label_index, store.test_edge_label_index):
        assert not pairs & set(zip(*held_out.tolist(), strict=True))


def test_item_graph_mixes_by_share(multimodal_data):
    graph = RecGraph.from_data(multimodal_data, num_neighbors=2)
    mixed = similarity_graph(graph, {"image": 0.25, "text": 0.75}).matrix
    expected = torch.zeros(9, 9)
    for name, share in (("image", 0.25), ("text", 0.75)):
        (source, target), weight = graph.similar(name)
        expected[target, source] += share * weight
    torch.testing.assert_close(mixed.to_dense(), expected)


def test_negatives_of_a_user_who_has_nearly_everything():
    free = [0, 499, 500, 999]
    has = [item for item in range(1000) if item not in free]
    pairs = [[0] * 996 + [1, 1] + [2] * 4, [*has, 3, 7, *free]]
    graph = RecGraph.from_data(build_data(3, 1000, pairs), content=False)
    generator = torch.Generator().manual_seed(0)
    users = torch.tensor([0, 1]).repeat(4000)
    negative = sample_negatives(graph, users, generator)
    assert negative[0::2].unique().tolist() == free
    counts = torch.bincount(negative[0::2], minlength=1000)[free]
    assert counts.min() > 850  # of 1000 expected, with a standard deviation of 27
    assert not {3, 7} & set(negative[1::2].tolist())
