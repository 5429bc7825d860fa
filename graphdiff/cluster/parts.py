"""Parts of the recommendations for all users, and what they belong to."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from graphdiff.files import write_bytes
from graphdiff.models.base import Recommender
from graphdiff.models.registry import get_model
from graphdiff.models.storage import load_model

#: Users of one request to the model.
BATCH = 1024


@dataclass(frozen=True)
class Plan:
    """Everything that the content of a folder of recommendations depends on.

    Attributes:
        model: Name of the model's class.
        files: SHA-256 digests of the files that hold the model.
        k: Items per user.
        users: ``"all"``, or the SHA-256 digest of the users' indices.
        num_users: Number of users.
        part_users: Users per part; the last part may have fewer.
    """

    model: str
    files: dict[str, str]
    k: int
    users: str
    num_users: int
    part_users: int

    @property
    def num_parts(self) -> int:
        """Number of parts."""
        return -(-self.num_users // self.part_users)

    def missing(self, folder: Path) -> list[int]:
        """Return the parts that ``folder`` lacks."""
        return [part for part in range(self.num_parts) if not part_path(folder, part).exists()]

    def places(self, part: int) -> range:
        """Return the positions of a part's users."""
        start = part * self.part_users
        return range(start, min(start + self.part_users, self.num_users))


def part_path(folder: Path, part: int) -> Path:
    """Return the file of a part."""
    return folder / f"part-{part:05d}.parquet"


class PartScorer:
    """A model that writes parts. Each worker of a cluster makes its own.

    Args:
        run: The RUN folder.
        folder: Folder of the parts.
        plan: The plan.
        users: Indices of the users; None for all.
        model: Class of the model as ``package.module:Class``, if it is not declared.
    """

    def __init__(
        self,
        run: Path,
        folder: Path,
        plan: Plan,
        users: Sequence[int] | None = None,
        model: str | None = None,
    ) -> None:
        if model is not None:
            get_model(model)
        trained = load_model(run, Recommender)  # type: ignore[type-abstract]
        self.model = trained.to("cuda" if torch.cuda.is_available() else "cpu")
        self.folder, self.plan = folder, plan
        self.users = range(self.model.num_users) if users is None else users
        catalogue = self.model.catalogue
        self.user_ids = _id_column(catalogue.user_ids, self.model.num_users)
        self.item_ids = _id_column(catalogue.item_ids, self.model.num_items)

    def write(self, part: int) -> None:
        """Write a part, unless it is there."""
        path = part_path(self.folder, part)
        if path.exists():
            return
        places = self.plan.places(part)
        users = self.users[places.start : places.stop]
        tables = [self._table(users[n : n + BATCH]) for n in range(0, len(users), BATCH)]
        content = io.BytesIO()
        pq.write_table(pa.concat_tables(tables), content, compression="zstd")
        write_bytes(path, content.getbuffer())

    def _table(self, users: Sequence[int]) -> pa.Table:
        user = torch.tensor(users)
        item, score = (x.cpu() for x in self.model.recommend(user, k=self.plan.k))
        # Where fewer than k items remain, the end of a list is -1.
        found = item >= 0
        rank = torch.arange(1, self.plan.k + 1, dtype=torch.int32).expand_as(item)
        return pa.table(
            {
                "user": self.user_ids.take(
                    pa.array(user.unsqueeze(1).expand_as(item)[found].numpy())
                ),
                "rank": rank[found].numpy(),
                "item": self.item_ids.take(pa.array(item[found].numpy())),
                "score": score[found].float().numpy(),
            }
        )


def _id_column(ids: Sequence[Any] | None, num: int) -> pa.Array:
    return pa.array(range(num) if ids is None else list(ids))
