"""A dataset that stays on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from torch_geometric.data import HeteroData

from graphdiff.datasets.arguments import Integer, NonNegative
from graphdiff.datasets.base import RecDataset
from graphdiff.datasets.mapped.folder import MANIFEST, open_folder, verify
from graphdiff.schema.held_out import sample_held_out


class MappedDataset(RecDataset):
    """A dataset whose arrays stay on disk, as ``graphdiff convert --to mapped`` and
    :func:`graphdiff.datasets.to_mapped` write it.

    Its graph has the tensors of any other dataset, but they are mapped into memory: the system
    reads what is used and drops it again where memory is needed. It opens in milliseconds, except
    for raw ids and titles that are texts, which are read.

    Args:
        root: The folder; it is left unchanged.
        held_out_users: Validate and test on a random sample of this many users (default: all).
        seed: Seed of the sample (default: 0).
        check: Compare all files with the checksums in the manifest first, which reads them once
            (default: False).
        transform: Applied to the graph at every access (default: none).

    Raises:
        DataError: If files are missing or damaged.
    """

    name: ClassVar[str] = "mapped"

    def __init__(
        self,
        root: str | Path,
        held_out_users: Integer | None = None,
        seed: NonNegative = 0,
        check: bool = False,
        transform: Callable[[HeteroData], HeteroData] | None = None,
    ) -> None:
        self.held_out_users, self.seed, self.check = held_out_users, seed, check
        super().__init__(root, transform)

    @property
    def raw_file_names(self) -> list[str]:
        """The manifest, which names the other files."""
        return [MANIFEST]

    def read(self) -> HeteroData:
        """Map the files."""
        folder = Path(self.raw_dir)
        if self.check:
            verify(folder)
        data = open_folder(folder)
        if self.held_out_users is None:
            return data
        return sample_held_out(data, self.held_out_users, self.seed)

    def _load_or_make(self) -> HeteroData:
        # The arrays are where they should be: there is nothing to process, and no copy to store.
        return self.read()
