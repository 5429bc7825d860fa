"""User-item graphs that a model generates: a few items for each user."""

from __future__ import annotations

from torch import Tensor


def chosen_pairs(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the interactions of a generated graph.

    Args:
        chosen: Long ``[U, k]``, items chosen for each user; -1 for none.

    Returns:
        ``(user, item)``, long ``[E]`` each, by ascending user.

    Example:
        >>> import torch
        >>> chosen_pairs(torch.tensor([[3, -1], [-1, -1], [0, 2]]))
        (tensor([0, 2, 2]), tensor([3, 0, 2]))
    """
    user, place = (chosen >= 0).nonzero(as_tuple=True)
    return user, chosen[user, place]
