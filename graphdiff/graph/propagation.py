"""Message passing over fixed graphs, with the sparse kernels that are available."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from torch_geometric.nn import LGConv

SPARSE_DEVICES = ("cpu", "cuda")


class FixedGraph:
    """A weighted graph prepared for message passing in both directions.

    A backward pass multiplies with the transposed matrix. Building that once, instead of in each
    step, halves the time of an epoch.

    Args:
        edge_index: Long or int32 ``[2, E]``, sources in row 0 and targets in row 1, or a pair of
            them. Edges that are sorted by target are not copied.
        edge_weight: Float ``[E]``.
        num_sources: Number of source nodes.
        num_targets: Number of target nodes.
        use_torch_sparse: Use ``torch_sparse.SparseTensor`` (``True``) or :mod:`torch.sparse`
            (``False``); by default the former on a GPU, where it is installed. On a CPU the kernel
            is the same, and its 64-bit indices would only take memory. The results agree.

    Example:
        >>> import torch
        >>> edge_index = torch.tensor([[0, 1, 1], [0, 0, 1]])
        >>> graph = FixedGraph(edge_index, torch.tensor([1.0, 2.0, 3.0]), 2, 2)
        >>> FixedConv()(torch.tensor([[1.0], [10.0]]), graph)
        tensor([[21.],
                [30.]])
    """

    def __init__(
        self,
        edge_index: Tensor | tuple[Tensor, Tensor],
        edge_weight: Tensor,
        num_sources: int,
        num_targets: int,
        use_torch_sparse: bool | None = None,
    ) -> None:
        self.edge_index: Tensor | None = None
        self.edge_weight: Tensor | None = None
        self.num_sources, self.num_targets = num_sources, num_targets
        self.matrix: Any = None
        self._transposed: Any = None
        self._places: tuple[Tensor, Tensor] | None = None
        # Other devices (MPS) have no sparse matrices: messages are passed along the edges there.
        source, target = edge_index
        if source.device.type in SPARSE_DEVICES:
            if use_torch_sparse is None:
                use_torch_sparse = source.device.type != "cpu" and _has_torch_sparse()
            size = (num_targets, num_sources)
            self.matrix = _sparse(target, source, edge_weight, size, use_torch_sparse)
        else:
            self.edge_index = torch.stack([source, target]).long()
            self.edge_weight = edge_weight

    @property
    def transposed(self) -> Any:
        """The transposed matrix, built at the first backward pass or reversal; None without
        matrices."""
        if self._transposed is None and self.matrix is not None:
            self._transposed = _transposed(self.matrix)
        return self._transposed

    def __copy__(self) -> Self:
        # Not by the state: that would take the matrices apart in every training step.
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __getstate__(self) -> dict[str, Any]:
        # PyTorch can neither deepcopy nor pickle a tensor in CSR layout, but its parts.
        return {
            name: _CSRParts(*_csr(value), value.shape) if _is_csr(value) else value
            for name, value in self.__dict__.items()
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            self.__dict__[name] = csr_tensor(*value) if isinstance(value, _CSRParts) else value

    def reversed(self) -> Self:
        """Return the graph with all edges reversed."""
        turned = copy.copy(self)
        turned.edge_index = None if self.edge_index is None else self.edge_index.flip(0)
        turned.num_sources, turned.num_targets = self.num_targets, self.num_sources
        turned.matrix, turned._transposed = self.transposed, self.matrix
        turned._places = None if self._places is None else self._places[::-1]
        return turned

    def reweighted(self, edges: tuple[Tensor, Tensor], edge_weight: Tensor) -> Self:
        """Return the same edges with other weights, much faster than building a new graph.

        Args:
            edges: Sources and targets, long ``[E]`` each: exactly the edges that the graph was
                built from, without repeats.
            edge_weight: Float ``[E]``; edges of weight zero carry no message.
        """
        changed = copy.copy(self)
        if self.matrix is None:
            changed.edge_weight = edge_weight
            return changed
        if self._places is None:
            source, target = (index.long() for index in edges)
            # Sorted by target, the edges were not put in another order.
            as_given = bool((target[1:] >= target[:-1]).all())
            by_target = target if as_given else target * self.num_sources + source
            self._places = (
                torch.argsort(by_target, stable=True),
                torch.argsort(source * self.num_targets + target),
            )
        for_matrix, for_transposed = self._places
        changed.matrix = _with_values(self.matrix, edge_weight[for_matrix])
        changed._transposed = _with_values(self.transposed, edge_weight[for_transposed])
        return changed


class FixedConv(torch.nn.Module):
    """One hop of message passing without parameters over a :class:`FixedGraph`.

    What PyG's :class:`~torch_geometric.nn.conv.LGConv` computes for edge weights that are already
    normalised; sources and targets may be of different node types. Where the graph has matrices,
    it multiplies with them; elsewhere that class passes the messages.

    Example:
        >>> import torch
        >>> graph = FixedGraph(torch.tensor([[0, 1], [0, 0]]), torch.tensor([0.5, 2.0]), 2, 1)
        >>> FixedConv()(torch.tensor([[1.0], [3.0]]), graph)
        tensor([[6.5000]])
    """

    def reset_parameters(self) -> None:
        """Do nothing; PyG's models call it."""

    def forward(self, x: Tensor, edge_index: Any, edge_weight: Any = None) -> Tensor:
        """Sum the weighted messages at each target.

        Args:
            x: ``[num_sources, d]``.
            edge_index: A :class:`FixedGraph`; the name is that of PyG's models.
            edge_weight: Not used; the graph contains its weights.

        Returns:
            ``[num_targets, d]``.
        """
        graph: FixedGraph = edge_index
        if graph.matrix is not None:
            return _Product.apply(graph, x)
        size = (graph.num_sources, graph.num_targets)
        weight = graph.edge_weight
        return _along_edges().propagate(graph.edge_index, x=x, edge_weight=weight, size=size)


def propagate(
    x: Tensor,
    graph: FixedGraph,
    num_layers: int,
    perturb: Callable[[Tensor], Tensor] | None = None,
) -> list[Tensor]:
    """Return LightGCN's layers: ``x`` and the output of each of ``num_layers`` hops.

    Args:
        x: ``[N, d]``, layer 0.
        graph: Over N nodes.
        num_layers: Hops L.
        perturb: Applied to the output of each hop, before the next one.

    Returns:
        ``L + 1`` tensors ``[N, d]``.

    Example:
        >>> import torch
        >>> graph = FixedGraph(torch.tensor([[0, 1], [1, 0]]), torch.tensor([1.0, 0.5]), 2, 2)
        >>> layers = propagate(torch.tensor([[1.0], [4.0]]), graph, num_layers=2)
        >>> [layer.flatten().tolist() for layer in layers]
        [[1.0, 4.0], [2.0, 1.0], [0.5, 2.0]]
    """
    conv, layers = FixedConv(), [x]
    for _ in range(num_layers):
        out = conv(layers[-1], graph)
        layers.append(out if perturb is None else perturb(out))
    return layers


def mean_layer(layers: list[Tensor]) -> Tensor:
    """Return the mean of layers of one shape.

    Example:
        >>> import torch
        >>> mean_layer([torch.zeros(1, 2), torch.ones(1, 2)])
        tensor([[0.5000, 0.5000]])
    """
    total = layers[0]
    for layer in layers[1:]:
        total = total + layer
    return total / len(layers)


@cache
def _along_edges() -> LGConv:
    from torch_geometric.nn import LGConv  # PyG takes seconds to import.

    return LGConv(normalize=False)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: FixedGraph, x: Tensor) -> Tensor:
        ctx.graph = graph
        return _multiply(graph.matrix, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        grad = grads[0].contiguous()
        return None, _multiply(ctx.graph.transposed, grad)


def _multiply(matrix: Any, x: Tensor) -> Tensor:
    if x.device.type != "cpu":
        from torch_geometric.utils import spmm

        return spmm(_as(matrix, x), x)
    # On a CPU this kernel takes a quarter to a half of the time of the sparse products of torch and
    # torch-sparse. It does not support 16 bits, which autocast would need.
    wide = x.detach().float() if x.element_size() < 4 else x.detach()
    rowptr, col, value = _csr(matrix)
    weight = value.to(wide.dtype)
    bags = F.embedding_bag(
        col, wide, rowptr, mode="sum", per_sample_weights=weight, include_last_offset=True
    )
    return bags.to(x.dtype)


def _has_torch_sparse() -> bool:
    from torch_geometric.typing import WITH_TORCH_SPARSE

    return WITH_TORCH_SPARSE


def _of_torch_sparse(matrix: Any) -> bool:
    # Its SparseTensor is not a tensor; asked like this, the library need not be there.
    return not isinstance(matrix, Tensor)


def _csr(matrix: Any) -> tuple[Tensor, Tensor, Tensor]:
    if _of_torch_sparse(matrix):
        return matrix.csr()
    return matrix.crow_indices(), matrix.col_indices(), matrix.values()


def _as(matrix: Any, x: Tensor) -> Any:
    """Return the matrix in the dtype of x; they differ in double precision and under autocast."""
    return matrix if _dtype(matrix) == x.dtype else matrix.to(x.dtype)


def _dtype(matrix: Any) -> torch.dtype:
    return matrix.dtype() if _of_torch_sparse(matrix) else matrix.dtype


def _with_values(matrix: Any, value: Tensor) -> Any:
    if _of_torch_sparse(matrix):
        return matrix.set_value(value, layout="csr")
    rowptr, col, _ = _csr(matrix)
    return csr_tensor(rowptr, col, value, matrix.shape)


class _CSRParts(NamedTuple):
    """The parts of a tensor in CSR layout."""

    rowptr: Tensor
    col: Tensor
    value: Tensor
    shape: tuple[int, ...]


def _is_csr(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.sparse_csr


def csr_tensor(rowptr: Tensor, col: Tensor, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a sparse matrix in CSR layout from row starts, columns and values, unchecked."""
    with warnings.catch_warnings():
        # PyG and torch rely on CSR; that it is "in beta" or unchecked does not concern users.
        warnings.filterwarnings("ignore", "Sparse (CSR tensor support|invariant)", UserWarning)
        return torch.sparse_csr_tensor(rowptr, col, value, shape, check_invariants=False)


def symmetric_norm(source: Tensor, target: Tensor, num_sources: int, num_targets: int) -> Tensor:
    r"""Return the weight :math:`1/\sqrt{d_s d_t}` of each edge, float32 ``[E]``.

    Example:
        >>> import torch
        >>> symmetric_norm(torch.tensor([0, 0]), torch.tensor([0, 1]), 1, 2)
        tensor([0.7071, 0.7071])
    """
    ones = torch.ones_like(source, dtype=torch.float32)
    out_degree = ones.new_zeros(num_sources).index_add_(0, source, ones)
    in_degree = ones.new_zeros(num_targets).index_add_(0, target, ones)
    return (out_degree[source] * in_degree[target]).rsqrt()


def _sparse(
    row: Tensor, col: Tensor, value: Tensor, size: tuple[int, int], use_torch_sparse: bool
) -> Any:
    """Return a sparse matrix; entries that are sorted by row are not copied."""
    if bool((row[1:] >= row[:-1]).all()):
        rowptr = row.new_zeros(size[0] + 1)
        rowptr[1:] = torch.bincount(row, minlength=size[0]).cumsum(0)
        return _of_parts(rowptr, col, value, size, use_torch_sparse)
    if use_torch_sparse and row.device.type != "cpu":
        from torch_sparse import SparseTensor

        row, col = row.long(), col.long()
        return SparseTensor(row=row, col=col, value=value, sparse_sizes=size).coalesce()
    # SciPy counts where torch sorts, and the kernels use 32-bit indices.
    entries = (value.cpu().numpy(), (row.cpu().int().numpy(), col.cpu().int().numpy()))
    return _of_scipy(scipy.sparse.coo_matrix(entries, shape=size).tocsr(), value, use_torch_sparse)


def _transposed(matrix: Any) -> Any:
    use_torch_sparse = _of_torch_sparse(matrix)
    if use_torch_sparse and matrix.device().type != "cpu":
        return matrix.t()
    rowptr, col, value = _csr(matrix)
    shape = matrix.sparse_sizes() if use_torch_sparse else matrix.shape
    parts = (value.cpu().numpy(), col.cpu().int().numpy(), rowptr.cpu().int().numpy())
    turned = scipy.sparse.csr_matrix(parts, shape=tuple(shape)).T.tocsr()
    return _of_scipy(turned, value, use_torch_sparse)


def _of_scipy(csr: Any, like: Tensor, use_torch_sparse: bool) -> Any:
    rowptr, col, value = (
        torch.from_numpy(part).to(like.device) for part in (csr.indptr, csr.indices, csr.data)
    )
    return _of_parts(rowptr, col, value, csr.shape, use_torch_sparse)


def _of_parts(
    rowptr: Tensor, col: Tensor, value: Tensor, size: tuple[int, int], use_torch_sparse: bool
) -> Any:
    if not use_torch_sparse:
        return csr_tensor(rowptr, col, value, size)
    from torch_sparse import SparseTensor

    return SparseTensor(
        rowptr=rowptr.long(),
        col=col.long(),
        value=value,
        sparse_sizes=size,
        is_sorted=True,
        trust_data=True,
    )
