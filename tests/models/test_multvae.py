"""MultVAE against its paper's equations on dense rows, in plain torch."""

import pytest
import torch

from graphdiff import MultVAE


def dense_rows(model):
    rows = torch.zeros(model.num_users, model.num_items)
    rows[model.graph.user, model.graph.col] = 1
    return rows


def dense_encode(model, rows, kept):
    x = rows / rows.square().sum(dim=1, keepdim=True).sqrt() * kept
    hidden = torch.tanh(x @ model.encoder.weight + model.encoder_bias)
    out = hidden @ model.to_latent.weight.t() + model.to_latent.bias
    k = model.config.latent_channels
    return out[:, :k], out[:, k:]


def dense_decode(model, z):
    hidden = torch.tanh(z @ model.from_latent.weight.t() + model.from_latent.bias)
    return hidden @ model.decoder.weight.t() + model.decoder.bias


def test_scores_are_the_decoded_mean(plain_data):
    model = MultVAE.from_data(plain_data, hidden_channels=5, latent_channels=3)
    mean, _ = dense_encode(model, dense_rows(model), 1)
    torch.testing.assert_close(model(torch.arange(12)), dense_decode(model, mean))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_loss_follows_the_paper(plain_data, dropout):
    model = MultVAE.from_data(
        plain_data,
        hidden_channels=5,
        latent_channels=3,
        input_dropout=dropout,
        kl_weight=0.7,
        anneal_steps=10,
    )
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn(p.shape)  # biases with an effect
    model.step.fill_(4)
    batch = torch.tensor([4, 0, 7])
    loss = model.loss(batch, torch.Generator().manual_seed(3))

    generator = torch.Generator().manual_seed(3)
    rows = dense_rows(model)[batch]
    drawn = torch.rand(int(rows.sum()), generator=generator)
    kept = torch.zeros_like(rows).masked_scatter(rows > 0, (drawn >= dropout) / (1 - dropout))
    mean, log_variance = dense_encode(model, rows, kept)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    z = mean + posterior.scale * torch.randn(mean.shape, generator=generator)
    likelihood = (rows * dense_decode(model, z).log_softmax(dim=1)).sum(dim=1)
    prior = torch.distributions.Normal(0.0, 1.0)
    kl = torch.distributions.kl_divergence(posterior, prior).sum(dim=1)
    torch.testing.assert_close(loss, (0.4 * 0.7 * kl - likelihood).mean())


def test_the_kl_weight_is_annealed_to_its_maximum(plain_data):
    model = MultVAE.from_data(plain_data, hidden_channels=5, kl_weight=0.5, anneal_steps=4)
    values = [model._kl_weight().item() for _ in range(6)]
    assert values == pytest.approx([0.0, 0.125, 0.25, 0.375, 0.5, 0.5])
    model.reset_parameters()
    assert model._kl_weight() == 0


def test_an_empty_history_gets_recommendations(plain_data):
    model = MultVAE.from_data(plain_data, hidden_channels=5, latent_channels=3)
    _, scores = model.recommend(history_index=[[]], k=9)
    mean, _ = dense_encode(model, torch.ones(1, 9), 0)
    expected = dense_decode(model, mean).sort(descending=True).values
    torch.testing.assert_close(scores, expected.detach())
