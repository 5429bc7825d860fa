"""Item embeddings: shrinkage, features, and items that are added."""

import pytest
import torch

from graphdiff.graph.store import RecGraph
from graphdiff.models.ld4mrec.item_embedding import ItemEmbedding
from tests.conftest import random_data


@pytest.fixture
def graph():
    return RecGraph.from_data(random_data(30, 20, {"image": 6, "text": 5}), num_neighbors=3)


def started(graph, **settings):
    torch.manual_seed(0)
    items = ItemEmbedding(graph, 8, **{"content_rank": 4, "shrinkage": 3.0, **settings})
    items.reset_parameters()
    items.start(graph, torch.Generator().manual_seed(0))
    if items.content is not None:
        torch.nn.init.normal_(items.content.weight)
    return items


@pytest.mark.parametrize("shrinkage", [0.0, 3.0])
def test_embeddings_are_shrunk_by_the_number_of_interactions(graph, shrinkage):
    items = started(graph, content_rank=0, shrinkage=shrinkage)
    degree = graph.item_degree().float().unsqueeze(1)
    share = degree / (degree + shrinkage) if shrinkage else torch.ones_like(degree)
    torch.testing.assert_close(items(graph), share * items.weight)
    index = torch.tensor([4, 0, 4])
    torch.testing.assert_close(items(graph, index), items(graph)[index])


def test_embeddings_are_the_sum_of_their_summands(graph):
    items, index = started(graph), torch.tensor([0, 7, 19])
    summands = items.summands(graph, index)
    assert set(summands) == {"behaviour", "features_image", "features_text"}
    torch.testing.assert_close(sum(summands.values()), items(graph, index))
    assert not summands["behaviour"][2].any()  # a cold item
    assert summands["features_image"][2].any()


def test_global_weights_follow_the_agreements(graph):
    items = started(graph)
    items.content.agreement.copy_(torch.tensor([0.3, 0.1]))
    torch.testing.assert_close(items.modality_shares(2, True), torch.tensor([0.75, 0.25]))
    assert items.modality_shares(2, False).tolist() == [0.5, 0.5]
    assert started(graph, content_rank=0).modality_shares(2, True).tolist() == [0.5, 0.5]
    items.content.agreement.zero_()
    assert items.modality_shares(2, True).tolist() == [0.5, 0.5]


def test_added_items_are_known_by_their_features(graph):
    items = started(graph)
    before = items(graph)
    new = {"image": graph.features("image")[0][:2], "text": torch.full((2, 5), torch.nan)}
    grown = graph.with_items(new, 2, num_neighbors=3)
    items.grow(grown)
    after = items(grown)
    torch.testing.assert_close(after[:20], before)
    image = items.content.by_modality(torch.tensor([0, 1]))["image"]
    torch.testing.assert_close(after[20:], image)
