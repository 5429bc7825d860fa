"""The interface that all models share: settings, training hooks, requests, saving."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.autocast import without_autocast
from graphdiff.errors import ConfigError
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.catalogue import Catalogue
from graphdiff.models.changes import ChangeableModel
from graphdiff.models.config import BaseConfig, ModelConfig, reads_similarity
from graphdiff.models.conversion import as_flag, as_integer
from graphdiff.models.discount import discounted
from graphdiff.models.explanation import Explanation
from graphdiff.models.exploration import explored
from graphdiff.models.frames import Frames
from graphdiff.models.query import Query
from graphdiff.models.registry import explain_abstract, register
from graphdiff.models.table_cache import TableCache, Tables
from graphdiff.nn.topk import topk_blocks
from graphdiff.schema import ItemDetails, validate

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

__all__ = ["BaseConfig", "ModelConfig", "Query", "Recommender", "Tables"]


class Recommender(Frames, ChangeableModel):
    """Base class of all models.

    A model is built with :meth:`from_data`, trained by :func:`graphdiff.fit`, queried with
    :meth:`recommend`, and stored with :meth:`save_pretrained` and :meth:`from_pretrained`. Defining
    a concrete subclass registers it under its class name; see :mod:`graphdiff.models.registry`.

    Users and items are given by index (``*_index``) or by raw id (``*_id``, ``history``,
    ``candidates``, ``exclude``), as lists, NumPy arrays, pandas or Polars columns, or tensors. The
    name of an argument says which, never the type of its value.

    Args:
        config: The model's settings, an instance of its :attr:`Config`.
        graph: Training interactions and item content. They are saved with the weights, so that a
            saved model answers without the dataset.
    """

    def __init_subclass__(cls, registered: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if registered:
            register(cls)

    def __init__(self, config: BaseConfig, graph: RecGraph) -> None:
        super().__init__(config, graph)
        self.catalogue = Catalogue(graph.num_users, graph.num_items)
        self._cache = TableCache()

    @classmethod
    def from_data(cls, data: HeteroData, preset: str | None = None, **settings: Any) -> Self:
        """Build an untrained model for a dataset.

        Args:
            data: A graph that fits :mod:`graphdiff.schema`.
            preset: One of :attr:`presets`, whose settings replace the defaults.
            **settings: Fields of the model's :attr:`Config`, and modules that replace its parts
                (:attr:`part_names`).

        Raises:
            DataError: If ``data`` does not fit the schema.
            ConfigError: If a setting or preset does not exist, a setting is out of range, or the
                class leaves methods abstract.
        """
        if inspect.isabstract(cls):
            raise ConfigError(explain_abstract(cls))
        validate(data)
        parts = {name: settings.pop(name) for name in cls.part_names if name in settings}
        config = cls.configure(preset, **settings)
        num_neighbors = getattr(config, "num_neighbors", 10)
        # A given part may read the item-item graphs, whatever the settings are.
        similarity = cls.uses_similarity and (bool(parts) or reads_similarity(config))
        graph = RecGraph.from_data(
            data, cls.uses_content, num_neighbors, similarity, cls.weighted_similarity
        )
        model = cls(config, graph, **parts)
        model.catalogue.user_ids = data["user"].get("raw_id")
        model.catalogue.item_ids = data["item"].get("raw_id")
        model.catalogue.details = ItemDetails.from_data(data)
        return model

    @without_autocast()
    @torch.no_grad()
    def recommend(
        self,
        user_index: Any = None,
        *,
        user_id: Any = None,
        history: Any = None,
        history_index: Any = None,
        k: int = 20,
        exclude_seen: bool = True,
        exclude: Any = None,
        exclude_index: Any = None,
        candidates: Any = None,
        candidate_index: Any = None,
        explore: float = 0.0,
        popularity_discount: float = 0.0,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        """Return the top-k items of each user over the whole catalogue.

        Exactly one of the first four arguments is given.

        Args:
            user_index: Indices of training users ``[B]``, or one index.
            user_id: Raw ids of training users, or one id.
            history: Raw ids of past items: the items of one user, or one list per user, in the
                order of time, the latest last; the order matters to models that learned from data
                with times. Of repeats the latest counts. For models that fold in
                (:attr:`folds_in`).
            history_index: The same as item indices.
            k: Number of items per user.
            exclude_seen: Exclude a user's own items: those of training, or the history.
            exclude: Raw ids of more items to exclude, one list per user.
            exclude_index: The same as a pair ``(row, item)``, long ``[P]`` each, where ``row`` is
                a position in the request.
            candidates: Raw ids of the only items that may be recommended. All by default.
            candidate_index: The same as item indices, or as a bool mask ``[I]``.
            explore: Share of the list that items without training interactions take at least, from
                0 (best recall now) to 1; see :func:`~graphdiff.models.exploration.explored`.
            popularity_discount: What popular items lose, for more of the tail, 0 or more; see
                :func:`~graphdiff.models.discount.discounted`.
            **options: Further arguments of the model's :meth:`user_vectors` or :meth:`scorer`.

        Returns:
            ``(item_index [B, k] long, score [B, k])``, best first. Where fewer than ``k`` items
            remain, the end is filled with item -1 and score -inf.

        Raises:
            ConfigError: If ``k`` is not in 1 … I, an index is out of range, a value is of the
                wrong kind, not exactly one kind of user is given, or the model cannot fold in.
            DataError: If a raw id is unknown.
        """
        query = self.query(
            user_index, user_id=user_id, history=history, history_index=history_index
        )
        allowed = self.candidate_mask(candidates, candidate_index)
        with self.evaluation_mode():
            # Models may compute statistics of a batch, which an empty one does not have.
            score_block = (
                self.scorer(query, self.cached_tables(), **options)
                if query.rows.num
                else self._no_scores
            )
        score_block = discounted(score_block, query.rows.num, popularity_discount, self.graph)
        excluded = self.excluded_pairs(query, exclude_seen, exclude_index, exclude=exclude)
        best = partial(topk_blocks, score_block, query.rows.num, self.num_items, exclude=excluded)
        score, item = explored(best, as_integer(k, "k"), explore, self.graph, allowed)
        return item, score

    def _no_scores(self, start: int, stop: int) -> Tensor:
        return torch.zeros(0, stop - start, device=self.device)

    def query(
        self,
        user_index: Any = None,
        *,
        user_id: Any = None,
        history: Any = None,
        history_index: Any = None,
    ) -> Query:
        """Return the users of a request; arguments and errors are those of :meth:`recommend`."""
        by_index, by_id = user_index is not None, user_id is not None
        if by_index + by_id + (history is not None) + (history_index is not None) != 1:
            raise ConfigError("give exactly one of user_index, user_id, history and history_index")
        if by_index or by_id:
            user = self.catalogue.users(user_index, user_id)
            return Query(self.graph.rows(user), user)
        if not self.folds_in:
            raise ConfigError(
                f"{type(self).__name__} knows only the users it was trained on; give user_index or "
                "user_id, or use a model that computes a user from a history, such as LD4MRec"
            )
        known = self.graph.age is not None
        return Query(self.catalogue.rows(history, history_index, ordered=known))

    def excluded_pairs(
        self,
        query: Query,
        exclude_seen: bool = True,
        exclude_index: Any = None,
        *,
        exclude: Any = None,
    ) -> tuple[Tensor, Tensor] | None:
        """Return all pairs ``(row, item)`` to exclude, long ``[P]`` each, or None for none;
        arguments and errors are those of :meth:`recommend`."""
        given = self.catalogue.pairs(query.rows.num, exclude, exclude_index)
        if not as_flag(exclude_seen, "exclude_seen"):
            return given
        row, item = query.rows.row, query.rows.item
        if given is None:
            return row, item
        return torch.cat([given[0], row]), torch.cat([given[1], item])

    def candidate_mask(self, candidates: Any = None, candidate_index: Any = None) -> Tensor | None:
        """Return which items may be recommended, bool ``[I]``, or None for all; arguments and
        errors are those of :meth:`recommend`. Removed items are never among them."""
        return self.catalogue.mask(candidates, candidate_index)

    @without_autocast()
    @torch.no_grad()
    def similar_items(
        self, item_index: Any = None, *, item_id: Any = None, k: int = 20
    ) -> tuple[Tensor, Tensor]:
        """Return the items whose vectors have the largest cosine with the given items' vectors.

        Args:
            item_index: Item indices ``[B]``, or one index.
            item_id: Raw ids instead of indices.
            k: Number of items for each.

        Returns:
            ``(item_index [B, k] long, cosine [B, k])``, best first, without the item itself and
            without removed items. Where fewer than ``k`` remain, the end is filled with item -1
            and cosine -inf.

        Raises:
            ConfigError: If an index or ``k`` is out of range, or the model has no item vectors.
            DataError: If a raw id is unknown.
        """
        own = self.catalogue.items(item_index, item_id)
        self.require_inner_product()
        with self.evaluation_mode():
            item = self.cached_tables().item
        query = F.normalize(item[own], dim=-1)

        def score_block(start: int, stop: int) -> Tensor:
            return query @ F.normalize(item[start:stop], dim=-1).t()

        cosine, similar = topk_blocks(
            score_block,
            own.numel(),
            self.num_items,
            as_integer(k, "k"),
            exclude=(torch.arange(own.numel(), device=self.device), own),
            allowed=self.candidate_mask(),
        )
        return similar, cosine

    def explain(
        self,
        item_index: Any = None,
        *,
        item_id: Any = None,
        user_index: Any = None,
        user_id: Any = None,
        history: Any = None,
        history_index: Any = None,
        num_items: int = 10,
    ) -> Explanation:
        """Split the score of one item for one user into parts.

        Raises:
            ConfigError: If the model's scores have no parts.
        """
        raise ConfigError(f"{type(self).__name__} cannot explain its scores; LD4MRec can")

    @without_autocast()
    @torch.no_grad()
    def interaction_scores(self, user_index: Any = None) -> tuple[Rows, Tensor]:
        """Score how credible the model finds each of the users' training interactions.

        A model that folds in (:attr:`folds_in`) scores an item with that item removed from the
        user's row. Only the row changes: tables and weights were computed with all interactions.
        Any other model scores the item as it is.

        Raw scores do not compare between users, so a score is given in standard deviations above
        the mean score of the same row over up to 512 items of the catalogue, the same items for
        all rows. This measure is ours.

        Args:
            user_index: Indices of training users, or one index; all users by default.

        Returns:
            The users' rows with ``nnz`` items in all, and a score for each of them, float32
            ``[nnz]``: higher is more credible, and zero where a row scores all items alike.

        Raises:
            ConfigError: If a user index is out of range.
        """
        from graphdiff.models.interaction_scores import observed_scores

        everyone = torch.arange(self.num_users, device=self.device)
        user = everyone if user_index is None else self.catalogue.users(user_index)
        with self.evaluation_mode():
            return observed_scores(self, user)

    @contextmanager
    def evaluation_mode(self) -> Iterator[None]:
        """Switch to evaluation mode for the duration of a ``with`` block."""
        # Setting the mode visits every module, which would cost more than a small request.
        training = self.training
        if training:
            self.eval()
        try:
            yield
        finally:
            if training:
                self.train()  # which invalidates the tables

    def train(self, mode: bool = True) -> Self:
        """Set training mode; training mode invalidates the cached tables."""
        if mode:
            self.invalidate_tables()
        return super().train(mode)

    def invalidate_tables(self) -> None:
        """Recompute the tables at the next request, after weights changed in a way that the cache
        cannot detect."""
        # A new object: a shallow copy of the model keeps the old one.
        self._cache = TableCache()

    def cached_tables(self) -> Tables:
        """Return :meth:`tables`, computed once until the weights change."""
        return self._cache.get(self, self.device, self._build_tables)

    def _build_tables(self) -> Tables:
        tables = self.tables()
        if self.scores_by_inner_product():
            # Column by column, the scores of one user are read up to three times as fast.
            tables = replace(tables, item=tables.item.t().contiguous().t())
        return tables

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.yaml`` and ``model.safetensors``, ``ids.json`` with raw ids, and
        ``items.json`` with titles, categories and image addresses, where there are any.

        The folder is complete: :meth:`from_pretrained` needs no dataset.
        """
        from graphdiff.models.storage import save_model

        save_model(self, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: str | Path, **parts: torch.nn.Module) -> Self:
        """Load a model from a folder written by :meth:`save_pretrained` or by training.

        Args:
            folder: The folder.
            **parts: Parts that the model was built with and that cannot be rebuilt from the folder,
                because they do not subclass :class:`graphdiff.nn.Part`. The saved weights are
                loaded into them.

        Raises:
            RunError: If the folder is missing, incomplete, damaged, or holds another model.
        """
        from graphdiff.models.storage import load_model

        return load_model(Path(folder), cls, parts)
