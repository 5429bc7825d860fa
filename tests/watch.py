"""A watch on the shapes of all tensors that a block of code creates."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class ForbidShape(TorchDispatchMode):
    """Context in which creating a tensor of a forbidden shape fails, backward passes included.

    A shape is forbidden in any order of its dimensions, with any dimensions of size 1, and
    flattened. Sparse tensors and expanded views are ignored, since they do not take the memory of
    their shape.

    Args:
        *forbidden: Shapes, such as ``(batch_size, num_items)``. Choose sizes that no other
            tensor has.

    Attributes:
        largest: Number of elements of the largest tensor, 0 before the first.
        shape_of_largest: Its shape.
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
