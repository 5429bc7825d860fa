"""VBPR against its paper's equations in plain torch."""

import pytest
import torch

from graphdiff import VBPR
from graphdiff.errors import ConfigError
from graphdiff.graph.negatives import sample_negatives
from graphdiff.graph.store import RecGraph


@pytest.fixture
def model(multimodal_data):
    model = VBPR.from_data(
        multimodal_data, hidden_channels=4, content_channels=3, regularization=0.3
    )
    with torch.no_grad():
        torch.nn.init.normal_(model.item_bias.weight)
        torch.nn.init.normal_(model.content_bias.weight)
    return model


def dense_features(data):
    """Scale each modality to a mean norm of one over the items that have it."""
    parts = []
    for name in ("image", "text"):
        x, has = data["item"][f"x_{name}"], data["item"][f"has_{name}"]
        parts.append(x / torch.stack([row.norm() for row in x[has]]).mean())
    return torch.cat(parts, dim=1)


def dense_scores(model, data):
    f = dense_features(data)
    latent = model.user_embedding.weight @ model.item_embedding.weight.t()
    content = model.user_content.weight @ (f @ model.project.weight.t()).t()
    return latent + content + model.item_bias.weight.t() + (f @ model.content_bias.weight.t()).t()


def test_scores_follow_the_paper(model, multimodal_data):
    expected = dense_scores(model, multimodal_data)
    torch.testing.assert_close(model(torch.arange(12)), expected)


def test_loss_follows_the_paper(model, multimodal_data):
    batch = torch.arange(model.graph.num_interactions)
    loss = model.loss(batch, torch.Generator().manual_seed(3))
    user, positive = model.graph.user, model.graph.col
    negative = sample_negatives(model.graph, user, torch.Generator().manual_seed(3))
    score = dense_scores(model, multimodal_data)
    expected = -torch.log(torch.sigmoid(score[user, positive] - score[user, negative])).mean()
    f = dense_features(multimodal_data)
    item = [
        model.item_embedding.weight,
        f @ model.project.weight.t(),
        model.item_bias.weight + f @ model.content_bias.weight.t(),
    ]
    of_user = [model.user_embedding.weight, model.user_content.weight]
    parts = [(of_user, user), (item, positive), (item, negative)]
    for table, index in ((table, index) for tables, index in parts for table in tables):
        expected = expected + 0.3 / 2 * table[index].square().sum() / len(batch)
    torch.testing.assert_close(loss, expected)


def test_masked_features_are_not_read(multimodal_data):
    tables = []
    for value in (0.0, 100.0):
        graph = RecGraph.from_data(multimodal_data)
        graph.x_image[3] = value
        torch.manual_seed(0)
        tables.append(VBPR(VBPR.configure(hidden_channels=4), graph).tables())
    torch.testing.assert_close(tables[0].item, tables[1].item)


def test_data_without_modalities_is_rejected(plain_data):
    with pytest.raises(ConfigError, match="VBPR needs at least one modality"):
        VBPR.from_data(plain_data)
