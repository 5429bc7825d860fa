"""The denoiser and the time embedding against their formulas."""

import math

import pytest
import torch

from graphdiff.nn.denoiser import Denoiser, timestep_embedding


@pytest.mark.parametrize("channels", [1, 2, 5, 8])
def test_time_embedding_equals_its_formula(channels):
    half = channels // 2
    found = timestep_embedding(torch.tensor([0, 1, 37]), channels, max_period=50.0)
    for row, t in zip(found.tolist(), (0, 1, 37), strict=True):
        angles = [t * 50.0 ** (-k / half) for k in range(half)]
        expected = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
        assert row == pytest.approx(expected + [0.0] * (channels % 2), abs=1e-5)


def make(hidden=(5, 4), **settings):
    torch.manual_seed(0)
    denoiser = Denoiser(7, hidden, time_channels=3, **settings)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return denoiser.double()


def expected(denoiser, x_t, t):
    """One matrix for row and time together, layer by layer."""
    time = timestep_embedding(t - 1, 3).double() @ denoiser.time.weight.T + denoiser.time.bias
    first = torch.cat([denoiser.row_encoder.weight, denoiser.time_encoder.weight], dim=1)
    hidden = torch.tanh(torch.cat([x_t, time], dim=1) @ first.T + denoiser.time_encoder.bias)
    for layer in denoiser.inner:
        hidden = torch.tanh(hidden @ layer.weight.T + layer.bias)
    return hidden @ denoiser.decoder.weight.T + denoiser.decoder.bias


@pytest.mark.parametrize("hidden", [(5,), (5, 4), (6, 2, 3)])
@pytest.mark.parametrize("normalize", [False, True])
def test_it_equals_one_layer_over_row_and_time(hidden, normalize):
    denoiser = make(hidden, normalize=normalize)
    x_t, t = torch.randn(4, 7, dtype=torch.float64), torch.tensor([1, 2, 9, 1])
    row = x_t / x_t.norm(dim=1, keepdim=True) if normalize else x_t
    torch.testing.assert_close(denoiser(x_t, t), expected(denoiser, row, t))


def test_a_row_of_zeros_stays_zero_when_normalised():
    denoiser = make(normalize=True)
    zero, t = torch.zeros(1, 7, dtype=torch.float64), torch.tensor([3])
    torch.testing.assert_close(denoiser(zero, t), expected(denoiser, zero, t))


def test_rows_may_come_in_encoded():
    denoiser = make()
    x_t, t = torch.randn(4, 7, dtype=torch.float64), torch.tensor([1, 2, 9, 1])
    encoded = x_t @ denoiser.row_encoder.weight.T
    torch.testing.assert_close(denoiser.encode(x_t), encoded)
    torch.testing.assert_close(denoiser.decoder(denoiser.hidden(encoded, t)), denoiser(x_t, t))


def test_a_generator_drops_entries_of_the_row_alone():
    denoiser = make(dropout=0.5)
    x_t, t = torch.randn(4, 7, dtype=torch.float64), torch.tensor([1, 2, 9, 1])
    found = denoiser(x_t, t, torch.Generator().manual_seed(3))
    kept = torch.rand(x_t.shape, generator=torch.Generator().manual_seed(3)) >= 0.5
    assert 0 < kept.sum() < kept.numel()
    torch.testing.assert_close(found, expected(denoiser, 2 * x_t * kept, t))
    # Without one the result does not depend on the mode.
    torch.testing.assert_close(denoiser.train()(x_t, t), denoiser.eval()(x_t, t))


def test_weights_start_as_those_of_one_layer():
    torch.manual_seed(0)
    denoiser = Denoiser(3000, (400,), time_channels=50)
    first = torch.cat([denoiser.row_encoder.weight, denoiser.time_encoder.weight], dim=1)
    assert first.std().item() == pytest.approx(math.sqrt(2 / (3050 + 400)), rel=0.02)
    std = denoiser.time_encoder.weight.std().item()
    assert std == pytest.approx(math.sqrt(2 / (3050 + 400)), rel=0.05)
    assert denoiser.decoder.bias.std().item() == pytest.approx(1e-3, rel=0.1)
