"""Diffusion processes: corruptions of encoded rows, and their reverse steps."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.nn.constants import constant
from graphdiff.nn.diffusion import Schedule
from graphdiff.nn.encoded_noise import encode_noise
from graphdiff.nn.parts import Part


class EncodedRows(NamedTuple):
    r"""Rows in encoded form: what a process can know of them without a tensor ``[B, I]``.

    Attributes:
        values: x·Z, ``[B, H * d]``.
        smoothed: x·SZ, ``[B, H * d]``, the rows after one smoothing by the process's matrix S, or
            None where it has none.
        gram: :math:`Z^\top Z` of each head, ``[H, d, d]``.
        scale: Standard deviation of white noise with the rows' energy, ``[B]``.
    """

    values: Tensor
    smoothed: Tensor | None
    gram: Tensor
    scale: Tensor


class Process(Protocol):
    """The methods of a process that LD4MRec calls; :class:`RowProcess` documents and has them.

    A process that a model saves and moves with it is a :class:`torch.nn.Module` too.
    """

    #: T.
    num_steps: int

    def visible(self, chance: Tensor, rows: Rows, t: Tensor, share: float) -> Tensor:
        """Return which items the encoder sees; see :meth:`RowProcess.visible`."""

    def loss_weight(self, t: Tensor) -> Tensor:
        """Return the weights of losses; see :meth:`RowProcess.loss_weight`."""

    def inserted(self, rows: Rows, t: Tensor, items: Tensor, generator: torch.Generator) -> Rows:
        """Draw items to add to rows; see :meth:`RowProcess.inserted`."""

    def smooth(
        self, table: Tensor, graph: RecGraph, weights: Tensor, withheld: Tensor | None
    ) -> Tensor | None:
        """Return the smoothed item table; see :meth:`RowProcess.smooth`."""

    def corrupt(self, rows: EncodedRows, t: Tensor, noise: Tensor) -> Tensor:
        """Return rows at the steps ``t``; see :meth:`RowProcess.corrupt`."""

    def step(self, x_0: EncodedRows, x_t: Tensor, t: Tensor) -> Tensor:
        """Take one step of the reverse chain; see :meth:`RowProcess.step`."""


class RowProcess(Part):
    r"""Base of diffusion processes of rows, and the process that changes nothing.

    A process corrupts a row in up to three places, each a method: it hides items of the row
    (:meth:`visible`), adds items to it (:meth:`inserted`), and moves the encoded row
    (:meth:`corrupt`). :meth:`step` takes the encoded row one step back. Steps are 1 … T; step 0 is
    the observed row. A subclass overrides what it needs.

    Everything but hiding and adding happens in encoded form, x·Z, ``[B, H * d]``. What is linear in
    the row is exact there: noise (through the Gram matrix of Z), smoothing (a second table, SZ),
    and a step back.

    Args:
        num_steps: T.

    Example:
        >>> rows = EncodedRows(torch.ones(2, 4), None, torch.eye(4).unsqueeze(0), torch.ones(2))
        >>> RowProcess(num_steps=3).corrupt(rows, torch.tensor([1, 3]), torch.randn(2, 4))
        tensor([[1., 1., 1., 1.],
                [1., 1., 1., 1.]])
    """

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps

    def visible(self, chance: Tensor, rows: Rows, t: Tensor, share: float) -> Tensor:
        """Return which items of training rows the encoder sees, bool ``[nnz]``; the others are
        targets.

        Args:
            chance: Uniform random numbers, ``[nnz]``.
            rows: The rows.
            t: Steps, long ``[B]``.
            share: Share of items to hide where the process does not set it
                (``objective.input_dropout``); 0 in inference.
        """
        return chance >= constant(share, chance)

    def loss_weight(self, t: Tensor) -> Tensor:
        """Return weights of the losses of rows at the steps ``t``, long ``[B]``: float ``[B]``,
        with a mean of one over the steps 0 … T."""
        return constant(1.0, t, torch.float32).expand(t.shape)

    def inserted(self, rows: Rows, t: Tensor, items: Tensor, generator: torch.Generator) -> Rows:
        """Draw items that the diffused rows have in addition, as rows; by default there are none.

        Args:
            rows: The rows, with all their items.
            t: Steps, long ``[B]``.
            items: Items to draw from, long ``[n]``.
            generator: Source of randomness.
        """
        none = rows.item[:0]
        return Rows(none, none, rows.num)

    def smooth(
        self, table: Tensor, graph: RecGraph, weights: Tensor, withheld: Tensor | None
    ) -> Tensor | None:
        """Return the smoothed item table SZ, ``[I, d]``; None where the process does not smooth.

        Args:
            table: Z, ``[I, d]``.
            graph: Its items' graph.
            weights: Weights of the modalities of each item, ``[I, M]``.
            withheld: Positions of interactions that messages must not use, long ``[n]``.
        """
        return None

    def corrupt(self, rows: EncodedRows, t: Tensor, noise: Tensor) -> Tensor:
        """Return encoded rows at the steps ``t``, ``[B, H * d]``; step 0 returns them unchanged.

        Args:
            rows: The rows, without hidden items and with inserted ones.
            t: Steps, long ``[B]``, 0 … T.
            noise: White noise, ``[B, H * d]``.
        """
        return rows.values

    def step(self, x_0: EncodedRows, x_t: Tensor, t: Tensor) -> Tensor:
        """Take one step of the reverse chain, from ``t`` to ``t - 1``: ``[B, H * d]``.

        Args:
            x_0: The predicted rows.
            x_t: Encoded rows at step ``t``, ``[B, H * d]``.
            t: Long ``[B]``, 1 … T.
        """
        return x_0.values

    def extra_repr(self) -> str:
        """Return the sizes for ``print``."""
        return f"num_steps={self.num_steps}"


class GaussianProcess(RowProcess):
    r"""Gaussian noise on rows, :math:`\mathbf{x}_t = \sqrt{\bar\alpha_t}\,\mathbf{x} +
    \sqrt{1 - \bar\alpha_t}\,\sigma\epsilon`.

    Noise on a row, encoded, is Gaussian in d dimensions with covariance :math:`Z^\top Z`, so it is
    drawn there. Each head has its own noise.

    Args:
        schedule: Called as :class:`~graphdiff.nn.DiffusionSchedule` is.

    Source: DiffRec (arXiv 2304.04971) and LD4MRec (arXiv 2309.15363); the encoded noise is ours.

    Example:
        >>> from graphdiff.nn import DiffusionSchedule
        >>> process = GaussianProcess(DiffusionSchedule.linear(num_steps=2, noise_scale=0.5))
        >>> rows = EncodedRows(torch.ones(2, 4), None, torch.eye(4).unsqueeze(0), torch.ones(2))
        >>> process.corrupt(rows, torch.tensor([0, 2]), torch.ones(2, 4))[:, 0]
        tensor([1.0000, 1.4142])
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(int(schedule.num_steps))
        self.schedule = schedule

    def corrupt(self, rows: EncodedRows, t: Tensor, noise: Tensor) -> Tensor:
        """Add noise."""
        own_noise = encode_noise(rows.gram, rows.scale.unsqueeze(-1) * noise)
        return self.schedule.add_noise(rows.values, own_noise, t)

    def step(self, x_0: EncodedRows, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the mean of the step before."""
        return self.schedule.step(x_0.values, x_t, t)


class MaskingProcess(RowProcess):
    r"""Absorbing diffusion of rows: at step t each item is hidden with probability

    .. math::
        \rho_t = (t / T)^{(1 - m) / m},

    whose mean over the steps is m. A row of two or more items hides at least one, so that step 0,
    the step of inference, learns to predict one item from all others. As in the evidence lower
    bound of absorbing diffusion, losses are weighted by :math:`1 / \rho_t` (:math:`1 / \rho_1` for
    step 0), so that all steps count alike; they are scaled to a mean of one.

    A step back reveals, in the mean, the share :math:`(\rho_t - \rho_{t-1}) / \rho_t` of what is
    hidden: the encoded row moves by that share towards the predicted one.

    Args:
        num_steps: T.
        share: m, in (0, 1).

    Raises:
        ConfigError: If the share is outside (0, 1).

    Source: absorbing states are D3PM's (Austin et al., arXiv 2107.03006, section 4.2 and appendix
    A.3). The form of :math:`\rho_t`, the hidden item of step 0 and the encoded mean are ours.

    Example:
        >>> MaskingProcess(num_steps=4, share=0.5).rate
        tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    """

    rate: Tensor

    def __init__(self, num_steps: int, share: float = 0.5) -> None:
        super().__init__(num_steps)
        if not 0 < share < 1:
            raise ConfigError(f"the mean share of hidden items is {share}; give one in (0, 1)")
        self.share = share
        rate = torch.linspace(0, 1, num_steps + 1, dtype=torch.float64) ** ((1 - share) / share)
        self.register_buffer("rate", rate.float(), persistent=False)

    def visible(self, chance: Tensor, rows: Rows, t: Tensor, share: float) -> Tensor:
        """Hide items with the probability of the row's step, and at least one of two or more."""
        lowest = chance.new_ones(rows.num).scatter_reduce(0, rows.row, chance, "amin")
        spared = (chance > lowest[rows.row]) | (rows.degree() < 2)[rows.row]
        return (chance >= self.rate[t][rows.row]) & spared

    def loss_weight(self, t: Tensor) -> Tensor:
        """Return weights in proportion to :math:`1 / \\rho_t`."""
        weight = self.rate.clamp(min=self.rate[1].item()).reciprocal()
        return (weight / weight.mean())[t]

    def step(self, x_0: EncodedRows, x_t: Tensor, t: Tensor) -> Tensor:
        """Reveal a part of what is hidden."""
        now, before = self.rate[t].to(x_t.dtype), self.rate[t - 1].to(x_t.dtype)
        return torch.lerp(x_t, x_0.values, ((now - before) / now).unsqueeze(-1))

    def extra_repr(self) -> str:
        """Return the sizes for ``print``."""
        return f"{super().extra_repr()}, share={self.share:g}"


class FlippingProcess(MaskingProcess):
    r"""Flips of a row's entries: items are dropped as by :class:`MaskingProcess`, and random items
    inserted.

    The number of inserted items has a Poisson distribution with mean :math:`f \rho_t |N_u|`: f for
    each dropped one. Inserted items are uniform, and never items of the row. They are in the
    diffused row alone, as Gaussian noise is, and not in C-Net's signals.

    Args:
        num_steps: T.
        share: m, mean share of dropped items.
        insertion: f.

    Source: that flipping entries can replace Gaussian noise is GenRec-V1's
    (doi 10.1145/3746027.3755743); its rates, and that a row keeps its number of items for f = 1,
    are ours.

    Example:
        >>> process = FlippingProcess(num_steps=4, share=0.5, insertion=1.0)
        >>> rows, t = Rows(torch.zeros(9).long(), torch.arange(9), num=1), torch.tensor([4])
        >>> added = process.inserted(rows, t, torch.arange(100), torch.Generator().manual_seed(0))
        >>> added.item.min() >= 9  # none of the row's own
        tensor(True)
    """

    def __init__(self, num_steps: int, share: float = 0.5, insertion: float = 0.5) -> None:
        super().__init__(num_steps, share)
        self.insertion = insertion

    def inserted(self, rows: Rows, t: Tensor, items: Tensor, generator: torch.Generator) -> Rows:
        """Draw the inserted items."""
        mean = self.insertion * self.rate[t] * rows.degree()
        count = torch.poisson(mean, generator=generator).long()
        row = torch.arange(rows.num, device=items.device).repeat_interleave(count)
        place = torch.randint(items.numel(), row.shape, generator=generator, device=items.device)
        item = items[place]
        size = 1 + int(torch.cat([items, rows.item]).max())
        key = (row * size + item).unique()
        key = key[torch.isin(key, rows.row * size + rows.item, invert=True)]
        return Rows(key // size, key % size, rows.num)

    def extra_repr(self) -> str:
        """Return the sizes for ``print``."""
        return f"{super().extra_repr()}, insertion={self.insertion:g}"


class CombinedProcess(RowProcess):
    """A process that hides or adds items, followed by one that moves the encoded row.

    A step back takes the step of the second towards the prediction, and then that of the first
    towards its result (ours).

    Args:
        discrete: Its items are seen.
        continuous: It corrupts what is left of the row.

    Raises:
        ConfigError: If the numbers of steps differ.

    Example:
        >>> from graphdiff.nn import DiffusionSchedule
        >>> noise = GaussianProcess(DiffusionSchedule.linear(num_steps=4))
        >>> CombinedProcess(MaskingProcess(num_steps=4), noise)
        CombinedProcess(
          num_steps=4
          (discrete): MaskingProcess(num_steps=4, share=0.5)
          (continuous): GaussianProcess(
            num_steps=4
            (schedule): DiffusionSchedule(num_steps=4, variance_T=0.1)
          )
        )
    """

    def __init__(self, discrete: Process, continuous: Process) -> None:
        if discrete.num_steps != continuous.num_steps:
            raise ConfigError(
                f"processes of {discrete.num_steps} and {continuous.num_steps} steps cannot be "
                "combined; give the same number"
            )
        super().__init__(discrete.num_steps)
        self.discrete, self.continuous = discrete, continuous

    def visible(self, chance: Tensor, rows: Rows, t: Tensor, share: float) -> Tensor:
        """Hide items as the first process does."""
        return self.discrete.visible(chance, rows, t, share)

    def loss_weight(self, t: Tensor) -> Tensor:
        """Return the weights of the first process."""
        return self.discrete.loss_weight(t)

    def inserted(self, rows: Rows, t: Tensor, items: Tensor, generator: torch.Generator) -> Rows:
        """Draw the items that the first process inserts."""
        return self.discrete.inserted(rows, t, items, generator)

    def smooth(
        self, table: Tensor, graph: RecGraph, weights: Tensor, withheld: Tensor | None
    ) -> Tensor | None:
        """Smooth as the second process does."""
        return self.continuous.smooth(table, graph, weights, withheld)

    def corrupt(self, rows: EncodedRows, t: Tensor, noise: Tensor) -> Tensor:
        """Corrupt as the second process does."""
        return self.continuous.corrupt(rows, t, noise)

    def step(self, x_0: EncodedRows, x_t: Tensor, t: Tensor) -> Tensor:
        """Take the step of both."""
        values = self.continuous.step(x_0, x_t, t)
        return self.discrete.step(x_0._replace(values=values), x_t, t)
