"""The face that every model shares: settings, training hooks, recommending, saving."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.errors import ConfigError, DataError
from graphdiff.nn.graph import RecGraph
from graphdiff.nn.topk import topk_inner_product
from graphdiff.schema import validate


class ModelConfig(BaseModel):
    """Settings that every trained model has; each model adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden_channels: int = Field(64, ge=1, description="Width d of the embeddings.")
    lr: float = Field(1e-3, gt=0, description="Learning rate of Adam.")
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


class Recommender(torch.nn.Module, ABC):
    """Base of all models.

    A model is made with :meth:`from_data`, trained by :func:`graphdiff.fit`, asked with
    :meth:`recommend`, and kept with :meth:`save_pretrained` / :meth:`from_pretrained`.

    Args:
        config: The model's settings, an instance of its :attr:`Config`.
        graph: Training interactions and item content; saved along with the weights, so that a
            saved model answers without the dataset.
    """

    Config: ClassVar[type[ModelConfig]] = ModelConfig
    #: What a training batch indexes: users, or positions of training interactions.
    batch_over: ClassVar[Literal["users", "interactions"]] = "interactions"
    #: Whether item features and modality graphs are read.
    uses_content: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, graph: RecGraph) -> None:
        super().__init__()
        self.config = config
        self.graph = graph
        self.user_ids: list[Any] | None = None
        self.item_ids: list[Any] | None = None
        self._cached: tuple[tuple[Any, ...], Tables] | None = None

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
        model = cls(config, RecGraph.from_data(data, cls.uses_content, num_neighbors))
        model.user_ids = _listed(data["user"].get("raw_id"))
        model.item_ids = _listed(data["item"].get("raw_id"))
        return model

    @classmethod
    def configure(cls, **settings: Any) -> ModelConfig:
        """The model's settings, checked.

        Raises:
            ConfigError: Naming the setting, what was found and what is known.
        """
        unknown = sorted(set(settings) - set(cls.Config.model_fields))
        if unknown:
            raise ConfigError(
                f"{cls.__name__} has no setting {', '.join(map(repr, unknown))}; "
                f"it has {', '.join(cls.Config.model_fields)}"
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

    @abstractmethod
    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """The training loss of a batch.

        Args:
            batch: Long ``[B]``, user indices or interaction positions: see :attr:`batch_over`.
            generator: Source of all randomness, on the model's device.

        Returns:
            A scalar.
        """

    @abstractmethod
    def tables(self) -> Tables:
        """What scoring needs beside a user; :meth:`recommend` keeps it while it is valid."""

    def user_vectors(self, user_index: Tensor, tables: Tables) -> Tensor:
        """Vectors ``[B, d]`` of training users, to be multiplied with ``tables.item``."""
        assert tables.user is not None
        return tables.user[user_index]

    def forward(self, user_index: Tensor, item_index: Tensor | None = None) -> Tensor:
        """Scores.

        Args:
            user_index: Long ``[B]``.
            item_index: Long ``[B]``, one item per user; by default all items.

        Returns:
            ``[B]``, or ``[B, I]`` without ``item_index``.
        """
        tables = self.tables()
        user = self.user_vectors(user_index, tables)
        if item_index is None:
            score = user @ tables.item.t()
            return score if tables.bias is None else score + tables.bias
        score = (user * tables.item[item_index]).sum(dim=-1)
        return score if tables.bias is None else score + tables.bias[item_index]

    @torch.no_grad()
    def recommend(
        self,
        user_index: Tensor | int | list[int],
        k: int = 20,
        exclude_seen: bool = True,
        exclude: tuple[Tensor, Tensor] | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        """The best items of each user over the whole catalogue.

        Args:
            user_index: User indices, long ``[B]``, a list, or one integer.
            k: Number of items per user.
            exclude_seen: Leave out the user's training items.
            exclude: More pairs to leave out: ``(row, item)``, long ``[P]`` each, where ``row``
                is a position in ``user_index``.
            **options: What a model's :meth:`user_vectors` takes beside users.

        Returns:
            ``(item_index [B, k] long, score [B, k])``, best first. Where fewer than ``k`` items
            remain, the end is filled with item -1 and score -inf.

        Raises:
            ConfigError: If ``k`` is not in 1 … I, or a user index is out of range.
        """
        user_index = self._as_users(user_index)
        training = self.training
        self.eval()
        try:
            tables = self._valid_tables()
            user = self.user_vectors(user_index, tables, **options)
        finally:
            self.train(training)  # which forgets the tables if the model is in training
        pairs = [] if exclude is None else [tuple(t.to(self.device) for t in exclude)]
        if exclude_seen:
            pairs.append(self.graph.rows(user_index))
        left_out = (
            (torch.cat([row for row, _ in pairs]), torch.cat([item for _, item in pairs]))
            if pairs
            else None
        )
        score, item = topk_inner_product(user, tables.item, tables.bias, k, exclude=left_out)
        return item, score

    def _as_users(self, users: Tensor | int | list[int]) -> Tensor:
        index = torch.atleast_1d(torch.as_tensor(users, device=self.device))
        outside = index[(index < 0) | (index >= self.num_users)]
        if outside.numel():
            raise ConfigError(
                f"user index {outside[0].item()} is out of range; this model knows users "
                f"0 to {self.num_users - 1}"
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
        # In-place updates bump a parameter's version (but for fused optimizers, which come after
        # train()), so a stale cache is not served.
        key = (self.device, *(p._version for p in self.parameters()))
        if self._cached is None or self._cached[0] != key:
            self._cached = (key, self.tables())
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
        for index, known in enumerate(
            range(self.num_users) if self.user_ids is None else self.user_ids
        ):
            if str(known) == str(raw_id):
                return index
        raise DataError(
            f"no user {raw_id!r} among the {self.num_users} users that this model was trained on"
        )

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
        return (
            f"{type(self).__name__}({self.num_users}, {self.num_items}, "
            f"hidden_channels={self.config.hidden_channels}, "
            f"parameters={self.num_parameters()})"
        )


def _listed(ids: Any) -> list[Any] | None:
    return ids.tolist() if isinstance(ids, Tensor) else ids
