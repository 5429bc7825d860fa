"""The autoencoder of item clusters against one dense layer per cluster."""

import math

import pytest
import torch

from graphdiff.errors import ConfigError
from graphdiff.graph import Rows
from graphdiff.models.ldiffrec.cluster_vae import ClusterVAE

CLUSTER = torch.tensor([1, 0, 2, 1, 1, 0, 2, 1])


def make(shared=True, channels=6):
    torch.manual_seed(0)
    vae = ClusterVAE(CLUSTER, channels, shared)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return vae.double()


def rows():
    x = torch.rand(5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[x < 0.5] = 0
    x[3] = 0
    row, item = x.nonzero().t()
    return x, Rows(row, item, 5), x[row, item]


def test_each_cluster_is_encoded_by_its_own_layer():
    vae = make()
    x, sparse, value = rows()
    mean, log_variance = vae.encode(sparse, value)
    assert mean.shape == log_variance.shape == (5, 6)
    start = 0
    for c, layer in enumerate(vae.encoders):
        out = torch.tanh(x[:, c == CLUSTER] @ layer.weight.T + layer.bias)
        width = layer.out_features // 2
        found = torch.cat([mean, log_variance], dim=1)[
            :, [*range(start, start + width), *range(6 + start, 6 + start + width)]
        ]
        torch.testing.assert_close(found, out)
        start += width
    assert start == 6


def test_channels_are_split_by_the_size_of_the_clusters():
    assert [layer.out_features // 2 for layer in make(channels=8).encoders] == [2, 4, 2]
    assert [layer.out_features // 2 for layer in make(channels=3).encoders] == [1, 1, 1]
    with pytest.raises(ConfigError, match="3 item clusters cannot share 2 latent channels"):
        make(channels=2)


def test_a_shared_decoder_is_one_linear_layer():
    vae, latent = make(), torch.randn(4, 6, dtype=torch.float64)
    (layer,) = vae.decoders
    torch.testing.assert_close(vae.decode(latent), latent @ layer.weight.T + layer.bias)


def test_decoders_of_clusters_use_their_own_channels():
    vae, latent = make(shared=False), torch.randn(4, 6, dtype=torch.float64)
    expected, start = torch.empty(4, 8, dtype=torch.float64), 0
    for c, layer in enumerate(vae.decoders):
        part = latent[:, start : start + layer.in_features]
        expected[:, c == CLUSTER] = part @ layer.weight.T + layer.bias
        start += layer.in_features
    torch.testing.assert_close(vae.decode(latent), expected)
    weight, bias = vae.decoder_tables()
    torch.testing.assert_close(latent @ weight.T + bias, expected)


@pytest.mark.parametrize("shared", [True, False])
def test_gradients_equal_those_of_dense_rows(shared):
    vae = make(shared)
    x, sparse, value = rows()
    mean, _ = vae.encode(sparse, value)
    vae.decode(mean).square().sum().backward()
    found = [p.grad.clone() for p in vae.parameters()]
    vae.zero_grad()
    halves = [torch.tanh(layer(x[:, c == CLUSTER])) for c, layer in enumerate(vae.encoders)]
    mean = torch.cat([half.chunk(2, dim=1)[0] for half in halves], dim=1)
    vae.decode(mean).square().sum().backward()
    for one, parameter in zip(found, vae.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)


@pytest.mark.parametrize("shared", [True, False])
def test_saved_clusters_replace_those_of_this_machine(shared):
    saved = make(shared)
    other = ClusterVAE(CLUSTER.flip(0), 6, shared).double()
    other.load_state_dict(saved.state_dict())
    _, sparse, value = rows()
    for one, expected in zip(other.encode(sparse, value), saved.encode(sparse, value), strict=True):
        assert torch.equal(one, expected)
    assert torch.equal(other.decode(one), saved.decode(one))


def test_weights_start_as_xavier_normal_and_biases_as_zero():
    torch.manual_seed(0)
    vae = ClusterVAE(torch.arange(4000) % 2, 100)
    for layer in (*vae.encoders, *vae.decoders):
        fan = layer.in_features + layer.out_features
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan), rel=0.02)
        assert not layer.bias.any()
