"""DiffMM against its paper's equations, with dense rows and matrices."""

import pytest
import torch
import torch.nn.functional as F

from graphdiff import DiffMM
from graphdiff.errors import ConfigError, GraphDiffError
from graphdiff.graph.negatives import sample_negatives
from tests.conftest import random_data
from tests.models.dense import looped

SMALL = {"hidden_channels": 4, "denoiser_channels": 6, "time_channels": 4}


def seed(value):
    return torch.Generator().manual_seed(value)


def layers(model, adjacency, x):
    return sum(
        torch.linalg.matrix_power(adjacency, n) @ x for n in range(model.config.num_layers + 1)
    )


def dense(model, data):
    """Return the fused embeddings and each modality's view, ``[U + I, d]``."""
    config, num_users = model.config, model.num_users
    user, item = model.user_embedding.weight, model.item_embedding.weight
    main = looped(model, model.graph.user, model.graph.col)
    shares = model.modality_weight.exp() / model.modality_weight.exp().sum()
    joined, views = 0, []
    for n, name in enumerate(model.graph.modalities):
        has = data["item"][f"has_{name}"].float()[:, None]
        linear = model.project[name]
        x = data["item"][f"x_{name}"] @ linear.weight.t() + linear.bias
        x = torch.cat([user, x / x.norm(dim=1, keepdim=True) * has])
        everyone = torch.arange(num_users).repeat_interleave(model.chosen.size(2))
        generated = looped(model, everyone, model.chosen[n].flatten())
        first = main @ x
        second = main @ torch.cat([first[:num_users], item])
        third = generated @ torch.cat([user, item])
        joined = joined + shares[n] * (first + second + config.generated_weight * third)
        views.append(layers(model, main, generated @ x))
    unit = joined / joined.norm(dim=1, keepdim=True)
    return layers(model, main, joined) + config.residual_weight * unit, views


def make(data, **settings):
    torch.manual_seed(0)
    model = DiffMM.from_data(data, **{**SMALL, **settings})
    with torch.no_grad():
        model.modality_weight.copy_(torch.randn(len(model.graph.modalities)))
    model.start_epoch(seed(0))
    return model


@pytest.mark.parametrize("num_layers", [0, 2])
def test_scores_follow_the_paper(multimodal_data, num_layers):
    model = make(multimodal_data, num_layers=num_layers, num_generated=2)
    user, item = dense(model, multimodal_data)[0].split([12, 9])
    torch.testing.assert_close(model(torch.arange(12)), user @ item.t())


@pytest.mark.parametrize("contrast_with", ["main", "modality"])
def test_loss_follows_the_paper(multimodal_data, contrast_with):
    model = make(
        multimodal_data,
        edge_keep=1.0,
        regularization=0.1,
        contrast=0.3,
        temperature=0.4,
        contrast_with=contrast_with,
    )
    batch = torch.arange(0, model.graph.num_interactions, 2)
    loss = model.loss(batch, seed(3))

    main, views = dense(model, multimodal_data)
    user, positive = model.graph.user[batch], model.graph.col[batch] + 12
    negative = sample_negatives(model.graph, user, seed(3), untouched=True) + 12
    expected = -F.logsigmoid((main[user] * (main[positive] - main[negative])).sum(-1)).mean()
    weights = (model.user_embedding.weight, model.item_embedding.weight)
    expected = expected + 0.1 * sum(weight.square().sum() for weight in weights)
    pairs = [(main, view) for view in views] if contrast_with == "main" else [tuple(views)]
    for one, other in pairs:
        cosine = F.cosine_similarity(one[:, None], other[None], dim=-1) / 0.4
        for part, node in ((slice(12), user), (slice(12, None), positive)):
            within = cosine[node][:, part].logsumexp(dim=1)
            expected = expected + 0.3 * (within - cosine[node, node]).mean()

    torch.testing.assert_close(loss, expected)
    parameters = [p for n, p in model.named_parameters() if not n.startswith("denoisers")]
    for found, wanted in zip(
        torch.autograd.grad(loss, parameters),
        torch.autograd.grad(expected, parameters),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_denoising_loss_follows_the_paper(multimodal_data):
    model = make(multimodal_data, input_dropout=0.0, signal_injection=0.4)
    users = torch.tensor([3, 0, 7])
    loss = model.denoising_loss(users, seed(5))

    x_0 = torch.zeros(12, 9)
    x_0[model.graph.user, model.graph.col] = 1
    x_0, draw, expected = x_0[users], seed(5), 0
    kept = model.schedule.alpha_bar.double()
    for name, denoiser in zip(model.graph.modalities, model.denoisers, strict=True):
        t = torch.randint(1, 6, (3,), generator=draw)
        noise = torch.randn(3, 9, generator=draw)
        x_t = kept[t].sqrt()[:, None] * x_0 + (1 - kept[t]).sqrt()[:, None] * noise
        predicted = denoiser(x_t.float(), t)
        has = multimodal_data["item"][f"has_{name}"]
        features = model.project[name](multimodal_data["item"][f"x_{name}"]) * has[:, None]
        gap = predicted @ features - x_0 @ model.item_embedding.weight
        error = model.schedule.elbo_weight(t) * (predicted - x_0).square().mean(1)
        expected = expected + error.mean() + 0.4 * gap.square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)

    denoised = torch.autograd.grad(loss, list(model.denoisers.parameters()), retain_graph=True)
    assert all(grad.any() for grad in denoised)
    others = [p for n, p in model.named_parameters() if not n.startswith("denoisers")]
    assert not any(
        grad is not None for grad in torch.autograd.grad(loss, others, allow_unused=True)
    )


def test_generated_items_are_the_top_of_the_denoised_rows(multimodal_data):
    model = make(multimodal_data, num_generated=3)
    x_0 = torch.zeros(12, 9)
    x_0[model.graph.user, model.graph.col] = 1
    for chosen, denoiser in zip(model.chosen, model.denoisers, strict=True):
        x = x_0
        for step in range(5, 0, -1):
            t = torch.full((12,), step)
            x = model.schedule.step(denoiser(x, t), x, t)
        assert torch.equal(chosen, x.topk(3).indices)


def test_denoisers_learn_to_reconstruct_rows(multimodal_data):
    model = make(multimodal_data, lr=0.01)
    before = model.denoising_loss(torch.arange(12), seed(1))
    for epoch in range(30):
        model.start_epoch(seed(epoch))
    assert model.denoising_loss(torch.arange(12), seed(1)) < 0.5 * before


def test_an_epoch_uses_its_own_share_of_the_generated_edges(multimodal_data):
    model = make(multimodal_data, edge_keep=0.5)
    batch = torch.arange(8)
    dropped = model.loss(batch, seed(0))
    model.start_epoch(seed(1))
    assert model.loss(batch, seed(0)) != dropped
    # Scores do not depend on it.
    chosen, scores = model.chosen.clone(), model(torch.arange(12))
    model._dropped = model._generated_graphs(0.5, seed(9))
    assert torch.equal(model(torch.arange(12)), scores)
    assert torch.equal(model.chosen, chosen)


def test_a_saved_model_keeps_its_graphs(multimodal_data, tmp_path):
    model = make(multimodal_data)
    model.save_pretrained(tmp_path)
    again = DiffMM.from_pretrained(tmp_path)
    assert (again.chosen >= 0).all()
    assert torch.equal(again.chosen, model.chosen)


@pytest.mark.parametrize("names", [["image"], ["audio", "image", "text"]])
@pytest.mark.parametrize("contrast_with", ["main", "modality"])
def test_any_number_of_modalities(names, contrast_with):
    data = random_data(features=dict.fromkeys(names, 5))
    model = make(data, contrast_with=contrast_with)
    model.loss(torch.arange(9), seed(0)).backward()
    assert all(model.project[name].weight.grad.any() for name in names)


def test_masked_features_are_not_read(multimodal_data):
    model = make(multimodal_data)
    scores = model(torch.arange(12))
    model.graph.x_image[3] = 1e3
    assert torch.equal(model(torch.arange(12)), scores)


def test_diverging_denoisers_raise(multimodal_data):
    model = make(multimodal_data)
    with torch.no_grad():
        model.denoisers[0].bias.fill_(torch.inf)
    with pytest.raises(GraphDiffError, match="lower the learning rate"):
        model.start_epoch(seed(0))


def test_data_without_modalities_is_rejected(plain_data):
    with pytest.raises(ConfigError, match="DiffMM needs at least one modality"):
        DiffMM.from_data(plain_data)
