"""FREEDOM against its paper's equations in plain torch."""

import pytest
import torch
import torch.nn.functional as F

from graphdiff import FREEDOM
from graphdiff.errors import ConfigError
from graphdiff.graph.negatives import sample_negatives
from tests.conftest import random_data
from tests.models.test_lightgcn import dense_adjacency


def dense_embeddings(model):
    adjacency = dense_adjacency(model)
    x = torch.cat([model.user_embedding.weight, model.item_embedding.weight])
    layers = [x]
    for _ in range(model.config.num_layers):
        layers.append(adjacency @ layers[-1])
    out = torch.stack(layers).mean(dim=0)
    similarity = torch.zeros(model.num_items, model.num_items)
    weights = model.modality_weights
    for name in model.graph.modalities:
        (source, target), value = model.graph.similar(name)
        similarity[target, source] += weights[name] / sum(weights.values()) * value
    similar = model.item_embedding.weight
    for _ in range(model.config.num_item_layers):
        similar = similarity @ similar
    return out[: model.num_users], out[model.num_users :] + similar


@pytest.mark.parametrize("num_item_layers", [0, 1, 2])
def test_scores_follow_the_paper(multimodal_data, num_item_layers):
    model = FREEDOM.from_data(
        multimodal_data,
        hidden_channels=4,
        num_item_layers=num_item_layers,
        num_neighbors=3,
        modality_weights={"image": 0.1, "text": 0.9},
    )
    user, item = dense_embeddings(model)
    torch.testing.assert_close(model(torch.arange(12)), user @ item.t())


def test_loss_follows_the_paper(multimodal_data):
    model = FREEDOM.from_data(
        multimodal_data, hidden_channels=4, num_neighbors=3, dropout=0.0, modality_loss=0.3
    )
    model.start_epoch(torch.Generator().manual_seed(0))
    batch = torch.arange(model.graph.num_interactions)
    loss = model.loss(batch, torch.Generator().manual_seed(3))
    users, items = dense_embeddings(model)
    user, positive = model.graph.user, model.graph.col
    negative = sample_negatives(model.graph, user, torch.Generator().manual_seed(3))
    expected = -F.logsigmoid((users[user] * (items[positive] - items[negative])).sum(-1)).mean()
    for name in ("image", "text"):
        x, has = multimodal_data["item"][f"x_{name}"], multimodal_data["item"][f"has_{name}"]
        projected = model.project[name](x)
        both = has[positive] & has[negative]
        terms = F.logsigmoid((users[user] * (projected[positive] - projected[negative])).sum(-1))
        expected = expected - 0.3 * terms[both].mean()
    torch.testing.assert_close(loss, expected)


def test_pruning_keeps_the_share_and_prefers_rare_nodes():
    data = random_data(60, 40, {"image": 4}, density=0.4)
    model = FREEDOM.from_data(data, hidden_channels=4, num_neighbors=3, dropout=0.75)
    graph = model.graph
    generator = torch.Generator().manual_seed(0)
    kept = torch.zeros(graph.num_interactions)
    rounds = 200
    for _ in range(rounds):
        model.start_epoch(generator)
        found = model._pruned.matrix.to_dense()[graph.user, graph.col + graph.num_users] > 0
        assert found.sum() == round(graph.num_interactions * 0.25)
        kept += found
    weight = (graph.user_degree()[graph.user] * graph.item_degree()[graph.col]).float().rsqrt()
    rare, popular = weight > weight.median(), weight <= weight.median()
    assert kept[rare].mean() > 1.1 * kept[popular].mean()


def test_pruning_is_seeded(multimodal_data):
    model = FREEDOM.from_data(multimodal_data, hidden_channels=4, num_neighbors=3, dropout=0.5)
    drawn = []
    for seed in (0, 0, 1):
        model.start_epoch(torch.Generator().manual_seed(seed))
        drawn.append(model._pruned.matrix.to_dense())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_data_without_modalities_is_rejected(plain_data):
    with pytest.raises(ConfigError, match="at least one modality"):
        FREEDOM.from_data(plain_data)


def test_modality_weights_must_name_the_modalities(multimodal_data):
    with pytest.raises(ConfigError, match=r"\['audio'\], but the data has \['image', 'text'\]"):
        FREEDOM.from_data(multimodal_data, modality_weights={"audio": 1.0})
