"""MMSSL's adversary: a critic of interaction rows and the construction of its inputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.graph.scaling import inverse_scale
from graphdiff.nn.dropout import dropout
from graphdiff.nn.reconstruction import encode_rows


class RowCritic(torch.nn.Module):
    r"""A critic that scores an interaction row ``[I]`` between 0 (fake) and 100 (real).

    Three linear layers; the first two are followed by LeakyReLU, batch normalisation and dropout,
    the last by a sigmoid.

    The first layer is linear in the row, so the methods take *encoded* rows,
    ``x @ self.encoder``. Rows of similarities are encoded without building them: see
    :func:`encode_similarities`.

    Args:
        num_items: Number of items I.
        channels: Width of the first hidden layer; the second has half of it.
        dropouts: Dropout rates after the two hidden layers.

    Source: MMSSL (arXiv 2302.10632). The authors' code has I/4 channels, so that the number of
    weights is quadratic in I; the fixed width is ours.
    """

    def __init__(self, num_items: int, channels: int, dropouts: tuple[float, float]) -> None:
        super().__init__()
        half = max(1, channels // 2)
        self.encoder = torch.nn.Parameter(torch.empty(num_items, channels))
        self.bias = torch.nn.Parameter(torch.empty(channels))
        self.inner = torch.nn.Linear(channels, half)
        self.outer = torch.nn.Linear(half, 1)
        # Batch statistics only: the critic is never applied at inference.
        self.norms = torch.nn.ModuleList(
            torch.nn.BatchNorm1d(width, track_running_stats=False) for width in (channels, half)
        )
        self.dropouts = dropouts
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset weights (Kaiming normal) and biases (zero)."""
        torch.nn.init.normal_(self.encoder, std=(2 / self.encoder.size(0)) ** 0.5)
        for linear in (self.inner, self.outer):
            torch.nn.init.kaiming_normal_(linear.weight)
            torch.nn.init.zeros_(linear.bias)
        torch.nn.init.zeros_(self.bias)
        for norm in self.norms:
            norm.reset_parameters()  # type: ignore[operator]

    def forward(self, encoded: Tensor, generator: torch.Generator) -> Tensor:
        """Score encoded rows ``[B, channels]``, normalised as one batch; return ``[B]``."""
        hidden = encoded + self.bias
        for layer, norm, p in zip((self.inner, self.outer), self.norms, self.dropouts, strict=True):
            hidden = layer(dropout(norm(F.leaky_relu(hidden)), p, generator))
        return 100 * hidden.squeeze(-1).sigmoid()

    def loss(
        self, real: Tensor, fake: Tensor, penalty: float, generator: torch.Generator
    ) -> Tensor:
        r"""Return the critic's loss: :math:`E[D(fake)] - E[D(real)]` plus the gradient penalty
        :math:`\lambda E[(\|\nabla_x D(x)\| - 1)^2]` at interpolations of the two.

        Args:
            real: Encoded real rows, ``[B, channels]``. Apart from :attr:`encoder` they must be
                detached.
            fake: Encoded generated rows, ``[B, channels]``, likewise.
            penalty: Weight λ of the gradient penalty.
            generator: Source of randomness.

        Source: WGAN-GP (Gulrajani et al., arXiv 1704.00028).
        """
        share = torch.rand(real.size(0), 1, generator=generator, device=real.device)
        between = share * real + (1 - share) * fake
        loss = self(fake, generator).mean() - self(real, generator).mean()
        (grad,) = torch.autograd.grad(
            self(between, generator).sum(), between, create_graph=True, retain_graph=True
        )
        # The gradient with respect to a row is the gradient with respect to its encoding times the
        # transposed encoder; only its norm is needed.
        square = ((grad @ (self.encoder.t() @ self.encoder)) * grad).sum(dim=-1)
        length = square.clamp(min=1e-12).sqrt()
        return loss + penalty * (length - 1).square().mean()


def similarity_rows(user: Tensor, item: Tensor, rows: Rows) -> Tensor:
    """Return inner products of users with all items outside their history, ``[B, I]``, each row
    scaled to unit length.

    Args:
        user: User vectors, ``[B, d]``.
        item: Item vectors, ``[I, d]``.
        rows: The histories of these users; their entries are 0.
    """
    score = user @ item.t()
    score = score.index_put((rows.row, rows.item), score.new_zeros(()))
    return F.normalize(score, dim=-1)


def encode_similarities(user: Tensor, item: Tensor, rows: Rows, table: Tensor) -> Tensor:
    """Compute ``similarity_rows(user, item, rows) @ table`` exactly, without building the rows.

    The product with all items uses two matrices ``[d, c]`` and ``[d, d]``; the terms of the history
    are then subtracted. The cost is O(I · d · c) once plus O(B · d · c) plus the history, instead
    of O(B · I · c).

    Args:
        user: User vectors, ``[B, d]``.
        item: Item vectors, ``[I, d]``.
        rows: The histories of these users.
        table: The encoder, ``[I, c]``.

    Returns:
        Encoded rows, ``[B, c]``.
    """
    # The result does not depend on the scale of a user or of all items, but the fourth powers of
    # large features would leave the range of float32.
    user, item = user * inverse_scale(user, dim=-1), item * inverse_scale(item)
    seen = (user[rows.row] * item[rows.item]).sum(dim=-1)
    encoded = user @ (item.t() @ table)
    encoded = encoded - encode_rows(table, rows.row, rows.item, seen, rows.num)
    whole = ((user @ (item.t() @ item)) * user).sum(dim=-1)
    square = whole.index_add(0, rows.row, -seen.square())
    # A row without items outside the history is zero up to rounding.
    there = square > 1e-5 * whole
    return encoded * (there / torch.where(there, square, 1).sqrt()).unsqueeze(-1)


def gumbel_rows(
    rows: Rows, num_items: int, noise: float, temperature: float, generator: torch.Generator
) -> Tensor:
    r"""Return softened rows :math:`\mathrm{softmax}((x_u + \varsigma\, \mathbf{g}) / \tau)`
    with Gumbel noise g.

    Args:
        rows: Observed rows of B users.
        num_items: Number of items I.
        noise: Scale ς of the noise.
        temperature: Temperature τ.
        generator: Source of randomness.

    Returns:
        Softened rows, ``[B, I]``.
    """
    device = rows.item.device
    uniform = torch.rand(rows.num, num_items, generator=generator, device=device)
    # Clamped away from 0 and 1, where a logarithm is infinite.
    uniform.clamp_(torch.finfo(uniform.dtype).tiny, 1 - torch.finfo(uniform.dtype).eps)
    logit = uniform.log_().neg_().log_().mul_(-noise)
    logit[rows.row, rows.item] += 1
    return (logit / temperature).softmax(dim=-1)
