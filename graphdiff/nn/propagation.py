"""Message passing over fixed graphs, on whatever sparse kernels the machine has."""

from __future__ import annotations

import warnings
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch_geometric.nn import LGConv
from torch_geometric.typing import WITH_TORCH_SPARSE, SparseTensor
from torch_geometric.utils import spmm

#: What follows ``x`` in a call of a PyG layer: ``conv(x, *adjacency)``.
Adjacency: TypeAlias = tuple[Tensor] | tuple[Tensor, Tensor]


def adjacency(
    edge_index: Tensor,
    edge_weight: Tensor,
    num_nodes: int,
    use_torch_sparse: bool | None = None,
) -> Adjacency:
    """Prepares a weighted graph for repeated message passing.

    PyG's layers take a graph in several forms; the fastest one that works depends on
    what is installed and on the device. A layer is called as ``conv(x, *adjacency)``
    whichever it is, and the results agree.

    Args:
        edge_index: Long tensor ``[2, E]``, sources in row 0 and targets in row 1.
        edge_weight: Float tensor ``[E]``.
        num_nodes: Number of nodes.
        use_torch_sparse: Use ``torch_sparse.SparseTensor`` (``True``) or
            :mod:`torch.sparse` (``False``); by default the former where it is installed.

    Returns:
        ``(adj_t,)`` with a transposed sparse matrix ``[num_nodes, num_nodes]``, or
        ``(edge_index, edge_weight)`` on devices without sparse matrices (MPS).
    """
    if use_torch_sparse is None:
        use_torch_sparse = WITH_TORCH_SPARSE
    source, target = edge_index
    if edge_index.device.type not in ("cpu", "cuda"):
        return edge_index, edge_weight
    size = (num_nodes, num_nodes)
    if use_torch_sparse:
        return (SparseTensor(row=target, col=source, value=edge_weight, sparse_sizes=size),)
    coo = torch.sparse_coo_tensor(
        torch.stack([target, source]), edge_weight, size, check_invariants=False
    )
    with warnings.catch_warnings():
        # PyG and torch rely on CSR; that it is "in beta" is no news to a user.
        warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
        return (coo.coalesce().to_sparse_csr(),)


def symmetric_norm(source: Tensor, target: Tensor, num_nodes: int) -> Tensor:
    r"""Weights :math:`1/\sqrt{d_s d_t}` of each edge, ``[E]`` float32, by the edges' own degrees."""
    ones = torch.ones_like(source, dtype=torch.float32)
    out_degree = ones.new_zeros(num_nodes).index_add_(0, source, ones)
    in_degree = ones.new_zeros(num_nodes).index_add_(0, target, ones)
    return (out_degree[source] * in_degree[target]).rsqrt()


class SymmetricLGConv(LGConv):
    """PyG's :class:`~torch_geometric.nn.conv.LGConv` for graphs whose matrix is symmetric.

    The backward pass multiplies with the transpose, which here is the matrix itself; not making
    it anew in each step halves the time of an epoch. The weights must be normalised already.
    """

    def __init__(self) -> None:
        super().__init__(normalize=False)

    def message_and_aggregate(self, adj_t: Any, x: Tensor) -> Tensor:
        """One hop over a sparse matrix."""
        return _SymmetricProduct.apply(adj_t, x)


class _SymmetricProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Any, x: Tensor) -> Tensor:
        ctx.matrix = matrix
        return spmm(matrix, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, spmm(ctx.matrix, grads[0].contiguous())
