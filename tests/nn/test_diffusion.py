"""The diffusion schedule and the sampling of its steps."""

import math
from itertools import pairwise

import pytest
import torch

from graphdiff.errors import ConfigError
from graphdiff.nn.diffusion import DiffusionSchedule, StepSampler, WindowStepSampler
from graphdiff.nn.parts import build_part, describe_part


def test_schedule_is_linear_in_the_variance():
    schedule = DiffusionSchedule.linear(num_steps=5, noise_scale=0.5, noise_min=0.2, noise_max=1.0)
    expected = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    torch.testing.assert_close(1 - schedule.alpha_bar, expected)


def test_step_zero_is_the_observed_row():
    schedule = DiffusionSchedule.linear()
    x_0, noise = torch.randn(3, 4), torch.randn(3, 4)
    assert torch.equal(schedule.add_noise(x_0, noise, torch.zeros(3, dtype=torch.long)), x_0)


def test_noise_has_the_variance_of_the_schedule():
    schedule = DiffusionSchedule.linear(num_steps=10, noise_scale=0.8)
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.full((100_000, 1), 2.0)
    t = torch.full((100_000,), 7)
    x_t = schedule.add_noise(x_0, torch.randn(x_0.shape, generator=generator), t)
    alpha_bar = schedule.alpha_bar[7]
    assert x_t.mean().item() == pytest.approx(2 * alpha_bar.sqrt().item(), abs=0.01)
    assert x_t.var().item() == pytest.approx(1 - alpha_bar.item(), rel=0.02)


def test_posterior_agrees_with_bayes_rule():
    schedule = DiffusionSchedule.linear(num_steps=6, noise_scale=0.9)
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
    schedule = DiffusionSchedule.linear(num_steps=6)
    x_0, x_t = torch.randn(2, 3), torch.randn(2, 3)
    out = schedule.step(x_0, x_t, torch.ones(2, dtype=torch.long), noise=torch.randn(2, 3))
    torch.testing.assert_close(out, x_0)


def test_schedule_commutes_with_a_linear_encoder():
    schedule = DiffusionSchedule.linear(num_steps=6)
    x_0, x_t, table = torch.randn(2, 9), torch.randn(2, 9), torch.randn(9, 3)
    t = torch.tensor([2, 5])
    torch.testing.assert_close(
        schedule.step(x_0, x_t, t) @ table, schedule.step(x_0 @ table, x_t @ table, t)
    )


def test_any_increasing_variances_make_a_schedule():
    variances = [0.1, 0.1, 0.25, 0.9]
    for given in (variances, torch.tensor(variances, dtype=torch.float64)):
        schedule = DiffusionSchedule.from_variances(given)
        assert schedule.num_steps == 4
        torch.testing.assert_close(schedule.variance, torch.tensor([0.0, *variances]))
    linear = DiffusionSchedule.linear(num_steps=7, noise_scale=0.3)
    again = DiffusionSchedule.from_variances(0.3 * torch.linspace(0.01, 1, 7).double())
    torch.testing.assert_close(linear.variance, again.variance)


@pytest.mark.parametrize("variances", [[], [0.0, 0.5], [0.5, 1.0], [0.5, 0.4], [float("nan")]])
def test_variances_that_are_no_schedule_are_refused(variances):
    with pytest.raises(ConfigError, match=r"variances from .* must lie in"):
        DiffusionSchedule.from_variances(variances)


def test_the_cosine_schedule_follows_its_formula():
    schedule = DiffusionSchedule.cosine(num_steps=10)

    def f(t):
        return math.cos((t / 10 + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = [f(t) / f(0) for t in range(10)]
    assert schedule.alpha_bar[:10].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    # The last step would remove everything; it is limited.
    assert 1 - schedule.alpha_bar[10] / schedule.alpha_bar[9] == pytest.approx(0.999, abs=1e-4)


def test_a_saved_schedule_is_rebuilt_from_its_description():
    schedule = DiffusionSchedule.cosine(num_steps=5)
    again = build_part(describe_part(schedule))
    assert torch.equal(again.variance, schedule.variance)


@pytest.mark.parametrize(
    "settings", [{"noise_scale": 0.0}, {"noise_scale": 1.2}, {"noise_min": 0.5, "noise_max": 0.1}]
)
def test_impossible_variances_are_refused(settings):
    with pytest.raises(ConfigError, match="variances from"):
        DiffusionSchedule.linear(**settings)


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


def betas(schedule):
    bars = (1 - schedule.variance.double()).tolist()
    return [1 - now / before for before, now in pairwise(bars)]


def test_a_fixed_first_step_leaves_the_other_steps_as_they_are():
    settings = {"num_steps": 4, "noise_scale": 0.8, "noise_min": 0.2, "noise_max": 0.9}
    plain, fixed = (
        DiffusionSchedule.linear(**settings),
        DiffusionSchedule.linear(**settings, first_variance=0.03),
    )
    assert betas(plain)[0] == pytest.approx(0.16)
    assert betas(fixed) == pytest.approx([0.03, *betas(plain)[1:]], rel=1e-5)


def test_tiny_variances_keep_their_digits():
    # DiffRec's on MovieLens, where float32 cannot hold 1 - variance.
    settings = {"num_steps": 40, "noise_scale": 0.005, "noise_min": 0.005, "noise_max": 0.01}
    schedule = DiffusionSchedule.linear(**settings, first_variance=1e-5)
    level = [0.005 * (0.005 + n / 39 * 0.005) for n in range(40)]
    expected = [1 - (1 - 1e-5) * (1 - v) / (1 - level[0]) for v in level]
    assert schedule.variance[1:].tolist() == pytest.approx(expected, rel=1e-6)
    snr = [(1 - v) / v for v in expected]
    weights = [1.0, *(before - now for before, now in pairwise(snr))]
    assert schedule.elbo_weight(torch.arange(1, 41)).tolist() == pytest.approx(weights, rel=1e-4)
    mean, _ = schedule.posterior(torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([30]))
    beta = 1 - (1 - expected[29]) / (1 - expected[28])
    share = beta * (1 - expected[28]) ** 0.5 / expected[29]
    assert mean.item() == pytest.approx(share, rel=1e-4)


def test_the_reverse_chain_is_step_after_step():
    schedule = DiffusionSchedule.linear(num_steps=3, noise_scale=0.9)
    start, seen = torch.randn(4, 5), []

    def predict(x, t):
        seen.append(t.tolist())
        return x.tanh()

    x = start
    for step in (3, 2, 1):
        x = schedule.step(x.tanh(), x, torch.full((4,), step))
    torch.testing.assert_close(schedule.reverse(start, predict), x)
    assert seen == [[3] * 4, [2] * 4, [1] * 4]
    one_left = schedule.reverse(start, predict, last=1)
    torch.testing.assert_close(one_left.tanh(), x)


def test_a_step_beyond_the_schedule_is_refused():
    with pytest.raises(ConfigError, match="step 4 of a diffusion of 3 steps; give 0 to 3"):
        DiffusionSchedule.linear(num_steps=3).full(4, torch.ones(2, 1))


class TestWindowStepSampler:
    def test_it_draws_by_the_last_losses_as_a_plain_list_would(self):
        sampler, kept = WindowStepSampler(4, window=3, uniform=0.2), [[] for _ in range(4)]
        generator = torch.Generator().manual_seed(0)
        for num in (3, 1, 9, 40, 2, 7):
            t = torch.randint(4, (num,), generator=generator)
            loss = torch.rand(num, generator=generator)
            sampler.update(t, loss)
            for step, value in zip(t.tolist(), loss.tolist(), strict=True):
                kept[step] = [*kept[step], value][-3:]
            if any(len(values) < 3 for values in kept):
                expected = torch.full((4,), 0.25)
            else:
                root = torch.tensor(kept).square().mean(dim=1).sqrt()
                expected = 0.8 * root / root.sum() + 0.05
            torch.testing.assert_close(sampler.probability, expected)
        assert not torch.allclose(sampler.probability, torch.full((4,), 0.25))

    def test_it_is_uniform_until_every_window_is_full(self):
        sampler = WindowStepSampler(2, window=2)
        sampler.update(torch.tensor([0, 0, 1]), torch.tensor([5.0, 5.0, 1.0]))
        assert sampler.probability.tolist() == [0.5, 0.5]
        sampler.update(torch.tensor([1]), torch.tensor([1.0]))
        torch.testing.assert_close(
            sampler.probability, 0.999 * torch.tensor([5 / 6, 1 / 6]) + 0.0005
        )
        sampler.reset_parameters()
        assert sampler.probability.tolist() == [0.5, 0.5]

    def test_what_it_remembers_is_saved(self):
        sampler, again = WindowStepSampler(2, window=3), WindowStepSampler(2, window=3)
        sampler.update(torch.tensor([0, 1] * 3), torch.arange(1.0, 7.0))
        again.load_state_dict(sampler.state_dict())
        for one in (sampler, again):
            one.update(torch.tensor([1]), torch.tensor([9.0]))
        assert torch.equal(sampler.probability, again.probability)
