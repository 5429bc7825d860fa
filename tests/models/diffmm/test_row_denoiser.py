"""DiffMM's denoiser against dense rows."""

import math

import torch

from graphdiff.graph.rows import Rows
from graphdiff.models.diffmm.row_denoiser import ReverseChain, RowDenoiser
from graphdiff.nn.diffusion import DiffusionSchedule

ROWS = Rows(torch.tensor([0, 0, 2]), torch.tensor([1, 4, 3]), 3)


def make(num_items=6, channels=5, time_channels=4):
    torch.manual_seed(0)
    return RowDenoiser(num_items, channels, time_channels).double()


def dense_network(denoiser, x, step):
    rate = [math.exp(-math.log(10000) * n / 2) for n in range(2)]
    signal = [math.cos((step - 1) * r) for r in rate] + [math.sin((step - 1) * r) for r in rate]
    emb = denoiser.step.weight @ torch.tensor(signal).double() + denoiser.step.bias
    x = torch.cat([x, emb.expand(len(x), -1)], dim=1)
    weight = torch.cat([denoiser.encoder.t(), denoiser.time.weight], dim=1)
    return torch.tanh(x @ weight.t() + denoiser.time.bias) @ denoiser.decoder.t() + denoiser.bias


def test_the_network_follows_the_paper():
    denoiser, x = make(), torch.randn(4, 6).double()
    for step in (1, 3, 5):
        found = denoiser(x, torch.full((4,), step))
        torch.testing.assert_close(found, dense_network(denoiser, x, step))


def test_the_chain_equals_a_chain_on_dense_rows():
    denoiser, schedule = make(), DiffusionSchedule.linear(5, 0.1, 1e-4, 0.02, first_variance=1e-4)
    # The same schedule written with betas, as DiffRec and DiffMM write it.
    variance = torch.linspace(0.1 * 1e-4, 0.1 * 0.02, 5, dtype=torch.float64)
    beta = torch.cat([variance[:1], 1 - (1 - variance[1:]) / (1 - variance[:-1])])
    beta[0] = 1e-4
    now = (1 - beta).cumprod(0)
    before = torch.cat([torch.ones(1).double(), now[:-1]])
    torch.testing.assert_close(schedule.alpha_bar[1:].double(), now)

    x = torch.zeros(3, 6).double()
    x[ROWS.row, ROWS.item] = 1
    for t in range(4, -1, -1):
        predicted = dense_network(denoiser, x, t + 1)
        x = (
            beta[t] * before[t].sqrt() / (1 - now[t]) * predicted
            + (1 - before[t]) * (1 - beta[t]).sqrt() / (1 - now[t]) * x
        )
    hidden = ReverseChain(denoiser, schedule)(ROWS)
    # The schedule is stored in single precision.
    torch.testing.assert_close(
        hidden @ denoiser.decoder.t() + denoiser.bias, x, rtol=1e-3, atol=1e-3
    )


def test_weights_have_the_variance_of_their_layer():
    torch.manual_seed(0)
    denoiser = RowDenoiser(300, 200, 10)
    assert abs(denoiser.encoder.std() / math.sqrt(2 / 510) - 1) < 0.02
    assert abs(denoiser.decoder.std() / math.sqrt(2 / 500) - 1) < 0.02
    assert denoiser.bias.abs().max() < 0.01


def test_elbo_weights_are_differences_of_signal_to_noise():
    schedule = DiffusionSchedule.linear(4, 0.1, 1e-4, 0.02, first_variance=1e-4)
    variance = torch.linspace(0.1 * 1e-4, 0.1 * 0.02, 4, dtype=torch.float64)
    kept = (1 - variance) * (1 - 1e-4) / (1 - variance[0])
    snr = kept / (1 - kept)
    expected = torch.cat([torch.ones(1).double(), snr[:-1] - snr[1:]])
    found = schedule.elbo_weight(torch.tensor([1, 2, 3, 4]))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
