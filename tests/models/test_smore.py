"""SMORE against its paper's equations in plain torch."""

import cmath
import math

import pytest
import torch

from graphdiff import SMORE
from graphdiff.errors import ConfigError
from graphdiff.graph.negatives import sample_negatives
from graphdiff.models.smore import FUSED
from tests.conftest import random_data
from tests.models.dense import bpr, info_nce, lightgcn, normalized_adjacency, similarity


def make(data, channels=6, **settings):
    torch.manual_seed(0)
    return SMORE.from_data(data, hidden_channels=channels, num_neighbors=3, **settings)


def fourier(size):
    """Return the unitary Fourier matrix."""
    return torch.tensor(
        [
            [cmath.exp(-2j * math.pi * a * b / size) / math.sqrt(size) for b in range(size)]
            for a in range(size)
        ],
        dtype=torch.complex64,
    )


def whole_filter(half, size):
    """Extend a filter to all frequencies, by conjugate symmetry."""
    half = torch.complex(half[:, 0], half[:, 1])
    out = torch.zeros(size, dtype=half.dtype)
    out[: half.numel()] = half
    # For a real signal only the real part of the filter matters at both ends.
    out[0] = half[0].real
    for k in range(1, (size + 1) // 2):
        out[size - k] = half[k].conj()
    if size % 2 == 0:
        out[size // 2] = half[size // 2].real
    return out


def dense_embeddings(model, data):
    """Return LightGCN's and side embeddings, ``[U + I, d]`` each, from dense matrices."""
    size, names = model.config.hidden_channels, model.graph.modalities
    transform = fourier(size)
    spectra = {
        name: model.project[name](data["item"][f"x_{name}"]).to(torch.complex64) @ transform
        for name in names
    }
    has_item = {name: data["item"][f"has_{name}"] for name in names}
    graphs = {name: similarity(data, name, model.config.num_neighbors) for name in names}
    product = torch.ones(model.num_items, size, dtype=torch.complex64)
    for name in names:
        product = product * torch.where(has_item[name][:, None], spectra[name], 1)
    spectra[FUSED] = product
    has_item[FUSED] = torch.stack(list(has_item.values())).any(dim=0)
    graphs[FUSED] = torch.stack(list(graphs.values())).amax(dim=0)

    content = lightgcn(model)
    to_user = normalized_adjacency(model)[: model.num_users, model.num_users :]
    views, has = {}, {}
    for name, spectrum in spectra.items():
        filtered = spectrum * whole_filter(model.filters[name], size)
        signal = (filtered @ transform.conj()).real
        view = model.item_embedding.weight * model.purify[name](signal).sigmoid()
        view = view * has_item[name][:, None]
        for _ in range(model.config.num_item_layers):
            view = graphs[name] @ view
        views[name] = torch.cat([to_user @ view, view])
        item = has_item[name].float()
        has[name] = torch.cat([(to_user @ item > 0).float(), item])
    side = model.prefer[FUSED](content).sigmoid() * views[FUSED]
    for name in names:
        attention = model.attention[name](views[FUSED]).exp()
        attention = attention / attention.sum(dim=1, keepdim=True)
        side = side + model.prefer[name](content).sigmoid() * attention * views[name]
    return content, side / sum(has.values()).clamp(min=1)[:, None]


@pytest.mark.parametrize("names", [["image"], ["image", "text"], ["audio", "image", "text"]])
@pytest.mark.parametrize(("channels", "num_item_layers"), [(6, 0), (6, 1), (7, 2)])
def test_scores_follow_the_paper(names, channels, num_item_layers):
    data = random_data(features=dict.fromkeys(names, 5))
    data["item"].has_image[3] = False
    data["item"].x_image[3] = 0
    model = make(data, channels, num_item_layers=num_item_layers)
    user, item = sum(dense_embeddings(model, data)).split([12, 9])
    torch.testing.assert_close(model(torch.arange(12)), user @ item.t(), rtol=1e-4, atol=1e-5)


def test_loss_follows_the_paper(multimodal_data):
    model = make(multimodal_data, regularization=0.1, contrastive=0.5, temperature=0.3)
    graph = model.graph
    batch = torch.tensor([0, 5, 7, 1, 12, 5])
    loss = model.loss(batch, torch.Generator().manual_seed(3))
    user, positive = graph.user[batch], graph.col[batch]
    negative = sample_negatives(graph, user, torch.Generator().manual_seed(3))
    content, side = dense_embeddings(model, multimodal_data)
    final = content + side
    chosen = [final[user], final[12 + positive], final[12 + negative]]
    expected = bpr(*chosen) + 0.1 / 2 * sum(x.square().sum() for x in chosen) / 6
    for nodes in (user, 12 + positive):
        expected = expected + 0.5 * info_nce(side[nodes], content[nodes], 0.3).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_gates_have_dropout_in_training_only(multimodal_data):
    model = make(multimodal_data, dropout=0.25)
    content = torch.randn(2000, 6)
    whole = model._gate(FUSED, content, None)
    gate = model._gate(FUSED, content, torch.Generator().manual_seed(0))
    kept = gate != 0
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(gate[kept], whole[kept] / 0.75)
    losses = [
        model.loss(torch.arange(9), torch.Generator().manual_seed(seed)).item()
        for seed in (1, 1, 2)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_data_without_modalities_is_rejected(plain_data):
    with pytest.raises(ConfigError, match="SMORE needs at least one modality"):
        SMORE.from_data(plain_data)
