"""The noise schedule as an object of its own, and the importance sampling of its steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from graphdiff.errors import ConfigError


class DiffusionSchedule(torch.nn.Module):
    r"""Gaussian diffusion with DiffRec's linear variance schedule.

    .. math::
        q(x_t | x_0) = \mathcal{N}(\sqrt{\bar\alpha_t}\, x_0, (1 - \bar\alpha_t) I), \qquad
        1 - \bar\alpha_t = s \Big[\alpha_{min} + \tfrac{t - 1}{T - 1}
        (\alpha_{max} - \alpha_{min})\Big],

    for :math:`t = 1 … T`. Step 0 stands for the *observed* row, with
    :math:`\bar\alpha_0 = 1`. Everything here is linear in the row, so it works alike on rows
    ``[B, I]`` and on rows that were already multiplied by a matrix, ``[B, d]``.

    Args:
        num_steps: Number of steps T.
        noise_scale: s.
        noise_min: :math:`\alpha_{min}`.
        noise_max: :math:`\alpha_{max}`.
        first_variance: If given, :math:`\beta_1`, in place of what the formula gives. The other
            :math:`\beta_t = 1 - \bar\alpha_t / \bar\alpha_{t-1}` stay as they are. DiffRec's public
            code sets it to 1e-5, DiffMM's to 1e-4.

    Raises:
        ConfigError: If a variance would leave (0, 1) or shrink with t.

    Source: the schedule of DiffRec (arXiv 2304.04971, section 3.2), which LD4MRec diffuses its
    rows with; posterior and sampling follow Ho et al., arXiv 2006.11239, equations 6 and 7.
    """

    # 1 - ᾱ and not ᾱ, which float32 could not tell from 1 where DiffRec's variances are 1e-5.
    variance: Tensor

    def __init__(
        self,
        num_steps: int = 20,
        noise_scale: float = 0.1,
        noise_min: float = 0.01,
        noise_max: float = 1.0,
        first_variance: float | None = None,
    ) -> None:
        super().__init__()
        variance = noise_scale * torch.linspace(
            noise_min, noise_max, num_steps, dtype=torch.float64
        )
        if first_variance is not None:
            variance = 1 - (1 - first_variance) * (1 - variance) / (1 - variance[0])
        if not (variance[0] > 0 and variance[-1] < 1 and noise_min <= noise_max):
            raise ConfigError(
                f"noise_scale={noise_scale}, noise_min={noise_min}, noise_max={noise_max} give "
                f"variances from {variance[0]:g} to {variance[-1]:g}; "
                f"they must lie in (0, 1) and not shrink"
            )
        self.num_steps = num_steps
        variance = torch.cat([torch.zeros(1, dtype=torch.float64), variance])
        # Derived from the settings, so not worth a place in a saved model.
        self.register_buffer("variance", variance.float(), persistent=False)

    @property
    def alpha_bar(self) -> Tensor:
        r""":math:`\bar\alpha_t`, float ``[T + 1]``."""
        return 1 - self.variance

    def _at(self, t: Tensor, like: Tensor) -> Tensor:
        return self.variance[t].to(like.dtype).view(-1, *[1] * (like.dim() - 1))

    def add_noise(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        r""":math:`x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon`.

        Args:
            x_0: Clean rows, ``[B, *]``.
            noise: :math:`\epsilon`, of the same shape.
            t: Steps, long ``[B]``, 0 … T; 0 returns ``x_0``.
        """
        variance = self._at(t, x_0)
        return (1 - variance).sqrt() * x_0 + variance.sqrt() * noise

    def posterior(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean and variance of :math:`q(x_{t-1} | x_t, x_0)`.

        Args:
            x_0: Clean (or predicted) rows, ``[B, *]``.
            x_t: Rows at step ``t``, same shape.
            t: Long ``[B]``, 1 … T.

        Returns:
            Mean, of the rows' shape, and variance, ``[B, 1, …]``; at ``t = 1`` these are ``x_0``
            and 0.
        """
        now, before = self._at(t, x_0), self._at(t - 1, x_0)
        fresh = (now - before) / now  # the share of the noise that this step brought
        signal = 1 - before
        mean = fresh / signal.sqrt() * x_0 + ((1 - now) / signal).sqrt() * (1 - fresh) * x_t
        return mean, fresh * before / signal

    def step(self, x_0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """One step of the reverse chain, from ``t`` to ``t - 1``.

        Args:
            x_0: The network's prediction of the clean rows, ``[B, *]``.
            x_t: Rows at step ``t``, same shape.
            t: Long ``[B]``, 1 … T.
            noise: Standard normal noise of the same shape; without it the posterior mean is
                taken, as DiffRec does at inference.
        """
        mean, variance = self.posterior(x_0, x_t, t)
        return mean if noise is None else mean + variance.sqrt() * noise

    def reverse(
        self, x: Tensor, predict: Callable[[Tensor, Tensor], Tensor], last: int = 0
    ) -> Tensor:
        """The whole reverse chain, from step T to step ``last``, along posterior means.

        Args:
            x: Rows taken to be at step T, ``[B, *]``.
            predict: The network: from rows and steps (long ``[B]``) to clean rows, ``[B, *]``.
            last: 0 … T; 0 gives the prediction at step 1.
        """
        for step in range(self.num_steps, last, -1):
            t = self.full(step, x)
            x = self.step(predict(x, t), x, t)
        return x

    def full(self, step: int, x: Tensor) -> Tensor:
        """The same step for all rows of ``x`` ``[B, *]``: long ``[B]``.

        Raises:
            ConfigError: If it is not in 0 … T.
        """
        if not 0 <= step <= self.num_steps:
            raise ConfigError(
                f"step {step} of a diffusion of {self.num_steps} steps; give 0 to {self.num_steps}"
            )
        return torch.full((x.size(0),), step, device=x.device)

    def elbo_weight(self, t: Tensor) -> Tensor:
        r"""What a squared error of the predicted :math:`x_0` counts for in the evidence bound.

        .. math::
            w_t = \frac{\bar\alpha_{t-1}}{1 - \bar\alpha_{t-1}} -
            \frac{\bar\alpha_t}{1 - \bar\alpha_t} \quad (t \ge 2), \qquad w_1 = 1.

        Args:
            t: Long ``[B]``, 1 … T.

        Returns:
            ``[B]``.

        Source: DiffRec, equations 9 to 11, without the factor 1/2, as in its public code.
        """
        now, before = self.variance[t], self.variance[t - 1]
        weight = (now - before) / (now * before.masked_fill(t == 1, 1))
        return weight.masked_fill(t == 1, 1)

    def extra_repr(self) -> str:
        """Sizes for ``print``."""
        return f"num_steps={self.num_steps}, variance_T={self.variance[-1].item():.4g}"


class StepSampler(torch.nn.Module):
    r"""Draws diffusion steps in proportion to how much they still have to teach.

    Step ``t`` is drawn with :math:`p_t \propto \sqrt{E[L_t^2]}`, by a running mean over its
    squared losses, and its loss is weighted by :math:`1 / (p_t \cdot n)` so that the expectation
    is that of uniform drawing.

    Args:
        num_steps: Number n of steps to draw from; values are 0 … n - 1.
        decay: Weight of the past in the running mean.
        uniform: Share of draws that stay uniform, so that no step starves.

    Source: Nichol and Dhariwal, arXiv 2102.09672, section 3.3, as used by DiffRec and LD4MRec;
    the running mean in place of a window of ten losses is ours.
    """

    squared_loss: Tensor

    def __init__(self, num_steps: int, decay: float = 0.9, uniform: float = 0.1) -> None:
        super().__init__()
        self.num_steps, self.decay, self.uniform = num_steps, decay, uniform
        self.register_buffer("squared_loss", torch.ones(num_steps))

    def reset_parameters(self) -> None:
        """Forgets all losses."""
        self.squared_loss.fill_(1.0)

    @property
    def probability(self) -> Tensor:
        """Float ``[n]``, summing to one."""
        share = self.squared_loss.sqrt()
        return (1 - self.uniform) * share / share.sum() + self.uniform / self.num_steps

    def sample(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws steps.

        Returns:
            ``(t, weight)``, long and float ``[num]``; multiply each loss by its weight.
        """
        probability = self.probability
        t = torch.multinomial(probability, num, replacement=True, generator=generator)
        return t, 1 / (probability[t] * self.num_steps)

    @torch.no_grad()
    def update(self, t: Tensor, loss: Tensor) -> None:
        """Takes in the losses ``[B]`` (not weighted) seen at the steps ``t`` ``[B]``."""
        count = torch.zeros_like(self.squared_loss).index_add_(0, t, torch.ones_like(loss))
        total = torch.zeros_like(self.squared_loss).index_add_(0, t, loss.detach().square())
        seen = count > 0
        mean = total / count.clamp(min=1)
        new = self.decay * self.squared_loss + (1 - self.decay) * mean
        self.squared_loss.copy_(torch.where(seen, new, self.squared_loss))


class WindowStepSampler(StepSampler):
    r"""A :class:`StepSampler` that looks at the last losses of each step, as DiffRec does.

    :math:`E[L_t^2]` is the mean over the last ``window`` losses of step t. Until every step has had
    so many, steps are drawn uniformly.

    Args:
        num_steps: Number n of steps to draw from; values are 0 … n - 1.
        window: Losses remembered for each step.
        uniform: Share of draws that stay uniform.

    Source: Nichol and Dhariwal, arXiv 2102.09672, section 3.3, with the numbers of DiffRec's public
    code.
    """

    history: Tensor
    count: Tensor

    def __init__(self, num_steps: int, window: int = 10, uniform: float = 0.001) -> None:
        super().__init__(num_steps, uniform=uniform)
        self.window = window
        self.register_buffer("history", torch.zeros(num_steps, window))
        self.register_buffer("count", torch.zeros(num_steps, dtype=torch.long))

    def reset_parameters(self) -> None:
        """Forgets all losses."""
        super().reset_parameters()
        self.history.zero_()
        self.count.zero_()

    @torch.no_grad()
    def update(self, t: Tensor, loss: Tensor) -> None:
        """Takes in the losses ``[B]`` (not weighted by importance) seen at the steps ``t``."""
        t, order = t.sort(stable=True)
        new = torch.bincount(t, minlength=self.num_steps)
        rank = torch.arange(t.numel(), device=t.device) - (new.cumsum(0) - new)[t]
        # A step's losses go round a ring; of more than fit, the last stay.
        kept = rank >= new[t] - self.window
        t, place = t[kept], (self.count[t] + rank)[kept] % self.window
        self.history[t, place] = loss.detach()[order][kept].to(self.history.dtype)
        self.count += new
        if bool((self.count >= self.window).all()):
            self.squared_loss.copy_(self.history.square().mean(dim=1))
