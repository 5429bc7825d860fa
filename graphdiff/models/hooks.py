"""The methods that a model implements: settings, training and scoring."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from graphdiff.errors import ConfigError
from graphdiff.graph.store import RecGraph
from graphdiff.models.config import BaseConfig, ModelConfig, combined, configure
from graphdiff.models.part_optimizer import PartOptimizer
from graphdiff.models.query import Query
from graphdiff.models.table_cache import Tables
from graphdiff.nn.parts import build_part, describe_part
from graphdiff.nn.topk import inner_product_scorer


class ModelHooks(torch.nn.Module, ABC):
    """The methods that a model implements; :class:`~graphdiff.models.base.Recommender` adds those
    that users call.

    A model overrides :meth:`loss` (or :meth:`solve`), :meth:`tables` and, as needed, the others.

    Args:
        config: The model's settings, an instance of its :attr:`Config`.
        graph: Training interactions and item content.
    """

    Config: ClassVar[type[BaseConfig]] = ModelConfig
    #: Entries of a training batch: users, or positions of training interactions. A model over
    #: nothing is not trained by gradient: :meth:`solve` computes its weights at once.
    batch_over: ClassVar[Literal["users", "interactions", "nothing"]] = "interactions"
    #: Whether a user is computed from a history, so that new users can be folded in.
    folds_in: ClassVar[bool] = False
    #: Whether item features are used.
    uses_content: ClassVar[bool] = False
    #: Whether the item-item graphs of the modalities are used along with the features.
    uses_similarity: ClassVar[bool] = True
    #: Whether the order of the interactions in time is used, where the data has times.
    reads_times: ClassVar[bool] = False
    #: Whether edges of the modality graphs are weighted by similarity; see ``ModalityGraph``.
    weighted_similarity: ClassVar[bool] = False
    #: Names of constructor arguments that replace built-in parts of the model by other modules.
    part_names: ClassVar[tuple[str, ...]] = ()
    #: Settings that have a name: by name of the preset, settings by (dotted) name. A model with a
    #: preset is named ``<model>-<preset>``; see :mod:`graphdiff.models.presets`.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    _epoch_started = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, wrap in (
            ("loss", _after_start),
            ("part_loss", _after_start),
            ("start_epoch", _noting_start),
        ):
            if name in vars(cls):
                setattr(cls, name, wrap(vars(cls)[name]))

    def __init__(self, config: BaseConfig, graph: RecGraph) -> None:
        super().__init__()
        self.config = config
        self.graph = graph
        #: Names of the parts that were given to the constructor; they are attributes of the model.
        self.given_parts: tuple[str, ...] = ()

    @classmethod
    def configure(cls, preset: str | None = None, /, **settings: Any) -> BaseConfig:
        """Return checked settings of the model.

        Args:
            preset: One of :attr:`presets`, whose settings replace the defaults.
            **settings: Fields of :attr:`Config`. Settings in groups are given as a dictionary or
                by dotted name: ``**{"diffusion.num_steps": 10}``.

        Raises:
            ConfigError: If there is no such preset, or naming the setting, the value found and the
                settings that exist.
        """
        if preset is not None:
            settings = combined(cls.preset_settings(preset), settings, cls.__name__)
        return configure(cls.Config, settings, cls.__name__)

    @classmethod
    def preset_settings(cls, preset: str) -> dict[str, Any]:
        """Return the settings of a preset by name.

        Raises:
            ConfigError: If the model has no such preset.
        """
        if preset not in cls.presets:
            raise ConfigError(
                f"{cls.__name__} has no preset {preset!r}; it has "
                f"{', '.join(cls.presets) or 'none'}"
            )
        return dict(cls.presets[preset])

    @classmethod
    def search_space(cls) -> dict[str, list[Any]]:
        """Return the values that tuning tries for each setting."""
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
        """Number of items."""
        return self.graph.num_items

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.graph.rowptr.device

    def describe_parts(self) -> dict[str, Any]:
        """Return what :meth:`rebuild` needs to restore the parts that replace built-in ones, as
        plain values that YAML can hold; see :func:`graphdiff.nn.parts.describe_part`."""
        return {name: describe_part(getattr(self, name)) for name in self.given_parts}

    @classmethod
    def rebuild(
        cls,
        config: BaseConfig,
        graph: RecGraph,
        parts: Mapping[str, Any],
        given: Mapping[str, torch.nn.Module] | None = None,
    ) -> Self:
        """Build a saved model; its weights are loaded afterwards.

        Args:
            config: Its settings.
            graph: Its graph.
            parts: The result of :meth:`describe_parts`; values come from a file, so they must not
                lead to an import.
            given: Parts by name, which are used in place of descriptions.

        Raises:
            ConfigError: If a part cannot be restored, or the model has no such part.
        """
        given = given or {}
        unknown = sorted((set(parts) | set(given)) - set(cls.part_names))
        if unknown:
            known = ", ".join(cls.part_names) or "none"
            raise ConfigError(f"{cls.__name__} has no part {', '.join(unknown)}; it has {known}")
        built = dict(given)
        for name in set(parts) - set(given):
            try:
                built[name] = build_part(parts[name])
            except ConfigError as error:
                raise ConfigError(
                    f"part {name}: {error}, as from_pretrained(folder, {name}=...)"
                ) from None
        return cls(config, graph, **built)

    def reset_parameters(self) -> None:
        """Draw new values for all learnable parameters."""

    def start_epoch(self, generator: torch.Generator) -> None:
        """Prepare a training epoch: draw or compute what is fixed within one.

        A training loop calls it before each epoch. Where it was never called, the first
        :meth:`loss` calls it with its own generator.
        """

    def training_state(self) -> dict[str, Any]:
        """Return what resuming a training needs beside the weights: plain values and tensors.

        By default the states of the model's own optimizers
        (:class:`~graphdiff.models.part_optimizer.PartOptimizer`), by the names of its attributes;
        most models have none.
        """
        return {name: one.state_dict() for name, one in self._part_optimizers().items()}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`training_state` returned."""
        for name, optimizer in self._part_optimizers().items():
            optimizer.load_state_dict(state[name])

    def _part_optimizers(self) -> dict[str, PartOptimizer]:
        return {name: one for name, one in vars(self).items() if isinstance(one, PartOptimizer)}

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return the training loss of a batch.

        Args:
            batch: Long ``[B]``, user indices or interaction positions: see :attr:`batch_over`.
            generator: Source of all randomness, on the model's device.

        Returns:
            A scalar.
        """
        if self.batch_over == "nothing":
            raise NotImplementedError(f"{type(self).__name__} is not trained by gradient")
        raise NotImplementedError(
            f"{type(self).__name__} does not define loss(); define it, or set "
            "batch_over = 'nothing' and define solve()"
        )

    def calibrate(self, pairs: Tensor) -> None:
        """Set what validation decides beside the epoch, before this epoch is validated, or after
        the model was solved.

        Nothing by default. It must not change the weights that training goes on with.

        Args:
            pairs: Validation pairs (user, item), long ``[2, P]``.
        """

    def part_loss(self, batch: Tensor, generator: torch.Generator, part: slice) -> Tensor:
        """Return what some rows of a batch contribute to its :meth:`loss`, for a training by
        several processes. The contributions of all parts sum to the loss.

        Each process calls it with the same batch and the same state of its generator. All random
        values are drawn for the whole batch, so they are those of a training by one process.

        By default it is the part's share of the loss of the whole batch. This is correct for every
        model, but each process computes the whole batch. A model whose loss is a mean over rows
        overrides it to compute its part alone.

        Args:
            batch: Long ``[B]``, as in :meth:`loss`.
            generator: Source of all randomness, on the model's device.
            part: The rows, without a step; possibly none.

        Returns:
            A scalar.
        """
        return self.loss(batch, generator) * (batch[part].numel() / batch.numel())

    def solve(self) -> None:
        """Compute the weights of a model over nothing from its graph."""
        if self.batch_over != "nothing":
            raise NotImplementedError(f"{type(self).__name__} is trained by gradient")
        raise NotImplementedError(f"{type(self).__name__} does not define solve(); define it")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimizer's parameter groups: by default one group of all parameters.

        A group may have its own ``lr`` or ``weight_decay`` beside its ``params``.
        """
        return [{"params": list(self.parameters())}]

    @abstractmethod
    def tables(self) -> Tables:
        """Compute what scoring needs beside a user; ``cached_tables`` keeps it."""

    def user_vectors(self, query: Query, tables: Tables) -> Tensor:
        """Return user vectors ``[B, d]``, to be multiplied with ``tables.item``.

        By default these are rows of ``tables.user``. A model that computes a user from a history
        overrides this and sets :attr:`folds_in`.
        """
        if tables.user is None or query.user is None:
            name = type(self).__name__
            raise ConfigError(
                f"{name} has no table of users; let {name}.tables() return one, as "
                f"Tables(item=…, user=…), or define {name}.user_vectors()"
            )
        return tables.user[query.user]

    def scorer(self, query: Query, tables: Tables, **options: Any) -> Callable[[int, int], Tensor]:
        """Return a function ``(start, stop)`` that computes these items' scores
        ``[B, stop - start]``.

        By default the inner product of :meth:`user_vectors` with ``tables.item``; a model with
        other scores overrides this.
        """
        vectors = self.user_vectors(query, tables, **options)
        return inner_product_scorer(vectors, tables.item, tables.bias)

    def forward(self, user_index: Tensor, item_index: Tensor | None = None) -> Tensor:
        """Return scores.

        Args:
            user_index: Long ``[B]``.
            item_index: Long ``[B]``, one item per user; by default all items.

        Returns:
            ``[B]``, or ``[B, I]`` without ``item_index``.
        """
        query = Query(self.graph.rows(user_index), user_index)
        score = self.scorer(query, self.tables())(0, self.num_items)
        return score if item_index is None else score.gather(1, item_index.unsqueeze(1)).squeeze(1)

    @classmethod
    def scores_by_inner_product(cls) -> bool:
        """Return whether scores are inner products of :meth:`user_vectors` with
        ``tables.item``."""
        return cls.scorer is ModelHooks.scorer

    def require_inner_product(self) -> None:
        """Raise ConfigError unless :meth:`scores_by_inner_product`."""
        if not self.scores_by_inner_product():
            raise ConfigError(
                f"{type(self).__name__} does not score by inner products with item vectors; use "
                "a model that does, such as LD4MRec or LightGCN"
            )

    def num_parameters(self) -> int:
        """Return the number of learnable values."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def __repr__(self) -> str:
        shown = {"parameters": self.num_parameters()}
        if isinstance(self.config, ModelConfig):
            shown = {"hidden_channels": self.config.hidden_channels, **shown}
        sizes = ", ".join(f"{name}={value}" for name, value in shown.items())
        return f"{type(self).__name__}({self.num_users}, {self.num_items}, {sizes})"


def _after_start(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return ``loss`` preceded by the first ``start_epoch``, if that was forgotten."""

    @functools.wraps(loss)
    def started(
        self: ModelHooks, batch: Tensor, generator: torch.Generator, *part: slice
    ) -> Tensor:
        if not self._epoch_started:
            self._epoch_started = True
            self.start_epoch(generator)
        return loss(self, batch, generator, *part)

    return started


def _noting_start(start_epoch: Callable[..., None]) -> Callable[..., None]:
    """Return ``start_epoch`` that records that it was called."""

    @functools.wraps(start_epoch)
    def noting(self: ModelHooks, generator: torch.Generator) -> None:
        self._epoch_started = True
        start_epoch(self, generator)

    return noting
