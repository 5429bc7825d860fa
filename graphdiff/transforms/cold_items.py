"""A split that holds out all interactions of some items."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import INTERACTS, ITEM, SPLITS
from graphdiff.schema.names import keep_edges
from graphdiff.seeds import torch_seed


@functional_transform("cold_items")
class ColdItems(BaseTransform):
    """Create a cold-item split, on which only content can predict the held-out pairs.

    A share of the items that have training interactions is withheld: all of their training
    interactions are removed. The interactions of all splits with withheld items are shuffled; one
    half becomes the validation pairs and the other the test pairs. Held-out pairs of other items
    are removed, so that both splits measure cold items alone; they are not added to the training
    interactions, which only lose those of withheld items.

    A user may lose all training interactions and is then cold too. Features and modality graphs
    stay: they contain no interactions. ``data['item'].is_withheld`` (bool ``[I]``) marks the
    withheld items; no model reads it.

    Args:
        share: Share of the items with training interactions to withhold, between 0 and 1
            (default: 0.1); at least one item.
        seed: Random seed of the items and the halves (default: 0).

    Raises:
        ConfigError: If ``share`` is not between 0 and 1.
        DataError: If no training interaction or fewer than two held-out pairs would be left.

    Example:
        >>> from graphdiff.schema import build_data
        >>> data = build_data(2, 3, [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]])
        >>> data = ColdItems(share=0.4)(data)
        >>> data["item"].is_withheld.sum(), data["user", "interacts", "item"].edge_index.size(1)
        (tensor(1), 4)
    """

    def __init__(self, share: float = 0.1, seed: int = 0) -> None:
        if not 0 < share < 1:
            raise ConfigError(f"share is {share}; give a share of the items between 0 and 1")
        self.share, self.seed = share, seed

    def forward(self, data: HeteroData) -> HeteroData:
        """Replace the splits."""
        store = data[INTERACTS]
        generator = torch.Generator().manual_seed(torch_seed(self.seed))
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
    """Sort by user, then item, so that the order does not depend on the draw."""
    pairs = pairs[:, pairs[1].argsort(stable=True)]
    return pairs[:, pairs[0].argsort(stable=True)]
