"""PGL against its paper's equations in plain torch."""

import pytest
import torch
import torch.nn.functional as F

from graphdiff import PGL
from graphdiff.errors import ConfigError
from graphdiff.graph.message_graphs import sample_by_degree, similarity_graph
from graphdiff.graph.negatives import sample_negatives
from tests.conftest import random_data
from tests.models.dense import bpr, info_nce, interactions


def make(data, **settings):
    torch.manual_seed(0)
    return PGL.from_data(data, hidden_channels=4, num_neighbors=3, **settings)


def dense_embeddings(model, data, kept=None):
    """Return the embeddings of users and items from dense matrices."""
    a = interactions(model)
    if kept is not None:
        a = torch.zeros_like(a)
        a[model.graph.user[kept], model.graph.col[kept]] = 1
    scale_user = a.sum(1).clamp(min=1).rsqrt()
    scale_item = a.sum(0).clamp(min=1).rsqrt()
    a = scale_user[:, None] * a * scale_item[None, :]
    names = model.graph.modalities
    parts = []
    for name in names:
        projected = model.project[name](data["item"][f"x_{name}"])
        projected = projected / projected.norm(dim=1, keepdim=True)
        parts.append(projected * data["item"][f"has_{name}"][:, None])
    content = torch.cat(parts, dim=1)
    user = torch.cat([model.user_embedding[name] for name in names], dim=1)
    users, items = [user], [content]
    for _ in range(model.config.num_layers):
        users, items = [*users, a @ items[-1]], [*items, a.t() @ users[-1]]
    smooth = sum(neighbors(data, name) for name in names) / len(names) @ content
    return torch.stack(users).mean(0), torch.stack(items).mean(0) + smooth


def neighbors(data, name, k=3):
    """Return the k nearest items, the item itself excluded, weighted 1/k."""
    x, has = F.normalize(data["item"][f"x_{name}"].double()), data["item"][f"has_{name}"]
    cosine = (x @ x.t()).fill_diagonal_(-torch.inf)
    cosine[:, ~has] = -torch.inf
    matrix = torch.zeros_like(cosine)
    for i in has.nonzero().flatten().tolist():
        matrix[i, cosine[i].topk(k).indices] = 1 / k
    return matrix.float()


@pytest.mark.parametrize("names", [["image"], ["image", "text"], ["audio", "image", "text"]])
def test_scores_follow_the_paper(names):
    data = random_data(features=dict.fromkeys(names, 5))
    data["item"].has_image[3] = False
    data["item"].x_image[3] = 0
    model = make(data)
    user, item = dense_embeddings(model, data)
    torch.testing.assert_close(model(torch.arange(12)), user @ item.t())


def test_loss_and_gradients_follow_the_paper(multimodal_data):
    model = make(multimodal_data, contrastive=0.4, temperature=0.3, dropout=0.25, kept=0.5)
    graph, batch = model.graph, torch.tensor([0, 5, 7, 1, 12, 5])
    model.start_epoch(torch.Generator().manual_seed(2))
    kept = sample_by_degree(graph, 0.5, torch.Generator().manual_seed(2))
    assert 0 < kept.numel() < graph.num_interactions
    loss = model.loss(batch, torch.Generator().manual_seed(3))
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}

    generator = torch.Generator().manual_seed(3)
    user, positive = graph.user[batch], graph.col[batch]
    negative = sample_negatives(graph, user, generator)
    users, items = dense_embeddings(model, multimodal_data, kept)
    expected = bpr(users[user], items[positive], items[negative])
    for nodes in (users[user], items[positive]):
        masks = [torch.rand(nodes.shape, generator=generator) >= 0.25 for _ in range(2)]
        first, second = (nodes * mask / 0.75 for mask in masks)
        expected = expected + 0.4 / 2 * info_nce(first, second, 0.3).mean()
    torch.testing.assert_close(loss, expected)
    # The features are learned, too; the reference reads those of the data.
    parameters = {n: p for n, p in model.named_parameters() if not n.startswith("features")}
    gradients = torch.autograd.grad(expected, list(parameters.values()))
    for name, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(found[name], gradient)
    assert found["features.text"].any()
    assert not found["features.image"][3].any()


def test_the_subgraph_changes_with_the_epoch_and_inference_uses_the_whole_graph(multimodal_data):
    model = make(multimodal_data, contrastive=0.0, kept=0.4)
    batch, before, generator = torch.arange(8), model.tables(), torch.Generator().manual_seed(0)
    losses = []
    for _ in range(3):
        model.start_epoch(generator)
        losses.append(model.loss(batch, torch.Generator().manual_seed(1)).item())
    assert len(set(losses)) == 3
    assert torch.equal(model.tables().item, before.item)


def test_cold_items_are_represented_by_content(multimodal_data):
    model = make(multimodal_data)
    assert model.tables().item[8].any()
    graph = model.graph.cached(similarity_graph, {"image": 0.5, "text": 0.5})
    assert graph.num_targets == 9


def test_weights_of_other_modalities_are_refused(multimodal_data, plain_data):
    with pytest.raises(ConfigError, match="modality_weights names"):
        make(multimodal_data, modality_weights={"image": 1.0})
    with pytest.raises(ConfigError, match="PGL needs at least one modality"):
        make(plain_data)
