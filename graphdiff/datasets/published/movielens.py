"""MovieLens-1M, as split by DiffRec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch_geometric.data import HeteroData

from graphdiff.datasets.base import RecDataset
from graphdiff.datasets.layouts.pairs import FILES, build_from_pair_lists

Variant = Literal["clean", "noisy"]


class MovieLens1M(RecDataset):
    """Films on MovieLens, in the two splits of `"Diffusion Recommender Model"
    <https://arxiv.org/abs/2304.04971>`_.

    In *clean*, ratings of 4 and 5 are interactions, and each user's are split by time into about
    70 % for training, 20 % for validation and 10 % for test. In *noisy*, lower ratings were added
    to training and validation as natural noise; the test pairs stay clean. The two index their
    items differently, so models of one do not fit the other. There are no features.

    ``train_list.npy``, ``valid_list.npy`` and ``test_list.npy`` hold integer pairs ``[n, 2]`` of
    user and item. The files have no times, but each user's pairs in ``train_list.npy`` are in the
    order of time, on which T-DiffRec of the same paper relies; the time of a training interaction
    is therefore its position in the file. Users and items are counted up to the largest index in
    any of the three.

    DiffRec leaves training *and* validation items out when it ranks for the test pairs:
    ``evaluate(..., mask_validation=True)``.

    .. list-table::
        :header-rows: 1

        * - variant
          - users
          - items
          - training
          - validation
          - test
        * - clean
          - 5,949
          - 2,810
          - 403,277
          - 110,722
          - 57,532
        * - noisy
          - 5,949
          - 3,494
          - 429,993
          - 130,772
          - 57,532

    Args:
        root: Folder that holds ``clean/`` and ``noisy/``, or the requested one of them.
        variant: ``"clean"`` or ``"noisy"`` (default: ``"clean"``).
        transform: Applied to the graph at every access (default: none).
        pre_transform: Applied once, before the graph is stored (default: none).
        force_reload: Read the raw files even if nothing has changed.

    Raises:
        ConfigError: If there is no such variant.
        DataError: If files are missing or damaged, or do not fit one another.
    """

    name: ClassVar[str] = "ml-1m"

    def __init__(
        self,
        root: str | Path,
        variant: Variant = "clean",
        transform: Callable[[HeteroData], HeteroData] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        self.variant = variant
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def raw_file_names(self) -> list[str]:
        """The pairs of training, validation and test."""
        return [f"{self.variant}/{name}" for name in FILES.values()]

    @property
    def processed_file_names(self) -> str:
        """The processed file, one per variant."""
        return f"{self.variant}.safetensors"

    @property
    def parameters(self) -> dict[str, Any]:
        """The variant."""
        return {"variant": self.variant}

    def read(self) -> HeteroData:
        """Read the pairs."""
        return build_from_pair_lists(Path(self.raw_dir) / self.variant, {}, ordered=True)
