import pytest
import torch

from graphdiff.errors import ConfigError
from graphdiff.nn.diffusion import DiffusionSchedule, StepSampler


def test_schedule_is_linear_in_the_variance():
    schedule = DiffusionSchedule(num_steps=5, noise_scale=0.5, noise_min=0.2, noise_max=1.0)
    expected = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    torch.testing.assert_close(1 - schedule.alpha_bar, expected)


def test_step_zero_is_the_observed_row():
    schedule = DiffusionSchedule()
    x_0, noise = torch.randn(3, 4), torch.randn(3, 4)
    assert torch.equal(schedule.add_noise(x_0, noise, torch.zeros(3, dtype=torch.long)), x_0)


def test_noise_has_the_variance_of_the_schedule():
    schedule = DiffusionSchedule(num_steps=10, noise_scale=0.8)
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.full((100_000, 1), 2.0)
    t = torch.full((100_000,), 7)
    x_t = schedule.add_noise(x_0, torch.randn(x_0.shape, generator=generator), t)
    alpha_bar = schedule.alpha_bar[7]
    assert x_t.mean().item() == pytest.approx(2 * alpha_bar.sqrt().item(), abs=0.01)
    assert x_t.var().item() == pytest.approx(1 - alpha_bar.item(), rel=0.02)


def test_posterior_agrees_with_bayes_rule():
    schedule = DiffusionSchedule(num_steps=6, noise_scale=0.9)
    t = torch.tensor([4])
    x_0, x_t = torch.tensor([[1.5]]), torch.tensor([[0.3]])
    before, now = schedule.alpha_bar[3], schedule.alpha_bar[4]
    alpha = now / before
    # The product of N(x_{t-1}; sqrt(before) x_0, 1 - before) and of
    # N(x_t; sqrt(alpha) x_{t-1}, 1 - alpha).
    precision = 1 / (1 - before) + alpha / (1 - alpha)
    mean = (before.sqrt() * x_0 / (1 - before) + alpha.sqrt() * x_t / (1 - alpha)) / precision
    found_mean, found_variance = schedule.posterior(x_0, x_t, t)
    torch.testing.assert_close(found_mean, mean)
    torch.testing.assert_close(found_variance.squeeze(), 1 / precision)


def test_the_last_reverse_step_returns_the_prediction():
    schedule = DiffusionSchedule(num_steps=6)
    x_0, x_t = torch.randn(2, 3), torch.randn(2, 3)
    out = schedule.step(x_0, x_t, torch.ones(2, dtype=torch.long), noise=torch.randn(2, 3))
    torch.testing.assert_close(out, x_0)


def test_schedule_commutes_with_a_linear_encoder():
    schedule = DiffusionSchedule(num_steps=6)
    x_0, x_t, table = torch.randn(2, 9), torch.randn(2, 9), torch.randn(9, 3)
    t = torch.tensor([2, 5])
    torch.testing.assert_close(
        schedule.step(x_0, x_t, t) @ table, schedule.step(x_0 @ table, x_t @ table, t)
    )


@pytest.mark.parametrize(
    "settings", [{"noise_scale": 0.0}, {"noise_scale": 1.2}, {"noise_min": 0.5, "noise_max": 0.1}]
)
def test_impossible_variances_are_refused(settings):
    with pytest.raises(ConfigError, match="variances from"):
        DiffusionSchedule(**settings)


def test_steps_with_larger_losses_are_drawn_more_often():
    sampler = StepSampler(4, decay=0.5, uniform=0.1)
    t = torch.arange(4)
    for _ in range(20):
        sampler.update(t, torch.tensor([1.0, 1.0, 1.0, 7.0]))
    torch.testing.assert_close(sampler.probability.sum(), torch.tensor(1.0))
    assert sampler.probability[3].item() == pytest.approx(0.9 * 0.7 + 0.025, abs=1e-3)
    drawn, _ = sampler.sample(20_000, torch.Generator().manual_seed(0))
    assert (drawn == 3).float().mean().item() == pytest.approx(0.655, abs=0.02)


def test_importance_weights_keep_the_expectation():
    sampler = StepSampler(5)
    losses = torch.tensor([0.1, 0.5, 1.0, 2.0, 4.0])
    sampler.update(torch.arange(5), losses)
    t, weight = sampler.sample(100_000, torch.Generator().manual_seed(0))
    assert (losses[t] * weight).mean().item() == pytest.approx(losses.mean().item(), rel=0.02)


def test_steps_without_news_keep_their_losses():
    sampler = StepSampler(3)
    before = sampler.squared_loss.clone()
    sampler.update(torch.tensor([1, 1]), torch.tensor([3.0, 3.0]))
    assert sampler.squared_loss[0] == before[0]
    assert sampler.squared_loss[2] == before[2]
    assert sampler.squared_loss[1] > before[1]
