"""DiffRec: loss, weights and reverse chain against references on dense rows."""

import math

import pytest
import torch
import torch.nn.functional as F

from graphdiff.errors import ConfigError
from graphdiff.models.base import Query
from graphdiff.models.diffrec import DiffRec
from graphdiff.nn.denoiser import timestep_embedding
from graphdiff.schema import build_data
from tests.conftest import random_data
from tests.watch import ForbidShape

SMALL = {"hidden_channels": 8, "bottleneck_channels": 5, "time_channels": 5}
NOISY = {"num_steps": 6, "noise_scale": 0.5, "noise_min": 0.1, "noise_max": 0.9}


def make(seed=0, **settings):
    torch.manual_seed(seed)
    model = DiffRec.from_data(random_data(), **{**SMALL, **NOISY, **settings})
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn_like(p)
    return model.eval()


def dense(model):
    x = torch.zeros(model.num_users, model.num_items)
    x[model.graph.user, model.graph.col] = 1
    return x


def alpha_bars(scale=0.5, low=0.1, high=0.9, steps=6, first=1e-5):
    """Return ᾱ_1 … ᾱ_T in double precision, computed from β."""
    bars = [1 - scale * (low + t / (steps - 1) * (high - low)) for t in range(steps)]
    betas = [1 - bars[0]] + [1 - bars[t] / bars[t - 1] for t in range(1, steps)]
    if first is not None:
        betas[0] = first
    product, out = 1.0, []
    for beta in betas:
        product *= 1 - beta
        out.append(product)
    return torch.tensor(out, dtype=torch.float64)


def network(model, x, t, scale=None):
    """Compute the network directly; ``t`` counts from 1."""
    net = model.net
    angle = [(t - 1).float() / 10_000 ** (k / 2) for k in range(2)]
    emb = torch.stack([a.cos() for a in angle] + [a.sin() for a in angle] + [0 * angle[0]], dim=1)
    if model.config.normalize:
        x = x / x.norm(dim=1, keepdim=True)
    if scale is not None:
        x = x * scale
    first = torch.cat([net.row_encoder.weight, net.time_encoder.weight], dim=1)
    h = torch.cat([x, net.time(emb)], dim=1) @ first.t() + net.time_encoder.bias
    h = torch.tanh(h)
    for layer in net.inner:
        h = torch.tanh(h @ layer.weight.t() + layer.bias)
    return h @ net.decoder.weight.t() + net.decoder.bias


@pytest.mark.parametrize("reweight", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_loss_equals_that_of_dense_rows(monkeypatch, reweight, normalize):
    model = make(reweight=reweight, normalize=normalize, dropout=0.3)
    users = torch.tensor([4, 0, 7, 11, 2, 9, 1])
    drawn = torch.Generator().manual_seed(5)
    step = torch.tensor([0, 1, 2, 3, 4, 5, 3])
    importance = torch.rand(7, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(model.steps, "sample", lambda num, generator: (step, importance))
    seen = {}
    monkeypatch.setattr(model.steps, "update", lambda t, loss: seen.update(t=t, loss=loss))
    found = model.loss(users, drawn)

    again = torch.Generator().manual_seed(5)
    x = dense(model)[users]
    noise = torch.randn(x.shape, generator=again)
    kept = torch.rand(x.shape, generator=again) >= 0.3
    bars = alpha_bars()
    bar = bars[step].float().unsqueeze(1)
    x_t = bar.sqrt() * x + (1 - bar).sqrt() * noise
    error = (x - network(model, x_t, step + 1, kept / 0.7)).square().mean(dim=1)
    if reweight:
        snr = bars / (1 - bars)
        weight = torch.cat([torch.ones(1, dtype=torch.float64), snr[:-1] - snr[1:]])
        error = error * weight[step].float()
    torch.testing.assert_close(found, (importance * error).mean(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(seen["loss"], error, rtol=1e-4, atol=1e-6)
    assert torch.equal(seen["t"], step)


def chain(model, x, bars):
    """Compute the chain of posterior means from β, from T to 1, on dense rows in float64."""
    bars = [1.0, *bars.tolist()]
    for t in range(model.config.num_steps, 0, -1):
        predicted = network(model, x, torch.full((len(x),), t))
        beta = 1 - bars[t] / bars[t - 1]
        one = beta * math.sqrt(bars[t - 1]) / (1 - bars[t])
        two = (1 - bars[t - 1]) * math.sqrt(1 - beta) / (1 - bars[t])
        x = one * predicted + two * x
    return x


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("bottleneck", [0, 5])
@torch.no_grad()
def test_scores_are_the_end_of_the_chain_on_dense_rows(normalize, bottleneck):
    model = make(normalize=normalize, bottleneck_channels=bottleneck)
    expected = chain(model, dense(model), alpha_bars())
    torch.testing.assert_close(model(torch.arange(12)), expected, rtol=1e-4, atol=1e-5)
    one_pass = network(model, dense(model), torch.full((12,), 1))
    assert not torch.allclose(expected, one_pass, atol=1e-2)


def test_the_chain_on_rows_is_equal():
    model = make()
    items, scores = model.recommend([0, 3, 5], k=6)
    again, slow = model.recommend([0, 3, 5], k=6, on_rows=True)
    assert torch.equal(items, again)
    torch.testing.assert_close(scores, slow)


@torch.no_grad()
def test_the_chain_allocates_no_tensor_of_batch_times_items():
    torch.manual_seed(0)
    model = DiffRec.from_data(random_data(23, 71), **SMALL, **NOISY)
    query = Query(model.graph.rows(torch.arange(23)))
    tables = model.tables()
    with ForbidShape((23, 71)):
        model.user_vectors(query, tables, sampling_steps=3)
    with pytest.raises(AssertionError), ForbidShape((23, 71)):
        model.user_vectors(query, tables, on_rows=True)


@torch.no_grad()
def test_sampling_steps_corrupt_the_row_that_the_chain_starts_from():
    model = make()
    generator = torch.Generator().manual_seed(0)
    bar = alpha_bars()[3].float()
    x = dense(model)
    x = bar.sqrt() * x + (1 - bar).sqrt() * torch.randn(x.shape, generator=generator)
    expected = chain(model, x, alpha_bars())
    users = torch.arange(12)
    _, scores = model.recommend(users, k=9, exclude_seen=False, sampling_steps=4, on_rows=True)
    best = expected.sort(dim=1, descending=True).values
    torch.testing.assert_close(scores, best, rtol=1e-4, atol=1e-5)
    by_setting = make(sampling_steps=4)
    again = by_setting.recommend(users, k=9, exclude_seen=False, on_rows=True)[1]
    torch.testing.assert_close(again, best, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_encoded_noise_has_the_distribution_of_noise_on_rows():
    model = make()
    tables, num = model.tables(), 100_000
    x = dense(model)[:1].expand(num, -1)
    encoded = model._corrupt(x @ tables.encoder, tables.encoder, 5)
    on_rows = model._corrupt(x, None, 5) @ tables.encoder
    scale = on_rows.t().cov().diagonal().mean()
    torch.testing.assert_close(encoded.mean(0), on_rows.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(
        encoded.t().cov() / scale, on_rows.t().cov() / scale, rtol=0.03, atol=0.03
    )


def test_too_many_sampling_steps_are_rejected():
    with pytest.raises(ConfigError, match="step 7 of a diffusion of 6 steps; give 0 to 6"):
        make().recommend(0, k=2, sampling_steps=7)


def test_dropout_and_noise_are_used_in_training_only():
    model = make()
    with torch.no_grad():
        assert torch.equal(model(torch.arange(3)), model(torch.arange(3)))
        x, t = dense(model)[:3], torch.ones(3, dtype=torch.long)
        generator = torch.Generator().manual_seed(0)
        assert torch.equal(model.net(x, t), model.net(x, t))
        assert not torch.equal(model.net(x, t), model.net(x, t, generator))


def test_initial_weights_are_xavier_normal_over_row_and_time():
    model = DiffRec.from_data(random_data(40, 60), hidden_channels=400, bottleneck_channels=300)
    std = model.net.row_encoder.weight.std().item()
    assert std == pytest.approx(math.sqrt(2 / (60 + 10 + 400)), rel=0.02)
    assert model.net.time_encoder.weight.std().item() == pytest.approx(std, rel=0.05)
    assert model.net.inner[0].weight.std().item() == pytest.approx(math.sqrt(2 / 700), rel=0.02)
    assert model.net.decoder.bias.std().item() == pytest.approx(1e-3, rel=0.3)


def test_it_learns_which_items_co_occur():
    users, items = torch.arange(40), torch.arange(8)
    pairs = [(u, i) for u in users.tolist() for i in items.tolist() if i % 2 == u % 2]
    held = {(u, (u // 2 % 4) * 2 + u % 2) for u in users.tolist()}
    train = torch.tensor([p for p in pairs if p not in held]).t()
    model = DiffRec.from_data(
        build_data(40, 8, train), hidden_channels=16, bottleneck_channels=0, num_steps=5
    )
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(50):
        optimizer.zero_grad()
        model.loss(users, generator).backward()
        optimizer.step()
    best, _ = model.recommend(users, k=1)
    assert {(u, i) for u, (i,) in enumerate(best.tolist())} == held


def test_the_timestep_embedding_is_the_published_one():

    found = timestep_embedding(torch.tensor([0, 3]), 10)
    frequency = [math.exp(-math.log(10_000) * k / 5) for k in range(5)]
    expected = [math.cos(3 * f) for f in frequency] + [math.sin(3 * f) for f in frequency]
    torch.testing.assert_close(found[1], torch.tensor(expected))
    assert found[0].tolist() == [1.0] * 5 + [0.0] * 5
    assert F.pad(timestep_embedding(torch.tensor([3]), 4), (0, 1)).equal(
        timestep_embedding(torch.tensor([3]), 5)
    )
