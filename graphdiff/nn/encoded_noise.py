r"""The factor of a Gram matrix that encodes Gaussian noise on rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Ridges tried in turn until a Gram matrix has a Cholesky factor, as shares of the mean squared
# column norm. With a share of 1 every finite matrix has one.
RIDGES = tuple(10.0**n for n in range(-6, 1))


def noise_factor(gram: Tensor) -> Tensor:
    r"""Return a matrix L with :math:`L L^\top = Z^\top Z`: encoded white noise is ``xi @ L.T``.

    With :math:`\epsilon \sim \mathcal{N}(0, 1_I)`, :math:`\epsilon Z \sim
    \mathcal{N}(0, Z^\top Z)`, the distribution of :math:`\xi L^\top` with
    :math:`\xi \sim \mathcal{N}(0, 1_d)`. Gradients flow into the Gram matrix.

    Args:
        gram: :math:`Z^\top Z`, ``[*, d, d]``; the further dimensions are heads.

    Returns:
        ``[*, d, d]``, lower triangular, in float32 at least. The diagonal is raised by a ridge of
        1e-6 of the mean squared column norm, for tables of rank below d; where rounding needs more,
        the ridge grows tenfold until it suffices. A table that is not finite gives NaN.

    Example:
        >>> factor = noise_factor(torch.tensor([[4.0, 2.0], [2.0, 3.0]]))
        >>> torch.allclose(factor @ factor.T, torch.tensor([[4.0, 2.0], [2.0, 3.0]]), atol=1e-4)
        True
    """
    # Autocast would compute products in 16 bits, too few for a factor.
    with torch.autocast(gram.device.type, enabled=False):
        heads = (gram.float() if gram.element_size() < 4 else gram).view(-1, *gram.shape[-2:])
        return _NoiseFactor.apply(heads).view(gram.shape)


def encode_noise(gram: Tensor, noise: Tensor) -> Tensor:
    r"""Return encoded noise: white noise times the factors of Gram matrices.

    Args:
        gram: :math:`Z^\top Z` of each head, ``[H, d, d]``.
        noise: ``[B, H * d]``, white in every row.

    Returns:
        ``[B, H * d]``, in the dtype of the noise. Gradients flow into the Gram matrices.
    """
    with torch.autocast(gram.device.type, enabled=False):
        factor_of = gram.float() if gram.element_size() < 4 else gram
        return _EncodeNoise.apply(factor_of, noise.to(factor_of.dtype)).to(noise.dtype)


class _NoiseFactor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gram: Tensor) -> Tensor:
        unit, root, ctx.ridge = _factor(gram)
        ctx.save_for_backward(unit, root)
        return unit * root

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        unit, root = ctx.saved_tensors
        return _by_gram(unit, root, ctx.ridge, grads[0])


class _EncodeNoise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gram: Tensor, noise: Tensor) -> Tensor:
        unit, root, ctx.ridge = _factor(gram)
        heads = noise.view(len(noise), len(gram), -1).transpose(0, 1)
        ctx.save_for_backward(unit, root, heads)
        return torch.bmm(heads, (unit * root).mT).transpose(0, 1).reshape(noise.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        unit, root, heads = ctx.saved_tensors
        grad = grads[0].view(len(grads[0]), len(unit), -1).permute(1, 2, 0)
        return _by_gram(unit, root, ctx.ridge, torch.bmm(grad, heads)), None


def _factor(gram: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return the factor of ``[H, d, d]`` as a matrix of about unit size and its scale, and the
    ridge as a share of the sum of the diagonals."""
    # Scaled to about 1, the smallest ridge and the factor stay within the range of floats.
    tiny = torch.finfo(gram.dtype).tiny
    scale = gram.diagonal(dim1=-2, dim2=-1).amax().clamp_(min=tiny**0.5)
    ridged = gram / scale
    diagonal = ridged.diagonal(dim1=-2, dim2=-1)
    num, added = diagonal.numel(), 0.0
    total = diagonal.sum().clamp_(min=num * tiny / RIDGES[0])
    for share in RIDGES:
        diagonal.add_(total, alpha=(share - added) / num)
        added = share
        unit, failed = torch.linalg.cholesky_ex(ridged)
        if not failed.amax().item():
            return unit, scale.sqrt(), share / num
    return gram * torch.nan, scale, 0.0


def _by_gram(unit: Tensor, root: Tensor, ridge: float, grad: Tensor) -> Tensor:
    r"""Return the gradient by the Gram matrix from that by the factor L: half of
    :math:`L^{-\top} P L^{-1}`, where P is symmetric and has the lower triangle of
    :math:`L^\top \bar{L}`.

    Source: Murray, "Differentiation of the Cholesky decomposition", arXiv 1602.07527, equation 10.
    """
    lower = torch.bmm(unit.mT, grad).tril_()
    inner = lower + lower.tril(-1).mT
    left = torch.linalg.solve_triangular(unit.mT, inner, upper=True)
    both = torch.linalg.solve_triangular(unit, left, upper=False, left=False)
    gradient = both.div_(root + root)
    # The ridge grows with the sum of the diagonals.
    diagonal = gradient.diagonal(dim1=-2, dim2=-1)
    diagonal.add_(diagonal.sum(), alpha=ridge)
    return gradient
