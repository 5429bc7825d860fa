"""MMSSL's adversary: a critic of interaction rows, and the rows it looks at."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.graph.store import Rows
from graphdiff.nn.dropout import dropout
from graphdiff.nn.reconstruction import encode_rows


class RowCritic(torch.nn.Module):
    r"""Tells how real an interaction row ``[I]`` looks, from 0 to 100.

    Three linear layers; after the first two LeakyReLU, batch normalisation and dropout, after the
    last a sigmoid.

    Its first layer is linear in the row, so the methods take rows that it has *encoded* already,
    ``x @ self.encoder``. Rows of similarities need not be made for that: see
    :func:`encode_similarities`.

    Args:
        num_items: I.
        channels: Width of the first hidden layer; the second has half of it.
        dropouts: Dropout after each of the two.

    Source: MMSSL (arXiv 2302.10632). The authors' code has I/4 channels, a number of weights that
    grows with the square of the catalogue; a fixed width is ours.
    """

    def __init__(self, num_items: int, channels: int, dropouts: tuple[float, float]) -> None:
        super().__init__()
        half = max(1, channels // 2)
        self.encoder = torch.nn.Parameter(torch.empty(num_items, channels))
        self.bias = torch.nn.Parameter(torch.empty(channels))
        self.inner = torch.nn.Linear(channels, half)
        self.outer = torch.nn.Linear(half, 1)
        # Of its batch alone: it never sees anything but batches, so it needs no running mean.
        self.norms = torch.nn.ModuleList(
            torch.nn.BatchNorm1d(width, track_running_stats=False) for width in (channels, half)
        )
        self.dropouts = dropouts
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights anew (Kaiming normal; biases are zero)."""
        torch.nn.init.normal_(self.encoder, std=(2 / self.encoder.size(0)) ** 0.5)
        for linear in (self.inner, self.outer):
            torch.nn.init.kaiming_normal_(linear.weight)
            torch.nn.init.zeros_(linear.bias)
        torch.nn.init.zeros_(self.bias)
        for norm in self.norms:
            norm.reset_parameters()  # type: ignore[operator]

    def forward(self, encoded: Tensor, generator: torch.Generator) -> Tensor:
        """Encoded rows ``[B, channels]`` to ``[B]``; they are normalised together."""
        hidden = encoded + self.bias
        for layer, norm, p in zip((self.inner, self.outer), self.norms, self.dropouts, strict=True):
            hidden = layer(dropout(norm(F.leaky_relu(hidden)), p, generator))
        return 100 * hidden.squeeze(-1).sigmoid()

    def loss(
        self, real: Tensor, fake: Tensor, penalty: float, generator: torch.Generator
    ) -> Tensor:
        r"""What the critic minimises: :math:`E[D(fake)] - E[D(real)]` and the penalty
        :math:`\lambda E[(\|\nabla_x D(x)\| - 1)^2]` on lines between the two.

        Args:
            real: Encoded rows, ``[B, channels]``.
            fake: Likewise; both must depend on nothing learned but :attr:`encoder`.
            penalty: λ.
            generator: Source of randomness.

        Source: WGAN-GP (Gulrajani et al., arXiv 1704.00028).
        """
        share = torch.rand(real.size(0), 1, generator=generator, device=real.device)
        between = share * real + (1 - share) * fake
        loss = self(fake, generator).mean() - self(real, generator).mean()
        (grad,) = torch.autograd.grad(
            self(between, generator).sum(), between, create_graph=True, retain_graph=True
        )
        # The gradient with respect to a row is that with respect to its encoding times the
        # encoder's transpose; only its length is needed.
        square = ((grad @ (self.encoder.t() @ self.encoder)) * grad).sum(dim=-1)
        length = square.clamp(min=1e-12).sqrt()
        return loss + penalty * (length - 1).square().mean()


def similarity_rows(user: Tensor, item: Tensor, rows: Rows) -> Tensor:
    """Inner products of users with the items they have *not* interacted with, each row of unit
    length, ``[B, I]``.

    Args:
        user: ``[B, d]``.
        item: ``[I, d]``.
        rows: The items of these users; they get 0.
    """
    score = user @ item.t()
    score = score.index_put((rows.row, rows.item), score.new_zeros(()))
    return F.normalize(score, dim=-1)


def encode_similarities(user: Tensor, item: Tensor, rows: Rows, table: Tensor) -> Tensor:
    """``similarity_rows(user, item, rows) @ table``, exactly, without making a row.

    The product with all items goes through two matrices ``[d, c]`` and ``[d, d]``; what the rows'
    own items added is taken off again. That is O(I · d · c) once and O(B · d · c) beside the
    rows' items, where the rows would take O(B · I · c).

    Args:
        user: ``[B, d]``.
        item: ``[I, d]``.
        rows: As in :func:`similarity_rows`.
        table: ``[I, c]``.

    Returns:
        ``[B, c]``.
    """
    seen = (user[rows.row] * item[rows.item]).sum(dim=-1)
    encoded = user @ (item.t() @ table)
    encoded = encoded - encode_rows(table, rows.row, rows.item, seen, rows.num)
    whole = ((user @ (item.t() @ item)) * user).sum(dim=-1)
    square = whole.index_add(0, rows.row, -seen.square())
    # A row with nothing outside the user's own items is zero but for rounding.
    there = square > 1e-5 * whole
    return encoded * (there / torch.where(there, square, 1).sqrt()).unsqueeze(-1)


def gumbel_rows(
    rows: Rows, num_items: int, noise: float, temperature: float, generator: torch.Generator
) -> Tensor:
    r"""Observed rows made soft, :math:`\mathrm{softmax}((x_u + \varsigma\, \mathbf{g}) / \tau)`
    with Gumbel noise g.

    Args:
        rows: Observed rows, of B users.
        num_items: I.
        noise: ς.
        temperature: τ.
        generator: Source of randomness.

    Returns:
        ``[B, I]``.
    """
    device = rows.item.device
    uniform = torch.rand(rows.num, num_items, generator=generator, device=device)
    # Kept off both ends, where a logarithm is infinite.
    uniform.clamp_(torch.finfo(uniform.dtype).tiny, 1 - torch.finfo(uniform.dtype).eps)
    logit = uniform.log_().neg_().log_().mul_(-noise)
    logit[rows.row, rows.item] += 1
    return (logit / temperature).softmax(dim=-1)
