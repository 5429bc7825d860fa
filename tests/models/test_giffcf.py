"""GiffCF: filter, loss and chain against dense references in float64."""

import numpy as np
import pytest
import torch

from graphdiff import GiffCF
from graphdiff.errors import ConfigError
from tests.conftest import random_data

USERS = torch.tensor([4, 0, 7, 11, 2])


def make(**settings):
    torch.manual_seed(0)
    # Dense enough for one component, whose singular values differ.
    data = random_data(num_items=10, density=0.6)
    model = GiffCF.from_data(data, **{"hidden_channels": 6, **settings})
    with torch.no_grad():
        for p in model.parameters():
            p += 0.3 * torch.randn_like(p)
    return model.eval()


def dense(model):
    x = np.zeros((model.num_users, model.num_items))
    x[model.graph.user.numpy(), model.graph.col.numpy()] = 1
    return x


def item_filter(model):
    """Return A, with the ideal filter where it has a weight, as a matrix ``[I, I]``."""
    x = dense(model)
    user, item = x.sum(1).clip(1), x.sum(0).clip(1)
    normed = user[:, None] ** -0.25 * x * item[None] ** -0.5
    value, vectors = np.linalg.eigh(normed.T @ normed)
    smooth = normed.T @ normed / value[-1]
    weight, rank = model.config.ideal_weight, model.config.ideal_rank
    ideal = vectors[:, -rank:] @ vectors[:, -rank:].T
    return (smooth + weight * ideal) / (1 + weight) if weight else smooth


def silu(x):
    return x / (1 + np.exp(-x))


def layer(linear, x):
    return x @ linear.weight.detach().double().numpy().T + linear.bias.detach().double().numpy()


def mix(mixer, *inputs):
    stacked = np.stack(np.broadcast_arrays(*inputs), axis=-1)
    return layer(mixer.out, silu(layer(mixer.hidden, stacked)))[..., 0]


def time_value(part, t):
    angle = t[:, None] * 10_000.0 ** (-np.arange(10) / 10)
    return layer(part.out, silu(layer(part.hidden, np.hstack([np.cos(angle), np.sin(angle)]))))


def denoise(model, z, c, smooth, t):
    table = model.table.detach().double().numpy()
    length = np.abs(c).sum(1, keepdims=True).clip(1)
    hidden = mix(
        model.embedding_mixer,
        z / model.num_items @ table,
        c / length @ table,
        time_value(model.embedding_time, t),
    )
    return mix(model.score_mixer, hidden @ table.T, c, c @ smooth, time_value(model.score_time, t))


@pytest.mark.parametrize("settings", [{}, {"ideal_weight": 0.2, "ideal_rank": 3}])
def test_the_filter_equals_the_normalised_item_graph(settings):
    model = make(**settings)
    x = torch.randn(3, model.num_items, generator=torch.Generator().manual_seed(1))
    expected = x.double().numpy() @ item_filter(model)
    np.testing.assert_allclose(model.smooth(x).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"smoothing": 1.0, "num_steps": 5, "dropout": 0.3}])
def test_the_loss_equals_that_of_the_equations(settings):
    model = make(**settings)
    config, smooth = model.config, item_filter(model)
    found = model.loss(USERS, torch.Generator().manual_seed(3)).item()
    again = torch.Generator().manual_seed(3)
    x = dense(model)[USERS]
    t = torch.randint(1, config.num_steps + 1, USERS.shape, generator=again).double().numpy()
    kept = (torch.rand(x.shape, generator=again) >= config.dropout).numpy()
    amount = config.smoothing * t[:, None] / config.num_steps
    z = x + amount * (x @ smooth - x)
    predicted = denoise(model, z, x * kept / (1 - config.dropout), smooth, t)
    assert found == pytest.approx(((x - predicted) ** 2).sum(1).mean(), rel=1e-4)


def test_noise_has_the_deviation_of_its_step(monkeypatch):
    model = make(noise_scale=0.4, noise_decay=0.5, num_steps=3, dropout=0.0)
    seen = {}
    denoise = model.denoise

    def watch(z, condition, smoothed, t):
        seen.update(z=z, t=t)
        return denoise(z, condition, smoothed, t)

    monkeypatch.setattr(model, "denoise", watch)
    users = torch.arange(12).repeat(200)
    model.loss(users, torch.Generator().manual_seed(0))
    x = torch.from_numpy(dense(model)[users])
    smooth = torch.from_numpy(item_filter(model))
    for step in (1, 2, 3):
        own = seen["t"] == step
        clean = x[own] + 1.5 * step / 3 * (x[own] @ smooth - x[own])
        deviation = (seen["z"][own] - clean).std().item()
        assert deviation == pytest.approx(0.4 * 0.5 ** (3 - step), rel=0.05)


@pytest.mark.parametrize("num_steps", [1, 2, 3])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_scores_are_those_of_the_chain(num_steps, decay):
    model = make(noise_decay=decay)
    smooth, x = item_filter(model), dense(model)[USERS]
    z = x + 1.5 * num_steps / 3 * (x @ smooth - x)
    for step in range(num_steps, 0, -1):
        predicted = denoise(model, z, x, smooth, np.full(len(x), float(step)))
        change = predicted @ smooth - predicted
        now, before = (predicted + 1.5 * s / 3 * change for s in (step, step - 1))
        z = before + decay * (z - now)
    query = model.query(USERS)
    with torch.no_grad():
        found = model.scorer(query, model.tables(), num_steps=num_steps)(0, model.num_items)
    np.testing.assert_allclose(found.numpy(), z, rtol=1e-3, atol=1e-4)
    if num_steps == 3:
        with torch.no_grad():
            np.testing.assert_allclose(model(USERS).numpy(), z, rtol=1e-3, atol=1e-4)


def test_a_number_of_steps_out_of_range_is_refused():
    model = make()
    with pytest.raises(ConfigError, match="num_steps is 4; give 1 to 3"):
        model.recommend([0], k=2, num_steps=4)
