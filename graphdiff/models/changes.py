"""The methods that change a trained model: other items, new interactions, forgetting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.store import RecGraph
from graphdiff.models.catalogue import Catalogue, check_new_items
from graphdiff.models.hooks import ModelHooks

if TYPE_CHECKING:
    from graphdiff.training.update import UpdateResult


class ChangeableModel(ModelHooks):
    """The methods that change a trained model; :class:`~graphdiff.models.base.Recommender` adds
    those that answer requests.

    A model that can be updated, or take items that it was not trained on, sets :attr:`updatable`
    and overrides :meth:`adopt_graph`.
    """

    #: Whether new users, items and interactions can be taken in without training from the start.
    updatable: ClassVar[bool] = False
    #: Names of the learned tensors with one row per item.
    item_parameters: ClassVar[tuple[str, ...]] = ()
    catalogue: Catalogue

    def adopt_graph(self, graph: RecGraph, kept: Tensor | None = None) -> None:
        """Take over another graph, and adapt all tables of items to it.

        Args:
            graph: The graph. Its first items are those of ``kept``; further ones are new.
            kept: Items of the present graph that stay, bool ``[I]``; all by default.
        """
        raise ConfigError(self._no_update())

    def before_update(self, pairs: Tensor) -> None:
        """Look at new interactions before :meth:`adopt_graph` adds them: users' answers to what the
        model has learned so far. Nothing by default.

        Args:
            pairs: The interactions (user, item) that the graph lacks, long ``[2, P]``, with P > 0.
                New users and items are part of the graph already.
        """

    def start_update(self, generator: Any) -> None:
        """Prepare an update after :meth:`adopt_graph`; by default as for an epoch."""
        self.start_epoch(generator)

    def update(
        self,
        interactions: Any,
        features: Mapping[str, Any] | None = None,
        *,
        details: Any = None,
        state: Mapping[str, Tensor] | None = None,
        **settings: Any,
    ) -> UpdateResult:
        """Take in new users, items and interactions, and continue training on them.

        Each training batch holds users with new interactions, with their whole histories, and a
        replay of other users. Raw ids stay, and so do the indices of known users and items; new
        ones follow in the order of their ids. Where the model has no raw ids, its indices become
        the ids. Interactions that are known change nothing. After an error the model is as before.

        Args:
            interactions: One row per interaction: a pandas or Polars DataFrame, a pyarrow Table, or
                a mapping of columns, with the columns ``user`` and ``item`` of raw ids.
            features: Per modality ``(ids, values)``: raw item ids ``[N]``, and N rows ``[N, F]``, a
                row of NaN where an item lacks the modality. They are used for new items, also for
                those without interactions; rows of known items are not used. (default: none)
            details: Titles, categories and image addresses of new items: a frame with the column
                ``item`` and any of ``title``, ``category`` and ``image``; rows of other items are
                not used. (default: none)
            state: State of the optimizer, from ``UpdateResult.state`` of the update before.
                (default: the optimizer starts from zero)
            **settings: Fields of :class:`~graphdiff.training.update.UpdateConfig`.

        Returns:
            What was new, and the state of the optimizer.

        Raises:
            ConfigError: If the model cannot be updated, or a setting is unknown or out of range.
            DataError: If interactions, features or details do not fit the model.
            TrainingError: If the loss or a gradient is not finite.
        """
        from graphdiff.training.update import update_model

        return update_model(self, interactions, features, details, state, **settings)

    def forget(
        self,
        *,
        user_id: Any = None,
        item_id: Any = None,
        state: Mapping[str, Tensor] | None = None,
        **settings: Any,
    ) -> UpdateResult:
        """Remove users and items with all their interactions, and repair the model by training.

        Users and items behind a removed one move up: their raw ids stay, their indices do not.
        Where the model has no raw ids, its indices become the ids first. The training that follows
        is that of :meth:`update`, on users who shared items with those removed, and on a replay of
        others. It does not prove that the weights are those of a model that never saw the removed
        interactions; only training from the start does. After an error the model is as before.

        Args:
            user_id: Raw ids of users, or one id.
            item_id: Raw ids of items, or one id.
            state: As in :meth:`update`.
            **settings: As in :meth:`update`.

        Returns:
            What was removed, and the state of the optimizer.

        Raises:
            ConfigError: If the model cannot be updated, neither argument is given, or a setting is
                unknown or out of range.
            DataError: If an id is unknown, or no interaction would be left.
            TrainingError: If the loss or a gradient is not finite.
        """
        from graphdiff.training.update import forget_nodes

        return forget_nodes(self, user_id, item_id, state, **settings)

    def require_updates(self) -> None:
        """Raise ConfigError unless the model can be updated."""
        if not self.updatable:
            raise ConfigError(self._no_update())

    @torch.no_grad()
    def add_items(
        self, features: Mapping[str, Any], *, item_id: Any = None, details: Any = None
    ) -> Tensor:
        """Add items to the catalogue without training.

        A new item is known by its features alone. In each modality it gets messages from its
        nearest existing items, with weights as in :class:`~graphdiff.transforms.ModalityGraph`. In
        LD4MRec its biases are the mean of those of items without training interactions, or of all
        items. Recommendations among the existing items do not change.

        Args:
            features: Per modality ``[n, F_m]``; a row of NaN, or no entry for the modality, where
                an item lacks it.
            item_id: Raw ids of the items, where the model has raw ids.
            details: Any of ``title``, ``category`` and ``image``, each with n texts, for display;
                see :class:`~graphdiff.schema.ItemDetails` (default: none).

        Returns:
            Indices of the new items, long ``[n]``.

        Raises:
            ConfigError: If the model knows items only by their interactions.
            DataError: If features or details do not fit, or an id is missing or known already.
        """
        if not self.updatable:
            raise ConfigError(f"{type(self).__name__} cannot add items that it was not trained on")
        new = check_new_items(self.graph, self.catalogue, features, item_id, details)
        first = self.num_items
        num_neighbors = getattr(self.config, "num_neighbors", 10)
        self.adopt_graph(self.graph.with_items(new.features, new.num, num_neighbors))
        self.catalogue.grow(new.num, new.item_id, new.details)
        return torch.arange(first, self.num_items, device=self.device)

    def remove_items(self, item_index: Any = None, *, item_id: Any = None) -> None:
        """Remove items from the catalogue: they are never recommended again.

        Indices stay as they are, and interactions with these items still describe users.

        Args:
            item_index: Item indices, or one index.
            item_id: Raw ids instead of indices.

        Raises:
            ConfigError: If an index is out of range.
            DataError: If a raw id is unknown.
        """
        self.catalogue.remove(self.catalogue.items(item_index, item_id, ordered=False))

    def _no_update(self) -> str:
        return (
            f"{type(self).__name__} cannot be updated: it has to be trained from the start on all "
            "interactions; train it again, or use a model that can be updated, such as LD4MRec"
        )
