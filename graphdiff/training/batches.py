"""Training batches: shuffled positions of users or interactions."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from graphdiff.models.base import Recommender
from graphdiff.seeds import torch_seed


class ShuffledBatches(Sampler[Tensor]):
    """Batches of shuffled positions.

    The order depends on the seed and the epoch alone, so that a resumed run sees the batches that
    an uninterrupted one would have seen. Lightning calls :meth:`set_epoch`.

    Args:
        num: Number of positions.
        batch_size: Positions per batch; the last one may be smaller.
        seed: Any non-negative integer.
    """

    def __init__(self, num: int, batch_size: int, seed: int) -> None:
        self.num, self.batch_size, self.seed, self.epoch = num, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.num // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        seed = (torch_seed(self.seed) * 1_000_003 + self.epoch) % 2**64
        generator = torch.Generator().manual_seed(seed)
        yield from torch.randperm(self.num, generator=generator).split(self.batch_size)


def make_loader(batches: ShuffledBatches) -> DataLoader:
    """Return a loader that passes each batch of positions on unchanged."""
    return DataLoader(
        torch.arange(batches.num),  # type: ignore[arg-type]
        sampler=batches,
        batch_size=None,
    )


def describe_batch(model: Recommender, batch: Tensor, shown: int = 3) -> str:
    """Return the first users or interactions of a batch as text, by raw ids."""
    first, more = batch[:shown].to(model.device), ", …" if batch.numel() > shown else ""
    if model.batch_over == "users":
        return "users " + ", ".join(str(model.catalogue.user_id(u)) for u in first.tolist()) + more
    pairs = zip(model.graph.user_of(first).tolist(), model.graph.col[first].tolist(), strict=True)
    named = (
        f"user {model.catalogue.user_id(u)} item {model.catalogue.item_id(i)}" for u, i in pairs
    )
    return "interactions " + ", ".join(named) + more
