"""Evaluation on a sample of the users."""

from __future__ import annotations

from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from graphdiff.schema.held_out import sample_held_out


@functional_transform("sample_users")
class SampleUsers(BaseTransform):
    """Keep the held-out pairs of a random sample of the users.

    Training interactions stay, so that a model does not change; validation and test rank for the
    sample alone, which takes a fraction of the time where there are millions of users.

    Args:
        num_users: Number of users; all if fewer have held-out pairs.
        seed: Seed of the sample (default: 0).

    Raises:
        ConfigError: If ``num_users`` is less than 1.

    Example:
        >>> from graphdiff.schema import build_data
        >>> data = build_data(3, 3, [[0, 1, 2], [0, 1, 2]], val=[[0, 1, 2], [1, 2, 0]])
        >>> SampleUsers(1)(data)["user", "interacts", "item"].val_edge_label_index.shape
        torch.Size([2, 1])
    """

    def __init__(self, num_users: int, seed: int = 0) -> None:
        self.num_users, self.seed = num_users, seed

    def forward(self, data: HeteroData) -> HeteroData:
        """Remove the held-out pairs of the other users."""
        return sample_held_out(data, self.num_users, self.seed)
