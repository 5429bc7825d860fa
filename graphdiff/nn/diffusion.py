"""The noise schedule as an object of its own, and the importance sampling of its steps."""

from __future__ import annotations

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
        first_variance: Variance added by step 1, in place of the schedule's own; the later steps
            add what they would have added. DiffRec's and DiffMM's code set it to 1e-4.

    Raises:
        ConfigError: If a variance would leave (0, 1) or shrink with t.

    Source: the schedule of DiffRec (arXiv 2304.04971, section 3.2), which LD4MRec diffuses its
    rows with; posterior and sampling follow Ho et al., arXiv 2006.11239, equations 6 and 7.
    """

    alpha_bar: Tensor
    snr: Tensor

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
        if not (variance[0] > 0 and variance[-1] < 1 and noise_min <= noise_max):
            raise ConfigError(
                f"noise_scale={noise_scale}, noise_min={noise_min}, noise_max={noise_max} give "
                f"variances from {variance[0]:g} to {variance[-1]:g}; "
                f"they must lie in (0, 1) and not shrink"
            )
        self.num_steps = num_steps
        kept = 1 - variance
        if first_variance is not None:
            kept = kept * (1 - first_variance) / kept[0]
        alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), kept])
        # Derived from the settings, so not worth a place in a saved model.
        self.register_buffer("alpha_bar", alpha_bar.float(), persistent=False)
        # Signal-to-noise ratios, from double precision: 1 - alpha_bar cancels.
        self.register_buffer("snr", (alpha_bar / (1 - alpha_bar)).float(), persistent=False)

    def _at(self, t: Tensor, like: Tensor) -> Tensor:
        return self.alpha_bar[t].to(like.dtype).view(-1, *[1] * (like.dim() - 1))

    def add_noise(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        r""":math:`x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon`.

        Args:
            x_0: Clean rows, ``[B, *]``.
            noise: :math:`\epsilon`, of the same shape.
            t: Steps, long ``[B]``, 0 … T; 0 returns ``x_0``.
        """
        alpha_bar = self._at(t, x_0)
        return alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * noise

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
        alpha = now / before
        mean = (
            before.sqrt() * (1 - alpha) / (1 - now) * x_0
            + alpha.sqrt() * (1 - before) / (1 - now) * x_t
        )
        return mean, (1 - alpha) * (1 - before) / (1 - now)

    def elbo_weight(self, t: Tensor) -> Tensor:
        r"""Weight of the squared error of a predicted :math:`x_0` in the evidence lower bound.

        :math:`\mathrm{SNR}(t-1) - \mathrm{SNR}(t)` with :math:`\mathrm{SNR}(t) =
        \bar\alpha_t / (1 - \bar\alpha_t)`, and 1 at the first step, as DiffRec's and DiffMM's code
        has it: the bound's factor of one half is left out.

        Args:
            t: Long ``[B]``, 1 … T.

        Returns:
            ``[B]``.
        """
        return torch.where(t == 1, 1.0, self.snr[t - 1] - self.snr[t])

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

    def extra_repr(self) -> str:
        """Sizes for ``print``."""
        return f"num_steps={self.num_steps}, alpha_bar_T={self.alpha_bar[-1].item():.4g}"


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
