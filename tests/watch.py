"""Watching the tensors that a piece of code makes."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class ForbidShape(TorchDispatchMode):
    """Fails at the operation that makes a tensor of a forbidden shape, backward passes included.

    A shape is forbidden in any order of its dimensions, with dimensions of size 1 anywhere between
    them, and flattened. Sparse tensors pass, and so do expanded views: neither takes the memory
    that its shape suggests.

    Args:
        *forbidden: Shapes, such as ``(batch_size, num_items)``. Choose sizes that nothing else has.

    Attributes:
        largest: The most elements that any tensor had, 0 before the first.
        shape_of_largest: That tensor's shape.
    """

    def __init__(self, *forbidden: Sequence[int]) -> None:
        super().__init__()
        self.forbidden = {_canonical(shape) for shape in forbidden}
        self.forbidden |= {_canonical([torch.Size(shape).numel()]) for shape in forbidden}
        self.largest = 0
        self.shape_of_largest: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and _takes_its_size(tensor):
                self._check(tensor, func)
        return out

    def _check(self, tensor: Tensor, func: Any) -> None:
        shape = tuple(tensor.shape)
        if _canonical(shape) in self.forbidden:
            raise AssertionError(f"{func} made a tensor of shape {list(shape)}")
        if tensor.numel() > self.largest:
            self.largest, self.shape_of_largest = tensor.numel(), shape


def _canonical(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(size for size in shape if size != 1))


def _takes_its_size(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not any(
        stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
    )
