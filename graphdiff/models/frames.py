"""Recommendations as a DataFrame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphdiff.errors import ConfigError
from graphdiff.models.catalogue import Catalogue
from graphdiff.models.conversion import as_flat, as_lists

if TYPE_CHECKING:
    import pandas as pd


class Frames:
    """The verbs of a model that return a DataFrame."""

    catalogue: Catalogue

    def recommend_frame(
        self, users: Any = None, histories: Any = None, k: int = 20, **options: Any
    ) -> pd.DataFrame:
        """Return the top-k items of each user as a table.

        Args:
            users: Raw ids of training users, or one id.
            histories: Raw ids of past items: one list per user, or a mapping from a name of your
                choice to the list of each. Exactly one of both arguments is given.
            k: Number of items per user (default: 20).
            **options: Further arguments of :meth:`~graphdiff.models.Recommender.recommend`.

        Returns:
            One row per recommendation: ``user`` (raw id, position or name), ``item`` (raw id),
            ``title`` where the catalogue has titles, ``rank`` from 1, and ``score``. Users with
            fewer than ``k`` candidates have fewer rows.

        Raises:
            ConfigError: If not exactly one of ``users`` and ``histories`` is given, and as
                :meth:`~graphdiff.models.Recommender.recommend`.
            DataError: If a raw id is unknown.

        Example:
            >>> from graphdiff import Popularity
            >>> from graphdiff.schema import build_data
            >>> data = build_data(2, 3, [[0, 0, 1], [0, 1, 1]], item_ids=["a", "b", "c"])
            >>> model = Popularity.from_data(data)
            >>> model.solve()
            >>> model.recommend_frame(histories={"guest": ["a"]}, k=1)
                user item  rank  score
            0  guest    b     1    2.0
        """
        import pandas as pd  # Takes half a second, which nothing else here needs.

        if (users is None) == (histories is None):
            raise ConfigError("give either users, raw ids, or histories, lists of raw ids of items")
        recommend: Any = self.recommend  # type: ignore[attr-defined]
        catalogue = self.catalogue
        if users is not None:
            names = as_flat(users, "users", True)
            item, score = recommend(user_id=names, k=k, **options)
        else:
            named = isinstance(histories, Mapping)
            if named and not histories:
                raise ConfigError("histories is empty; give the history of at least one user")
            lists = as_lists(list(histories.values()) if named else histories, "histories")
            names = list(histories) if named else list(range(len(lists)))
            item, score = recommend(history=lists, k=k, **options)
        rows = [
            (name, catalogue.item_id(index), catalogue.details.title(index), rank, value)
            for name, indices, values in zip(names, item.tolist(), score.tolist(), strict=True)
            for rank, (index, value) in enumerate(zip(indices, values, strict=True), start=1)
            if index >= 0
        ]
        frame = pd.DataFrame(rows, columns=["user", "item", "title", "rank", "score"])
        return frame if "title" in catalogue.details.columns else frame.drop(columns="title")
