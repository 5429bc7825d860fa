"""Simulation of noisy interactions: fake pairs, or missing ones."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import INTERACTS, ITEM, SPLITS, USER
from graphdiff.schema.names import TIME, edge_attributes, keep_edges, pair_keys
from graphdiff.seeds import torch_seed

Mode = Literal["add", "drop"]

# Rounds of as many draws as there are training interactions, before the graph counts as full.
ROUNDS = 1000


@functional_transform("inject_noise")
class InjectNoise(BaseTransform):
    """Add noise to the training interactions, to measure the robustness of a model.

    Validation and test pairs do not change. With the same seed a larger share adds or drops a
    superset of the pairs that a smaller one does.

    * ``"add"``: fake pairs, ``share`` times as many as there are training interactions. The user
      of a pair is that of a training interaction drawn at random, so that active users get more
      in proportion and all histories are about equally noisy. The item is drawn uniformly from the
      catalogue. Fake pairs are in none of training, validation and test, and are unique.
    * ``"drop"``: this share of the real training interactions is removed at random. A user may
      lose all of them and is then cold.

    Bool ``is_noise`` ``[E]``, parallel to ``edge_index``, marks the fake training interactions; no
    model reads it. Existing labels are kept, and ``"drop"`` does not remove pairs that they mark.
    Where there are times, ``"add"`` gives a fake pair the ``time`` of an interaction of its user,
    drawn at random; it removes other attributes of the training interactions, because fake pairs
    have none.

    Args:
        share: From 0; at most 1 for ``"drop"``.
        mode: ``"add"`` or ``"drop"`` (default: ``"add"``).
        seed: Random seed of the pairs (default: 0).

    Raises:
        ConfigError: If ``share`` or ``mode`` is out of range.
        DataError: If the graph has no room for so many fake pairs, or no training interaction would
            be left.

    Example:
        >>> from graphdiff.schema import build_data
        >>> data = build_data(2, 9, [[0, 0, 1, 1], [0, 1, 2, 3]])
        >>> InjectNoise(0.5)(data)["user", "interacts", "item"].is_noise.sum()
        tensor(2)
    """

    def __init__(self, share: float, mode: Mode = "add", seed: int = 0) -> None:
        if mode not in get_args(Mode):
            raise ConfigError(f"mode is {mode!r}; give 'add' or 'drop'")
        if not 0 <= share <= (1 if mode == "drop" else float("inf")):
            raise ConfigError(
                f"share is {share}; give a share of the training interactions from 0"
                + (" to 1" if mode == "drop" else "")
            )
        self.share, self.mode, self.seed = share, mode, seed

    def forward(self, data: HeteroData) -> HeteroData:
        """Add or remove training interactions."""
        generator = torch.Generator().manual_seed(torch_seed(self.seed))
        if self.mode == "add":
            self._add(data, generator)
        else:
            self._drop(data, generator)
        return data

    def _add(self, data: HeteroData, generator: torch.Generator) -> None:
        store, edges = data[INTERACTS], data[INTERACTS].edge_index
        fake = self._draw(data, round(self.share * edges.size(1)), generator)
        key = torch.cat([pair_keys(data, edges).cpu(), fake])
        is_noise = torch.cat([_labels(store).cpu(), torch.ones(fake.numel(), dtype=torch.bool)])
        # Sorted by user, then item, the order does not reveal the fake pairs.
        key, order = key.sort()
        num_items = data[ITEM].num_nodes
        time = store.get(TIME)
        if time is not None:
            drawn = self._draw_times(data, fake // num_items, generator)
            time = torch.cat([time, drawn.to(time.device)])[order.to(time.device)]
        for name in edge_attributes(store):
            del store[name]
        if time is not None:
            store[TIME] = time
        store.edge_index = torch.stack([key // num_items, key % num_items]).to(edges.device)
        store.is_noise = is_noise[order].to(edges.device)

    def _draw(self, data: HeteroData, num: int, generator: torch.Generator) -> Tensor:
        """Draw ``num`` pairs that are in no split; return their keys, long ``[num]``, in order."""
        store, num_items = data[INTERACTS], data[ITEM].num_nodes
        known = torch.cat([pair_keys(data, store[a]) for a in SPLITS.values() if a in store]).cpu()
        # Sorted by user, the draw does not depend on the order of the edges.
        user, drawn = store.edge_index[0].cpu().sort().values, known.new_empty(0)
        for _ in range(ROUNDS):
            if drawn.numel() >= num:
                return drawn[:num]
            # With rounds of one size a larger share continues where a smaller one stopped.
            at = torch.randint(user.numel(), user.shape, generator=generator)
            item = torch.randint(num_items, user.shape, generator=generator)
            drawn = _first_of_each(torch.cat([drawn, user[at] * num_items + item]))
            drawn = drawn[~torch.isin(drawn, known)]
        raise DataError(
            f"only {drawn.numel()} of {num} fake pairs were found that are in no split, among "
            f"{data[USER].num_nodes} users and {num_items} items; give a share below {self.share:g}"
        )

    @staticmethod
    def _draw_times(data: HeteroData, user: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a time of each user's training interactions, ``[n]`` for long users ``[n]``."""
        store = data[INTERACTS]
        # Only times of the same user can be compared. The order of the edges does not matter.
        order = pair_keys(data, store.edge_index).cpu().argsort()
        degree = store.edge_index[0].cpu().bincount(minlength=data[USER].num_nodes)
        first = degree.cumsum(0) - degree
        share = torch.rand(user.numel(), generator=generator, dtype=torch.double)
        place = (share * degree[user]).long()  # Doubles below 1 times n stay below n.
        return store[TIME].cpu()[order[first[user] + place]]

    def _drop(self, data: HeteroData, generator: torch.Generator) -> None:
        store = data[INTERACTS]
        order = pair_keys(data, store.edge_index).argsort()
        real = order[~_labels(store)[order]]
        chosen = torch.randperm(real.numel(), generator=generator)
        kept = torch.ones(order.numel(), dtype=torch.bool, device=order.device)
        kept[real[chosen[: round(self.share * real.numel())].to(real.device)]] = False
        if not kept.any():
            raise DataError(
                f"dropping {self.share:g} of {real.numel()} training interactions leaves none; "
                "give a smaller share"
            )
        keep_edges(store, kept)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(share={self.share:g}, mode={self.mode!r}, seed={self.seed})"


def _labels(store: dict[str, Tensor]) -> Tensor:
    """Return the labels of noisy training interactions, bool ``[E]``; all False by default."""
    edges = store["edge_index"]
    none = torch.zeros(edges.size(1), dtype=torch.bool, device=edges.device)
    return store.get("is_noise", none)


def _first_of_each(key: Tensor) -> Tensor:
    """Return the values of ``key`` without repeats, in the order of their first occurrence."""
    ordered, order = key.sort(stable=True)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return key[order[first].sort().values]
