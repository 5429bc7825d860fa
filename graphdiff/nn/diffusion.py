"""The noise schedule of a diffusion, and the importance sampling of its steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, Self

import torch
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.nn.constants import constant
from graphdiff.nn.parts import Part


class Schedule(Protocol):
    """The methods of a noise schedule that models use; :class:`DiffusionSchedule` has them.

    A schedule that models save and move with them is a :class:`torch.nn.Module` too.
    """

    #: T.
    num_steps: int

    def add_noise(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return rows at the steps ``t``; see :meth:`DiffusionSchedule.add_noise`."""

    def step(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Take one step of the reverse chain; see :meth:`DiffusionSchedule.step`."""


class DiffusionSchedule(Part):
    r"""A variance schedule of Gaussian diffusion.

    .. math::
        q(x_t | x_0) = \mathcal{N}(\sqrt{\bar\alpha_t}\, x_0, (1 - \bar\alpha_t) I)

    for :math:`t = 1 … T`. Step 0 stands for the *observed* row, with
    :math:`\bar\alpha_0 = 1`. All methods are linear in the row, so they apply to rows ``[B, I]``
    and to rows that were multiplied by a matrix, ``[B, d]``, alike.

    Schedules are made by :meth:`linear`, :meth:`cosine` or, from any variances,
    :meth:`from_variances`.

    Args:
        variances: :math:`1 - \bar\alpha_t` of the steps 1 … T, in (0, 1) and not decreasing.

    Raises:
        ConfigError: If a variance is outside (0, 1), or smaller than the one before it.

    Example:
        >>> schedule = DiffusionSchedule.linear(num_steps=4, noise_scale=0.4, noise_min=0.25)
        >>> schedule
        DiffusionSchedule(num_steps=4, variance_T=0.4)
        >>> x_0, noise, t = torch.ones(2, 3), torch.zeros(2, 3), torch.tensor([0, 4])
        >>> schedule.add_noise(x_0, noise, t)[:, 0]
        tensor([1.0000, 0.7746])

    Source: posterior and sampling follow Ho et al., arXiv 2006.11239, equations 6 and 7.
    """

    # 1 - ᾱ and not ᾱ: float32 cannot distinguish ᾱ from 1 where DiffRec's variances are 1e-5.
    variance: Tensor

    def __init__(self, variances: Sequence[float]) -> None:
        super().__init__()
        variance = torch.as_tensor(variances, dtype=torch.float64).flatten()
        if not _is_schedule(variance):
            raise ConfigError(f"the schedule has {_range(variance)}")
        self.num_steps = variance.numel()
        variance = torch.cat([torch.zeros(1, dtype=torch.float64), variance])
        # Derived from the arguments, so it is not saved with a model.
        self.register_buffer("variance", variance.float(), persistent=False)

    @classmethod
    def from_variances(cls, variances: Tensor | Sequence[float]) -> Self:
        r"""Return a schedule with the given variances.

        Args:
            variances: :math:`1 - \bar\alpha_t` of the steps 1 … T, ``[T]``.

        Raises:
            ConfigError: If a variance is outside (0, 1), or smaller than the one before it.
        """
        # Plain numbers, which a saved model can hold.
        return cls(torch.as_tensor(variances, dtype=torch.float64).flatten().tolist())

    @classmethod
    def linear(
        cls,
        num_steps: int = 20,
        noise_scale: float = 0.1,
        noise_min: float = 0.01,
        noise_max: float = 1.0,
        first_variance: float | None = None,
    ) -> Self:
        r"""Return DiffRec's schedule, which is linear in the variance:

        .. math::
            1 - \bar\alpha_t = s \Big[\alpha_{min} + \tfrac{t - 1}{T - 1}
            (\alpha_{max} - \alpha_{min})\Big].

        Args:
            num_steps: Number of steps T.
            noise_scale: s.
            noise_min: :math:`\alpha_{min}`.
            noise_max: :math:`\alpha_{max}`.
            first_variance: If given, :math:`\beta_1`, in place of the formula's value. The other
                :math:`\beta_t = 1 - \bar\alpha_t / \bar\alpha_{t-1}` keep theirs. DiffRec's
                public code sets it to 1e-5, DiffMM's to 1e-4.

        Raises:
            ConfigError: If a variance is outside (0, 1), or smaller than the one before it.

        Source: DiffRec (arXiv 2304.04971, section 3.2); LD4MRec diffuses its rows with it.
        """
        variance = noise_scale * torch.linspace(
            noise_min, noise_max, num_steps, dtype=torch.float64
        )
        if first_variance is not None:
            variance = 1 - (1 - first_variance) * (1 - variance) / (1 - variance[0])
        if not _is_schedule(variance):
            raise ConfigError(
                f"noise_scale={noise_scale}, noise_min={noise_min}, noise_max={noise_max} give "
                f"{_range(variance)}"
            )
        return cls.from_variances(variance)

    @classmethod
    def cosine(cls, num_steps: int = 20, offset: float = 0.008, largest: float = 0.999) -> Self:
        r"""Return the cosine schedule,

        .. math::
            \bar\alpha_t = \frac{f(t)}{f(0)}, \qquad
            f(t) = \cos^2\Big(\frac{t / T + s}{1 + s} \cdot \frac{\pi}{2}\Big).

        Args:
            num_steps: Number of steps T.
            offset: s, which keeps the first steps from being too small.
            largest: Upper limit of :math:`\beta_t = 1 - \bar\alpha_t / \bar\alpha_{t-1}`.

        Raises:
            ConfigError: If a variance is outside (0, 1), or smaller than the one before it.

        Source: Nichol and Dhariwal, arXiv 2102.09672, equation 17.
        """
        t = torch.arange(num_steps + 1, dtype=torch.float64)
        f = ((t / num_steps + offset) / (1 + offset) * math.pi / 2).cos().square()
        beta = (1 - f[1:] / f[:-1]).clamp(max=largest)
        return cls.from_variances(1 - (1 - beta).cumprod(dim=0))

    @property
    def alpha_bar(self) -> Tensor:
        r""":math:`\bar\alpha_t` of the steps 0 … T, float ``[T + 1]``."""
        return 1 - self.variance

    def _at(self, t: Tensor, like: Tensor) -> Tensor:
        return self.variance.index_select(0, t).to(like.dtype).view(-1, *[1] * (like.dim() - 1))

    def add_noise(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        r"""Return :math:`x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon`.

        Args:
            x_0: Clean rows, ``[B, *]``.
            noise: :math:`\epsilon`, of the same shape.
            t: Steps, long ``[B]``, 0 … T; 0 returns ``x_0``.
        """
        variance = self._at(t, x_0)
        signal = (constant(1.0, variance) - variance).sqrt_()
        return signal * x_0 + variance.sqrt() * noise

    def posterior(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return mean and variance of :math:`q(x_{t-1} | x_t, x_0)`.

        Args:
            x_0: Clean (or predicted) rows, ``[B, *]``.
            x_t: Rows at step ``t``, same shape.
            t: Long ``[B]``, 1 … T.

        Returns:
            Mean, of the rows' shape, and variance, ``[B, 1, …]``; at ``t = 1`` these are ``x_0``
            and 0.
        """
        now, before = self._at(t, x_0), self._at(t - 1, x_0)
        fresh = (now - before) / now  # the share of the noise that this step added
        signal = 1 - before
        mean = fresh / signal.sqrt() * x_0 + ((1 - now) / signal).sqrt() * (1 - fresh) * x_t
        return mean, fresh * before / signal

    def step(self, x_0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Take one step of the reverse chain, from ``t`` to ``t - 1``.

        Args:
            x_0: The network's prediction of the clean rows, ``[B, *]``.
            x_t: Rows at step ``t``, same shape.
            t: Long ``[B]``, 1 … T.
            noise: Standard normal noise of the same shape. Without it the result is the
                posterior mean, as in DiffRec's inference.
        """
        mean, variance = self.posterior(x_0, x_t, t)
        return mean if noise is None else mean + variance.sqrt() * noise

    def reverse(
        self, x: Tensor, predict: Callable[[Tensor, Tensor], Tensor], last: int = 0
    ) -> Tensor:
        """Walk the reverse chain from step T to step ``last``, along posterior means.

        Args:
            x: Rows at step T, ``[B, *]``.
            predict: The network: from rows and steps (long ``[B]``) to clean rows, ``[B, *]``.
            last: 0 … T; 0 gives the prediction at step 1.
        """
        for step in range(self.num_steps, last, -1):
            t = self.full(step, x)
            x = self.step(predict(x, t), x, t)
        return x

    def full(self, step: int, x: Tensor) -> Tensor:
        """Return the same step for all rows of ``x`` ``[B, *]``, long ``[B]``.

        Raises:
            ConfigError: If it is not in 0 … T.
        """
        if not 0 <= step <= self.num_steps:
            raise ConfigError(
                f"step {step} of a diffusion of {self.num_steps} steps; give 0 to {self.num_steps}"
            )
        return torch.full((x.size(0),), step, device=x.device)

    def elbo_weight(self, t: Tensor) -> Tensor:
        r"""Return the weight of the squared error of :math:`x_0` in the evidence lower bound.

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
        """Return the sizes for ``print``."""
        return f"num_steps={self.num_steps}, variance_T={self.variance[-1].item():.4g}"


class StepSampler(torch.nn.Module):
    r"""Importance sampling of diffusion steps.

    Step ``t`` is drawn with :math:`p_t \propto \sqrt{E[L_t^2]}`, estimated by a running mean of
    its squared losses. Its loss is weighted by :math:`1 / (p_t \cdot n)`, so that the expectation
    is that of uniform sampling.

    Args:
        num_steps: Number n of steps to draw from; values are 0 … n - 1.
        decay: Weight of the past in the running mean.
        uniform: Share of draws that are uniform, so that every step is drawn.

    Example:
        >>> sampler = StepSampler(num_steps=3)
        >>> t, weight = sampler.sample(5, torch.Generator().manual_seed(0))
        >>> weight  # uniform until losses are known
        tensor([1.0000, 1.0000, 1.0000, 1.0000, 1.0000])
        >>> sampler.update(torch.tensor([0]), torch.tensor([9.0]))
        >>> sampler.probability.argmax()
        tensor(0)

    Source: Nichol and Dhariwal, arXiv 2102.09672, section 3.3, as used by DiffRec and LD4MRec;
    the running mean in place of a window of ten losses is ours.
    """

    squared_loss: Tensor

    def __init__(self, num_steps: int, decay: float = 0.9, uniform: float = 0.1) -> None:
        super().__init__()
        self.num_steps, self.decay, self.uniform = num_steps, decay, uniform
        self.register_buffer("squared_loss", torch.ones(num_steps))

    def reset_parameters(self) -> None:
        """Reset all losses."""
        self.squared_loss.fill_(1.0)

    @property
    def probability(self) -> Tensor:
        """Probability of each step, float ``[n]``."""
        share = self.squared_loss.sqrt()
        return (1 - self.uniform) * share / share.sum() + self.uniform / self.num_steps

    def sample(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw steps.

        Args:
            num: Number of steps to draw.
            generator: Source of randomness, on the sampler's device.

        Returns:
            ``(t, weight)``, long and float ``[num]``; multiply each loss by its weight.
        """
        if self.uniform == 1:
            one, device = constant(1.0, self.squared_loss), self.squared_loss.device
            t = torch.randint(self.num_steps, (num,), generator=generator, device=device)
            return t, one.expand(num)
        probability = self.probability
        t = torch.multinomial(probability, num, replacement=True, generator=generator)
        return t, 1 / (probability[t] * self.num_steps)

    @torch.no_grad()
    def update(self, t: Tensor, loss: Tensor) -> None:
        """Record the losses ``[B]``, not weighted, of the steps ``t``, long ``[B]``; not where all
        draws are uniform."""
        if self.uniform == 1:
            return
        count = torch.zeros_like(self.squared_loss).index_add_(0, t, torch.ones_like(loss))
        total = torch.zeros_like(self.squared_loss).index_add_(0, t, loss.detach().square())
        seen = count > 0
        mean = total / count.clamp(min=1)
        new = self.decay * self.squared_loss + (1 - self.decay) * mean
        self.squared_loss.copy_(torch.where(seen, new, self.squared_loss))


class WindowStepSampler(StepSampler):
    r"""A :class:`StepSampler` over a window of the last losses of each step, as in DiffRec.

    :math:`E[L_t^2]` is the mean over the last ``window`` losses of step t. Steps are drawn
    uniformly until every window is full.

    Args:
        num_steps: Number n of steps to draw from; values are 0 … n - 1.
        window: Number of losses kept for each step.
        uniform: Share of draws that are uniform.

    Example:
        >>> sampler = WindowStepSampler(num_steps=2, window=1, uniform=0.0)
        >>> sampler.update(torch.tensor([0, 1]), torch.tensor([1.0, 3.0]))
        >>> sampler.probability
        tensor([0.2500, 0.7500])

    Source: Nichol and Dhariwal, arXiv 2102.09672, section 3.3, with the constants of DiffRec's
    public code.
    """

    history: Tensor
    count: Tensor

    def __init__(self, num_steps: int, window: int = 10, uniform: float = 0.001) -> None:
        super().__init__(num_steps, uniform=uniform)
        self.window = window
        self.register_buffer("history", torch.zeros(num_steps, window))
        self.register_buffer("count", torch.zeros(num_steps, dtype=torch.long))

    def reset_parameters(self) -> None:
        """Reset all losses."""
        super().reset_parameters()
        self.history.zero_()
        self.count.zero_()

    @torch.no_grad()
    def update(self, t: Tensor, loss: Tensor) -> None:
        """Record the losses ``[B]``, not weighted, of the steps ``t``, long ``[B]``."""
        t, order = t.sort(stable=True)
        new = torch.bincount(t, minlength=self.num_steps)
        rank = torch.arange(t.numel(), device=t.device) - (new.cumsum(0) - new)[t]
        # The window is a ring buffer; of more losses than fit, the last are kept.
        kept = rank >= new[t] - self.window
        t, place = t[kept], (self.count[t] + rank)[kept] % self.window
        self.history[t, place] = loss.detach()[order][kept].to(self.history.dtype)
        self.count += new
        if bool((self.count >= self.window).all()):
            self.squared_loss.copy_(self.history.square().mean(dim=1))


def _is_schedule(variance: Tensor) -> bool:
    """Return whether these are variances of a schedule, ``[T]``."""
    grows = bool((variance.diff() >= 0).all())
    return variance.numel() > 0 and grows and bool(variance[0] > 0) and bool(variance[-1] < 1)


def _range(variance: Tensor) -> str:
    first, last = (variance[0], variance[-1]) if variance.numel() else (torch.nan, torch.nan)
    return f"variances from {first:g} to {last:g}; they must lie in (0, 1) and not shrink"
