"""L-DiffRec: autoencoder, loss and latent chain against references on dense rows."""

import math

import pytest
import torch
import torch.nn.functional as F

from graphdiff.errors import ConfigError
from graphdiff.models.ldiffrec.cluster_vae import ClusterVAE
from graphdiff.models.ldiffrec.model import LDiffRec
from graphdiff.schema import build_data
from graphdiff.training.interrupts import StopRequest
from graphdiff.training.module import RecommenderModule
from tests.conftest import random_data

SMALL = {"hidden_channels": 7, "denoiser_channels": 6, "time_channels": 4}
NOISY = {"num_steps": 5, "noise_scale": 0.5, "noise_min": 0.1, "noise_max": 0.9}
BARS = torch.tensor([1 - 0.5 * (0.1 + t / 4 * 0.8) for t in range(5)], dtype=torch.float64)


def make(seed=0, data=None, **settings):
    torch.manual_seed(seed)
    model = LDiffRec.from_data(data or random_data(), **{**SMALL, **NOISY, **settings})
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn_like(p)
    return model.eval()


def dense(model):
    x = torch.zeros(model.num_users, model.num_items)
    x[model.graph.user, model.graph.col] = 1
    return x


def encode(vae, x):
    """Encode the columns of each cluster with its own layer."""
    halves = []
    for c, layer in enumerate(vae.encoders):
        halves.append(torch.tanh(layer(x[:, vae.cluster == c])).chunk(2, dim=1))
    return torch.cat([h[0] for h in halves], 1), torch.cat([h[1] for h in halves], 1)


def decode(vae, z):
    if vae.shared_decoder:
        return vae.decoders[0](z)
    out, start = z.new_empty(len(z), len(vae.cluster)), 0
    for c, layer in enumerate(vae.decoders):
        out[:, vae.cluster == c] = layer(z[:, start : start + layer.in_features])
        start += layer.in_features
    return out


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("num_clusters", [1, 2, 3])
@pytest.mark.parametrize("reweight", [True, False])
def test_the_loss_equals_that_of_dense_rows(monkeypatch, shared, num_clusters, reweight):
    model = make(
        shared_decoder=shared, num_clusters=num_clusters, reweight=reweight, num_steps=5,
        kl_steps=10, diffusion_epochs=4, diffusion_weight=0.8, batch_size=7,
    )  # fmt: skip
    model.updates.fill_(5)  # two updates per epoch: two epochs are complete
    users, step = torch.tensor([4, 0, 7, 11, 2]), torch.tensor([0, 1, 2, 3, 4])
    importance = torch.rand(5, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(model.steps, "sample", lambda num, generator: (step, importance))
    found = model.loss(users, torch.Generator().manual_seed(5))

    again = torch.Generator().manual_seed(5)
    x = dense(model)[users]
    row, item, *_ = model.graph.rows(users)
    x[row, item] = (torch.rand(len(row), generator=again) >= 0.1) / 0.9
    mean, log_variance = encode(model.vae, x)
    z = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=again)
    bar = BARS[step].float().unsqueeze(1)
    z_t = bar.sqrt() * z + (1 - bar).sqrt() * torch.randn(z.shape, generator=again)
    predicted = model.net(z_t, step + 1, again)
    error = (z - predicted).square().mean(dim=1)
    if reweight:
        snr = BARS / (1 - BARS)
        weight = torch.cat([torch.ones(1, dtype=torch.float64), snr[:-1] - snr[1:]]).float()
        error = error * weight[step]
    diffusion = (importance * error).mean()
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    divergence = torch.distributions.kl_divergence(posterior, prior).sum(dim=1).mean()
    likelihood = (x * F.log_softmax(decode(model.vae, predicted), dim=1)).sum(dim=1).mean()
    autoencoder = 0.3 * divergence - likelihood
    weight = 0.8 * (1 - 2 / 4)
    expected = autoencoder + weight * diffusion if reweight else weight * autoencoder + diffusion
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert model.updates == 6


@pytest.mark.parametrize(
    ("updates", "expected"),
    [(0, (0.03, 0.0)), (20, (0.03 * (1 - 10 / 500), 0.1)), (2000, (0.005, 0.3))],
)
def test_the_weights_of_the_terms_follow_the_training(updates, expected):
    model = make(batch_size=6)  # two updates per epoch of 12 users
    model.updates.fill_(updates)
    assert model._weights() == pytest.approx(expected)


@pytest.mark.parametrize("shared", [True, False])
@torch.no_grad()
def test_scores_are_decoded_from_the_end_of_the_latent_chain(shared):
    model = make(shared_decoder=shared)
    bars = [1.0, *BARS.tolist()]
    z, _ = encode(model.vae, dense(model))
    for t in range(5, 0, -1):
        predicted = model.net(z, torch.full((12,), t))
        beta = 1 - bars[t] / bars[t - 1]
        one = beta * math.sqrt(bars[t - 1]) / (1 - bars[t])
        two = (1 - bars[t - 1]) * math.sqrt(1 - beta) / (1 - bars[t])
        z = one * predicted + two * z
    expected = decode(model.vae, z)
    torch.testing.assert_close(model(torch.arange(12)), expected, rtol=1e-4, atol=1e-5)


def test_sampling_steps_add_noise_of_that_step():
    model = make()
    still = model.recommend([0, 1], k=9, exclude_seen=False)[1]
    noisy = model.recommend([0, 1], k=9, exclude_seen=False, sampling_steps=5)[1]
    assert not torch.allclose(still, noisy, atol=1e-3)
    again = make(sampling_steps=5).recommend([0, 1], k=9, exclude_seen=False)[1]
    torch.testing.assert_close(again, noisy)
    with pytest.raises(ConfigError, match="step 6 of a diffusion of 5 steps"):
        model.recommend(0, k=2, sampling_steps=6)


def test_latent_channels_are_proportional_to_cluster_sizes():
    cluster = torch.tensor([2, 0, 0, 1, 0, 0, 2, 0])
    vae = ClusterVAE(cluster, 8, shared_decoder=False)
    assert [d.in_features for d in vae.decoders] == [5, 1, 2]
    assert [(e.in_features, e.out_features) for e in vae.encoders] == [(5, 10), (1, 2), (2, 4)]
    tiny = ClusterVAE(torch.tensor([0] * 9 + [1]), 2)
    assert [e.out_features for e in tiny.encoders] == [2, 2]
    with pytest.raises(ConfigError, match="3 item clusters cannot share 2 latent channels"):
        ClusterVAE(cluster, 2)


@pytest.mark.parametrize("shared", [True, False])
def test_saved_clusters_are_restored(shared):
    one = ClusterVAE(torch.tensor([0, 1, 0, 0, 1, 0]), 5, shared)
    other = ClusterVAE(torch.tensor([1, 1, 0, 1, 0, 1]), 5, shared)
    other.load_state_dict(one.state_dict())
    rows = torch.eye(6)[[0, 1, 4]]
    assert torch.equal(other.cluster, one.cluster)
    torch.testing.assert_close(encode(other, rows), encode(one, rows))
    z = torch.randn(3, 5)
    torch.testing.assert_close(other.decode(z), decode(one, z))


def test_the_denoiser_has_its_own_learning_rate():
    data = random_data()
    model = make(data=data, lr=0.5, denoiser_lr=0.25)
    module = RecommenderModule(model, data, 0, StopRequest())
    groups = module.configure_optimizers().param_groups
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert {rate[id(p)] for p in model.net.parameters()} == {0.25}
    assert {rate[id(p)] for p in model.vae.parameters()} == {0.5}
    assert len(rate) == len(list(model.parameters()))


def test_it_learns_which_items_co_occur():
    users = torch.arange(40)
    pairs = {(u, i) for u in users.tolist() for i in range(8) if i % 2 == u % 2}
    held = {(u, (u // 2 % 4) * 2 + u % 2) for u in users.tolist()}
    data = build_data(40, 8, torch.tensor(sorted(pairs - held)).t())
    torch.manual_seed(0)
    model = LDiffRec.from_data(data, hidden_channels=8, denoiser_channels=16, dropout=0.0, **NOISY)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        model.loss(users, generator).backward()
        optimizer.step()
    best, _ = model.recommend(users, k=1)
    assert {(u, i) for u, (i,) in enumerate(best.tolist())} == held
