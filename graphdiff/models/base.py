"""The face that every model shares: settings, training hooks, recommending, saving."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.errors import ConfigError, DataError
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.explanation import Explanation
from graphdiff.nn.topk import inner_product_scorer, topk_blocks
from graphdiff.schema import validate


class BaseConfig(BaseModel):
    """Settings of a model: none to begin with, and each model adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: What settings stood for before they existed: models saved then lack them.
    EARLIER: ClassVar[Mapping[str, Any]] = {}


class ModelConfig(BaseConfig):
    """Settings that every model trained by gradient has."""

    hidden_channels: int = Field(64, ge=1, description="Width d of the embeddings.")
    lr: float = Field(1e-3, gt=0, description="Learning rate of Adam.")
    lr_decay: float = Field(
        1.0, gt=0, le=1, description="What the learning rate is multiplied with after each epoch."
    )
    weight_decay: float = Field(0.0, ge=0, description="Weight decay of Adam.")
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="Decay of the average of the weights; 0 for no average."
    )
    batch_size: int = Field(2048, ge=1, description="Users or interactions per training step.")


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What scoring needs beside a user: score(u, i) = user · item[i] + bias[i].

    Attributes:
        item: ``[I, d]``.
        bias: ``[I]``.
        user: ``[U, d]``, of models with a table of users.
    """

    item: Tensor
    bias: Tensor | None = None
    user: Tensor | None = None


@dataclass(frozen=True)
class Query:
    """Whom to recommend to.

    Attributes:
        rows: The items of each person.
        user: Long ``[B]``, training users; None for people whom only their items tell of.
    """

    rows: Rows
    user: Tensor | None = None


class _Parameters:
    """A model's parameters as they are now, to see later whether they have changed.

    In-place updates bump a parameter's version, but for those of fused optimizers, which come after
    train(). Walking through the modules would be a good part of a small request, so it is done
    once.
    """

    def __init__(self, model: Recommender) -> None:
        self.device = model.device
        self.found = [
            (part._parameters, name, parameter, parameter._version)
            for part in model.modules()
            for name, parameter in part._parameters.items()
            if parameter is not None
        ]

    def changed(self, device: torch.device) -> bool:
        """Whether any was replaced or written to, or the model is on another ``device`` now."""
        return self.device != device or any(
            owner.get(name) is not parameter or parameter._version != version
            for owner, name, parameter, version in self.found
        )


class Recommender(torch.nn.Module, ABC):
    """Base of all models.

    A model is made with :meth:`from_data`, trained by :func:`graphdiff.fit`, asked with
    :meth:`recommend`, and kept with :meth:`save_pretrained` / :meth:`from_pretrained`.

    Args:
        config: The model's settings, an instance of its :attr:`Config`.
        graph: Training interactions and item content; saved along with the weights, so that a
            saved model answers without the dataset.
    """

    Config: ClassVar[type[BaseConfig]] = ModelConfig
    #: What a training batch indexes: users, or positions of training interactions. A model over
    #: nothing is not trained by gradient: :meth:`solve` finds its weights at once.
    batch_over: ClassVar[Literal["users", "interactions", "nothing"]] = "interactions"
    #: Whether a user is made from their items, so that anybody can be recommended to.
    folds_in: ClassVar[bool] = False
    #: Whether item features are read.
    uses_content: ClassVar[bool] = False
    #: Whether, with them, the item-item graphs of the modalities are read too.
    uses_similarity: ClassVar[bool] = True
    #: Whether edges of the modality graphs weigh their similarity; see ``ModalityGraph``.
    weighted_similarity: ClassVar[bool] = False

    available: Tensor

    def __init__(self, config: BaseConfig, graph: RecGraph) -> None:
        super().__init__()
        self.config = config
        self.graph = graph
        self.user_ids: list[Any] | None = None
        self.item_ids: list[Any] | None = None
        self.register_buffer("available", torch.ones(graph.num_items, dtype=torch.bool))
        self._all_available: bool | None = None
        self._index: dict[str, dict[str, int]] = {}
        self._cached: tuple[_Parameters, Tables] | None = None

    @classmethod
    def from_data(cls, data: HeteroData, **settings: Any) -> Self:
        """Builds an untrained model for a dataset.

        Args:
            data: A graph that fits :mod:`graphdiff.schema`.
            **settings: Fields of the model's :attr:`Config`.

        Raises:
            DataError: If ``data`` does not fit the schema.
            ConfigError: If a setting does not exist or is out of range.
        """
        validate(data)
        config = cls.configure(**settings)
        num_neighbors = getattr(config, "num_neighbors", 10)
        graph = RecGraph.from_data(
            data, cls.uses_content, num_neighbors, cls.uses_similarity, cls.weighted_similarity
        )
        model = cls(config, graph)
        model.user_ids = _listed(data["user"].get("raw_id"))
        model.item_ids = _listed(data["item"].get("raw_id"))
        return model

    @classmethod
    def configure(cls, **settings: Any) -> BaseConfig:
        """The model's settings, checked.

        Raises:
            ConfigError: Naming the setting, what was found and what is known.
        """
        unknown = sorted(set(settings) - set(cls.Config.model_fields))
        if unknown:
            raise ConfigError(
                f"{cls.__name__} has no setting {', '.join(map(repr, unknown))}; "
                f"it has {', '.join(cls.Config.model_fields) or 'none'}"
            )
        try:
            return cls.Config(**settings)
        except ValidationError as error:
            found = "; ".join(
                f"{'.'.join(map(str, e['loc']))}={e['input']!r}: {e['msg']}" for e in error.errors()
            )
            raise ConfigError(f"{cls.__name__} cannot be configured so: {found}") from None

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """The values that tuning tries for each setting."""
        return {}

    def _require_content(self) -> None:
        if not self.graph.modalities:
            raise ConfigError(
                f"{type(self).__name__} needs at least one modality, and the data has none; "
                "give item features (x_image, x_text, …) or use LightGCN"
            )

    @property
    def num_users(self) -> int:
        """Number of training users."""
        return self.graph.num_users

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return self.graph.num_items

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.graph.rowptr.device

    def reset_parameters(self) -> None:
        """Draws all learnable parameters anew."""

    def start_epoch(self, generator: torch.Generator) -> None:
        """Called before each training epoch, for what is drawn or made once an epoch."""

    def training_state(self) -> dict[str, Any]:
        """What a resumed training needs of the model beside its weights, for a checkpoint: plain
        values and tensors. Nothing by default; a model with an optimizer of its own
        (:class:`~graphdiff.models.part_optimizer.PartOptimizer`) keeps that one's state here."""
        return {}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`training_state` gave."""

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """The training loss of a batch.

        Args:
            batch: Long ``[B]``, user indices or interaction positions: see :attr:`batch_over`.
            generator: Source of all randomness, on the model's device.

        Returns:
            A scalar.
        """
        raise NotImplementedError(f"{type(self).__name__} is not trained by gradient")

    def solve(self) -> None:
        """Finds the weights of a model over nothing at once, from its graph."""
        raise NotImplementedError(f"{type(self).__name__} is trained by gradient")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimizer is made with: by default one group of all parameters.

        A group may have an ``lr`` or ``weight_decay`` of its own beside its ``params``.
        """
        return [{"params": list(self.parameters())}]

    @abstractmethod
    def tables(self) -> Tables:
        """What scoring needs beside a user; :meth:`recommend` keeps it while it is valid."""

    def vectors(self, query: Query, tables: Tables) -> Tensor:
        """Vectors ``[B, d]`` of people, to be multiplied with ``tables.item``.

        By default these are rows of ``tables.user``. A model that makes a user from their items
        overrides this and sets :attr:`folds_in`.
        """
        assert tables.user is not None
        assert query.user is not None
        return tables.user[query.user]

    def scorer(self, query: Query, tables: Tables, **options: Any) -> Callable[[int, int], Tensor]:
        """A function ``(start, stop)`` that gives the scores ``[B, stop - start]`` of these items.

        By default an inner product of :meth:`vectors` with ``tables.item``; a model whose scores
        are none overrides this.
        """
        return inner_product_scorer(
            self.vectors(query, tables, **options), tables.item, tables.bias
        )

    def forward(self, user_index: Tensor, item_index: Tensor | None = None) -> Tensor:
        """Scores.

        Args:
            user_index: Long ``[B]``.
            item_index: Long ``[B]``, one item per user; by default all items.

        Returns:
            ``[B]``, or ``[B, I]`` without ``item_index``.
        """
        query = Query(self.graph.rows(user_index), user_index)
        score = self.scorer(query, self.tables())(0, self.num_items)
        return score if item_index is None else score.gather(1, item_index.unsqueeze(1)).squeeze(1)

    @torch.no_grad()
    def recommend(
        self,
        user_index: Tensor | int | list[int] | None = None,
        k: int = 20,
        exclude_seen: bool = True,
        exclude: tuple[Tensor, Tensor] | None = None,
        *,
        items: Sequence[Any] | Tensor | None = None,
        candidates: Tensor | Sequence[int] | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        """The best items of each person over the whole catalogue.

        Args:
            user_index: User indices, long ``[B]``, a list, or one integer.
            k: Number of items per person.
            exclude_seen: Leave out a person's own items: those of training, or ``items``.
            exclude: More pairs to leave out: ``(row, item)``, long ``[P]`` each, where ``row``
                is a position in ``user_index`` or ``items``.
            items: Instead of ``user_index``, what people have interacted with: one list of items,
                or a list of such lists. Items are indices, or raw ids where they are text.
                Repeats count once. For models that fold users in (:attr:`folds_in`).
            candidates: Items that may be recommended at all: indices, long ``[C]``, or a bool mask
                ``[I]``. All by default.
            **options: What a model's :meth:`vectors` takes beside.

        Returns:
            ``(item_index [B, k] long, score [B, k])``, best first. Where fewer than ``k`` items
            remain, the end is filled with item -1 and score -inf.

        Raises:
            ConfigError: If ``k`` is not in 1 … I, an index is out of range, not exactly one of
                ``user_index`` and ``items`` is given, or the model cannot fold in.
            DataError: If a raw id is unknown.
        """
        query = self._query_of(user_index, items)
        with self._answering():
            score_block = self.scorer(query, self._valid_tables(), **options)
        score, item = topk_blocks(
            score_block,
            query.rows.num,
            self.num_items,
            k,
            exclude=self._left_out(query, exclude_seen, exclude),
            allowed=self._allowed(candidates),
        )
        return item, score

    def _query_of(
        self,
        user_index: Tensor | int | list[int] | None,
        items: Sequence[Any] | Tensor | None,
    ) -> Query:
        if (user_index is None) == (items is None):
            raise ConfigError("give either user_index or items, to say whom to recommend to")
        if user_index is not None:
            user = self._as_users(user_index)
            return Query(self.graph.rows(user), user)
        if not self.folds_in:
            raise ConfigError(
                f"{type(self).__name__} knows only the users it was trained on; give user_index, "
                "or take a model that makes a user from their items, such as LD4MRec"
            )
        assert items is not None
        return Query(self._as_rows(items))

    def _left_out(
        self, query: Query, exclude_seen: bool, exclude: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor] | None:
        """All pairs to leave out, ``(row, item)``, long ``[P]`` each."""
        given = (
            None if exclude is None else (exclude[0].to(self.device), exclude[1].to(self.device))
        )
        if not exclude_seen:
            return given
        row, item, _ = query.rows
        if given is None:
            return row, item
        return torch.cat([given[0], row]), torch.cat([given[1], item])

    @torch.no_grad()
    def similar_items(
        self, item_index: Tensor | int | list[int], k: int = 20
    ) -> tuple[Tensor, Tensor]:
        """The items whose vectors point most nearly the same way.

        Args:
            item_index: Item indices, long ``[B]``, a list, or one integer; :meth:`index_of_item`
                and :meth:`raw_item` go from and to raw ids.
            k: Number of items for each.

        Returns:
            ``(item_index [B, k] long, cosine [B, k])``, best first, without the item itself and
            without those that were removed. Where fewer than ``k`` remain, the end is filled with
            item -1 and cosine -inf.

        Raises:
            ConfigError: If an index or ``k`` is out of range, or the model has no item vectors.
        """
        own = torch.atleast_1d(torch.as_tensor(item_index, dtype=torch.long, device=self.device))
        self._check_items(own.tolist())
        self._require_vectors()
        with self._answering():
            item = self._valid_tables().item
        query = F.normalize(item[own], dim=-1)

        def score_block(start: int, stop: int) -> Tensor:
            return query @ F.normalize(item[start:stop], dim=-1).t()

        row = torch.arange(own.numel(), device=self.device)
        cosine, similar = topk_blocks(
            score_block,
            own.numel(),
            self.num_items,
            k,
            exclude=(row, own),
            allowed=self._allowed(None),
        )
        return similar, cosine

    @classmethod
    def _scores_by_vectors(cls) -> bool:
        """Whether scores are inner products of :meth:`vectors` with ``tables.item``."""
        return cls.scorer is Recommender.scorer

    def _require_vectors(self) -> None:
        if not self._scores_by_vectors():
            raise ConfigError(
                f"{type(self).__name__} does not score by inner products with item vectors; take "
                "a model that does, such as LD4MRec or LightGCN"
            )

    def explain(
        self,
        user_index: int | None = None,
        item: int | None = None,
        *,
        items: Sequence[Any] | Tensor | None = None,
        num_items: int = 10,
    ) -> Explanation:
        """Takes the score of one item for one person apart.

        Raises:
            ConfigError: If the model's scores have no parts.
        """
        raise ConfigError(f"{type(self).__name__} cannot explain its scores; LD4MRec can")

    @torch.no_grad()
    def denoise(self, user_index: Tensor | int | list[int] | None = None) -> tuple[Rows, Tensor]:
        """How much the model believes each of the users' own training interactions.

        A model that makes a user from their items (:attr:`folds_in`) is asked for an item's score
        when the row holds all the others but not this one. Only the row is made without it: tables
        and weights were made with all interactions. Any other model is asked for its score of the
        item as it stands.

        Raw scores do not compare between users, so a score is told in standard deviations above
        the mean score that the same row gives to up to 512 items of the catalogue, the same for
        all. This measure is ours.

        Args:
            user_index: User indices, long ``[B]``, a list, or one integer; all users by default.

        Returns:
            The users' rows with ``nnz`` items in all, and a score for each of them, float32
            ``[nnz]``: higher is more believed, and zero where a row scores all items alike.

        Raises:
            ConfigError: If a user index is out of range.
        """
        from graphdiff.models.interaction_scores import observed_scores

        everyone = torch.arange(self.num_users, device=self.device)
        user = everyone if user_index is None else self._as_users(user_index)
        training = self.training
        self.eval()
        try:
            return observed_scores(self, user)
        finally:
            self.train(training)

    def add_items(self, features: Mapping[str, Tensor], ids: Sequence[Any] | None = None) -> Tensor:
        """Adds items to the catalogue without training.

        Raises:
            ConfigError: If the model knows items only by their interactions.
        """
        raise ConfigError(f"{type(self).__name__} cannot take items that it was not trained on")

    def remove_items(self, items: Sequence[Any] | Tensor) -> None:
        """Takes items out of the catalogue: they are never recommended again.

        Indices stay as they are, and what people did with these items still tells of them.

        Args:
            items: Indices, long ``[n]``, or raw ids where they are text.
        """
        self.available[torch.as_tensor(self._item_indices(items), device=self.device)] = False
        self._all_available = False

    def _allowed(self, candidates: Tensor | Sequence[int] | None) -> Tensor | None:
        """Which items may be recommended, bool ``[I]``; None for all."""
        if self._all_available is None:
            self._all_available = bool(self.available.all())
        allowed = None if candidates is None else self._as_mask(candidates)
        if self._all_available:
            return allowed
        return self.available if allowed is None else self.available & allowed

    def _check_new(self, features: Mapping[str, Tensor], ids: Sequence[Any] | None) -> int:
        """How many items are to be added; refuses what does not fit."""
        unknown = sorted(set(features) - set(self.graph.modalities))
        if unknown or not features:
            raise DataError(
                f"features are of {unknown or 'no modality'}; the model knows "
                f"{', '.join(self.graph.modalities) or 'none'}"
            )
        num = len(next(iter(features.values())))
        for name, x in features.items():
            expected = [num, self.graph.features(name)[0].size(1)]
            if list(x.shape) != expected:
                raise DataError(f"features of {name} are {list(x.shape)}; expected {expected}")
        if (ids is None) != (self.item_ids is None):
            raise DataError(
                "the model has raw item ids: give one for each new item"
                if ids is None
                else "the model has no raw item ids, so new items get none"
            )
        if ids is not None:
            known = set(map(str, self.item_ids or []))
            twice = [one for one in ids if str(one) in known]
            if len(ids) != num or len(set(map(str, ids))) != num or twice:
                raise DataError(
                    f"{len(ids)} ids for {num} new items"
                    + (f", of which {twice[0]!r} is known already" if twice else "")
                    + "; give a new id for each"
                )
        return num

    def _grown(self, num: int, ids: Sequence[Any] | None) -> None:
        """Takes note of ``num`` new items at the end of the catalogue."""
        self.available = torch.cat([self.available, self.available.new_ones(num)])
        if ids is not None and self.item_ids is not None:
            self.item_ids = [*self.item_ids, *ids]
        self._index.clear()
        self.forget_tables()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Evaluation mode for as long as it takes."""
        # Setting the mode visits every module, which would cost more than a small request.
        training = self.training
        if training:
            self.eval()
        try:
            yield
        finally:
            if training:
                self.train()  # which forgets the tables

    def _as_rows(self, items: Sequence[Any] | Tensor) -> Rows:
        if isinstance(items, Tensor):
            items = items.tolist()
        lists = [items] if not items or not isinstance(items[0], (list, tuple, Tensor)) else items
        # All lists at once: a tensor for each would cost more than the answer.
        indices = [self._item_indices(one) for one in lists]
        length = torch.tensor([len(one) for one in indices])
        item = torch.tensor([index for one in indices for index in one], dtype=torch.long)
        row = torch.arange(len(indices)).repeat_interleave(length, output_size=item.numel())
        key = (row * self.num_items + item).unique()
        return Rows(
            (key // self.num_items).to(self.device),
            (key % self.num_items).to(self.device),
            len(indices),
        )

    def _item_indices(self, items: Sequence[Any] | Tensor) -> list[int]:
        if isinstance(items, Tensor):
            items = items.tolist()
        indices = [self.index_of_item(one) if isinstance(one, str) else int(one) for one in items]
        self._check_items(indices)
        return indices

    def _check_items(self, indices: list[int]) -> None:
        num_items = self.num_items
        for index in indices:
            if not 0 <= index < num_items:
                raise ConfigError(
                    f"item index {index} is out of range; this model knows items 0 to "
                    f"{num_items - 1}"
                )

    def _as_mask(self, candidates: Tensor | Sequence[int]) -> Tensor:
        chosen = torch.as_tensor(candidates, device=self.device)
        if chosen.dtype == torch.bool:
            return chosen
        self._check_items(chosen.tolist())
        mask = torch.zeros(self.num_items, dtype=torch.bool, device=self.device)
        mask[chosen.long()] = True
        return mask

    def _as_users(self, users: Tensor | int | list[int]) -> Tensor:
        index = torch.atleast_1d(torch.as_tensor(users, device=self.device))
        if index.numel():
            low, high = int(index.min()), int(index.max())
            if low < 0 or high >= self.num_users:
                raise ConfigError(
                    f"user index {low if low < 0 else high} is out of range; this model knows "
                    f"users 0 to {self.num_users - 1}"
                )
        return index

    def train(self, mode: bool = True) -> Self:
        """Sets training mode; what :meth:`recommend` had cached is forgotten."""
        if mode:
            self.forget_tables()
        return super().train(mode)

    def forget_tables(self) -> None:
        """Makes :meth:`recommend` compute its tables anew, after weights changed unseen."""
        self._cached = None

    def _valid_tables(self) -> Tables:
        if self._cached is None or self._cached[0].changed(self.device):
            tables = self.tables()
            if self._scores_by_vectors():
                # Column by column, the scores of one person are read up to three times as fast.
                tables = replace(tables, item=tables.item.t().contiguous().t())
            self._cached = (_Parameters(self), tables)
        return self._cached[1]

    def raw_user(self, user_index: int) -> Any:
        """The raw id of a user index."""
        return user_index if self.user_ids is None else self.user_ids[user_index]

    def raw_item(self, item_index: int) -> Any:
        """The raw id of an item index."""
        return item_index if self.item_ids is None else self.item_ids[item_index]

    def index_of_user(self, raw_id: Any) -> int:
        """The index of a user's raw id, which may also be given as text.

        Raises:
            DataError: If the model does not know the user.
        """
        return self._index_of("user", raw_id)

    def index_of_item(self, raw_id: Any) -> int:
        """The index of an item's raw id, which may also be given as text.

        Raises:
            DataError: If the model does not know the item.
        """
        return self._index_of("item", raw_id)

    def _index_of(self, node: Literal["user", "item"], raw_id: Any) -> int:
        known = self.user_ids if node == "user" else self.item_ids
        size = self.num_users if node == "user" else self.num_items
        if node not in self._index:
            self._index[node] = {
                str(one): n for n, one in enumerate(range(size) if known is None else known)
            }
        try:
            return self._index[node][str(raw_id)]
        except KeyError:
            raise DataError(
                f"no {node} {raw_id!r} among the {size} {node}s that this model was trained on"
            ) from None

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes ``config.yaml`` and ``model.safetensors`` (and ``ids.json`` with raw ids).

        The folder is complete in itself: :meth:`from_pretrained` needs no dataset.
        """
        from graphdiff.models.storage import save_model

        save_model(self, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """A model back from a folder written by :meth:`save_pretrained` or by training.

        Raises:
            RunError: If the folder is missing, incomplete, damaged, or holds another model.
        """
        from graphdiff.models.storage import load_model

        return load_model(Path(folder), expected=cls)

    def num_parameters(self) -> int:
        """Number of learnable values."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def __repr__(self) -> str:
        shown = {"parameters": self.num_parameters()}
        if isinstance(self.config, ModelConfig):
            shown = {"hidden_channels": self.config.hidden_channels, **shown}
        sizes = ", ".join(f"{name}={value}" for name, value in shown.items())
        return f"{type(self).__name__}({self.num_users}, {self.num_items}, {sizes})"


def _listed(ids: Any) -> list[Any] | None:
    return ids.tolist() if isinstance(ids, Tensor) else ids
