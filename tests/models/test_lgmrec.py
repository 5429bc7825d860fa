"""LGMRec against its paper's equations in plain torch."""

import pytest
import torch
import torch.nn.functional as F

import graphdiff.models.lgmrec as module
from graphdiff import LGMRec
from graphdiff.errors import ConfigError
from graphdiff.graph.negatives import sample_negatives
from tests.conftest import random_data
from tests.models.dense import bpr, interactions, lightgcn, normalized_adjacency


def make(data, **settings):
    torch.manual_seed(0)
    return LGMRec.from_data(data, hidden_channels=4, num_hyperedges=3, **settings)


def dense_embeddings(model, data):
    """Return final embeddings, ``[U + I, d]``, and global ones per modality, without noise."""
    content, adjacency, a = lightgcn(model), normalized_adjacency(model), interactions(model)
    final, hyper = content, {}
    for name in model.graph.modalities:
        x, has = data["item"][f"x_{name}"], data["item"][f"has_{name}"].float()
        projected = x @ model.project[name]
        mean = a @ projected / (a @ has).clamp(min=1)[:, None]
        local = torch.cat([mean, projected])
        for _ in range(model.config.num_modality_layers):
            local = adjacency @ local
        final = final + F.normalize(local, dim=1)

        tau = model.config.temperature
        logit = x @ model.hyperedges[name]
        of_item = (logit / tau).softmax(dim=1) * has[:, None]
        of_user = (a @ logit / tau).softmax(dim=1) * (a @ has > 0)[:, None]
        item = content[model.num_users :]
        for _ in range(model.config.num_hyper_layers):
            edge = of_item.t() @ item
            item = of_item @ edge
            user = of_user @ edge
        hyper[name] = torch.cat([user, item])
    return final + model.config.hyper_weight * F.normalize(sum(hyper.values()), dim=1), hyper


@pytest.mark.parametrize("names", [["image"], ["image", "text"], ["audio", "image", "text"]])
@pytest.mark.parametrize("num_hyper_layers", [1, 3])
@pytest.mark.parametrize("fixed", [True, False])
def test_scores_follow_the_paper(names, num_hyper_layers, fixed, monkeypatch):
    monkeypatch.setattr(module, "MAX_FIXED_FEATURES", 10 if fixed else 1)
    data = random_data(features=dict.fromkeys(names, 5))
    data["item"].has_image[3] = False
    data["item"].x_image[3] = 0
    model = make(data, num_hyper_layers=num_hyper_layers)
    user, item = dense_embeddings(model, data)[0].split([12, 9])
    torch.testing.assert_close(model(torch.arange(12)), user @ item.t(), rtol=1e-4, atol=1e-5)


def test_loss_follows_the_paper(multimodal_data, monkeypatch):
    monkeypatch.setattr(LGMRec, "_belong", without_noise)
    model = make(multimodal_data, regularization=0.1, contrastive=0.5)
    batch = torch.tensor([0, 5, 7, 1, 12, 5])
    user, positive = model.graph.user[batch], model.graph.col[batch]
    negative = sample_negatives(model.graph, user, torch.Generator().manual_seed(3))
    final, hyper = dense_embeddings(model, multimodal_data)
    chosen = [final[user], final[12 + positive], final[12 + negative]]
    expected = bpr(*chosen) + 0.1 * sum(x.norm() for x in chosen) / 6
    image_users, image_items = hyper["image"].split([12, 9])
    text_users, text_items = hyper["text"].split([12, 9])
    for nodes, images, texts in (
        (user, image_users, text_users),
        (positive, image_items, text_items),
    ):
        # Nodes without an image are no anchors; nodes without text are no candidates.
        for b in nodes[images[nodes].any(dim=1)]:
            cosine = F.cosine_similarity(images[b][None], texts[texts.any(dim=1)]) / 0.2
            own = F.cosine_similarity(images[b], texts[b], dim=0) / 0.2
            expected = expected + 0.5 * (cosine.exp().sum().log() - own)
    loss = model.loss(batch, torch.Generator().manual_seed(3))
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def without_noise(self, logit, has, generator):
    return (logit / self.config.temperature).softmax(dim=1) * has.unsqueeze(1)


def test_memberships_are_gumbel_softmax_with_dropout(multimodal_data):
    model = make(multimodal_data, dropout=0.25, temperature=1e-3)
    logit = torch.tensor([[0.0, 1.0, 2.0]]).expand(20000, 3)
    has = torch.ones(20000, dtype=torch.bool)
    member = model._belong(logit, has, torch.Generator().manual_seed(0))
    # At temperature zero this is a sample of the softmax, with dropout and scaling.
    chosen = member.round(decimals=2)
    share = (chosen > 1).float().mean(dim=0)
    torch.testing.assert_close(share, 0.75 * logit[0].softmax(dim=0), atol=0.01, rtol=0)
    assert member.max().item() == pytest.approx(1 / 0.75)
    none = model._belong(logit, ~has, torch.Generator().manual_seed(0))
    assert not none.any()


def test_noise_is_used_in_training_only(multimodal_data):
    model = make(multimodal_data).train()
    torch.testing.assert_close(model.tables().item, model.tables().item)
    losses = [
        model.loss(torch.arange(9), torch.Generator().manual_seed(seed)).item()
        for seed in (1, 1, 2)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_data_without_modalities_is_rejected(plain_data):
    with pytest.raises(ConfigError, match="LGMRec needs at least one modality"):
        LGMRec.from_data(plain_data)
