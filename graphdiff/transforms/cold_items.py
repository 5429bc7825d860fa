"""A split on items that nobody has been seen with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import INTERACTS, ITEM, SPLITS
from graphdiff.schema.names import keep_edges


@functional_transform("cold_items")
class ColdItems(BaseTransform):
    """Makes a split on which only content can find what is held out.

    A share of the items that have training interactions is withheld: all of their training
    interactions are removed. All interactions with withheld items, whatever split they were in, are
    shuffled; one half becomes the validation pairs and the other the test pairs. Held-out pairs on
    other items are left out, so that both splits measure cold items alone; they do not join the
    training interactions, which stay what they were but for the withheld items.

    A user may lose all training interactions and is then cold too. Features and modality graphs
    stay: they tell nothing of who chose what. ``data['item'].is_withheld`` (bool ``[I]``) says
    which items were withheld; no model reads it.

    Args:
        share: Share of the items with training interactions to withhold, between 0 and 1
            (default: 0.1); at least one item.
        seed: Draws the items and the halves (default: 0).

    Raises:
        ConfigError: If ``share`` is not between 0 and 1.
        DataError: If no training interaction would be left, or none to hold out.
    """

    def __init__(self, share: float = 0.1, seed: int = 0) -> None:
        if not 0 < share < 1:
            raise ConfigError(f"share is {share}; give a share of the items between 0 and 1")
        self.share, self.seed = share, seed

    def forward(self, data: HeteroData) -> HeteroData:
        """Replaces the splits."""
        store = data[INTERACTS]
        generator = torch.Generator().manual_seed(self.seed)
        withheld = self._draw_items(data, generator)
        pairs = torch.cat([store[a] for a in SPLITS.values() if a in store], dim=1)
        pairs = pairs[:, withheld[pairs[1]]]
        order = torch.randperm(pairs.size(1), generator=generator).to(pairs.device)
        half = pairs.size(1) // 2
        kept = ~withheld[store.edge_index[1]]
        if half == 0 or not kept.any():
            raise DataError(
                f"withholding {int(withheld.sum())} items leaves {int(kept.sum())} training "
                f"interactions and {pairs.size(1)} pairs to hold out; a split needs at least 1 and "
                f"2: give another share than {self.share:g}"
            )
        keep_edges(store, kept)
        store.val_edge_label_index = _sorted(pairs[:, order[:half]])
        store.test_edge_label_index = _sorted(pairs[:, order[half:]])
        data[ITEM].is_withheld = withheld
        return data

    def _draw_items(self, data: HeteroData, generator: torch.Generator) -> Tensor:
        seen = data[INTERACTS].edge_index[1].unique()
        num = max(1, round(self.share * seen.numel()))
        chosen = torch.randperm(seen.numel(), generator=generator)[:num].to(seen.device)
        withheld = torch.zeros(data[ITEM].num_nodes, dtype=torch.bool, device=seen.device)
        withheld[seen[chosen]] = True
        return withheld

    def __repr__(self) -> str:
        return f"{type(self).__name__}(share={self.share:g}, seed={self.seed})"


def _sorted(pairs: Tensor) -> Tensor:
    """By user, then item: the order tells nothing of how the pairs were drawn."""
    pairs = pairs[:, pairs[1].argsort(stable=True)]
    return pairs[:, pairs[0].argsort(stable=True)]
