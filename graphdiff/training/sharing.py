"""Training by several processes: each computes its part of every batch and of every ranking."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from graphdiff.console import print_status
from graphdiff.distributed.processes import in_group, join_parts, num_processes, own_part
from graphdiff.errors import ConfigError
from graphdiff.evaluation.ranking import RecommendsItems
from graphdiff.models.base import Recommender
from graphdiff.models.hooks import ModelHooks
from graphdiff.training.checkpoints import WholeCheckpoints
from graphdiff.training.config import TrainingConfig


def shared_loss(model: Recommender, batch: Tensor, generator: torch.Generator) -> Tensor:
    """Return what this process contributes to the loss of a batch that all processes have."""
    if not in_group():
        return model.loss(batch, generator)
    if batch.numel() < num_processes():
        return model.loss(batch, generator) / num_processes()
    return model.part_loss(batch, generator, own_part(batch.numel()))


class SharedRanking:
    """A model whose processes each rank the catalogue for a part of the users of a request.

    All processes make the same requests and get the same answers.

    Args:
        model: The model, with the same weights in each process.
    """

    def __init__(self, model: Recommender) -> None:
        self.model = model
        self.num_items = model.num_items

    def recommend(
        self,
        user_index: Tensor,
        *,
        k: int,
        exclude_seen: bool = True,
        exclude_index: tuple[Tensor, Tensor] | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        """Return the top-k items of each user, as :meth:`Recommender.recommend` does."""
        num = user_index.numel()
        part = own_part(num)
        if exclude_index is not None:
            row, item = exclude_index
            own = (row >= part.start) & (row < part.stop)
            exclude_index = row[own] - part.start, item[own]
        item, score = self.model.recommend(
            user_index[part],
            k=k,
            exclude_seen=exclude_seen,
            exclude_index=exclude_index,
            **options,
        )
        return join_parts(item, part, num), join_parts(score, part, num)


def shared_ranking(model: Recommender) -> RecommendsItems:
    """Return the model, or where several processes train it a :class:`SharedRanking` of it."""
    return SharedRanking(model) if in_group() else model


def process_arguments(config: TrainingConfig) -> dict[str, Any]:
    """Return the arguments of Lightning's trainer that say which processes train."""
    plugins: list[Any] = [WholeCheckpoints()]
    wrapped = _unwrapped if config.shard_items else _as_it_is
    if config.strategy == "auto" and config.devices * config.num_nodes == 1:
        return {"devices": 1, "plugins": plugins}
    shared = {
        # Every process has the whole batch and takes its part.
        "use_distributed_sampler": False,
        "plugins": plugins,
    }
    # Buffers are equal by construction: the graph's never change. Parameters may take no part in
    # a loss, such as a gate that is not trained.
    options: dict[str, Any] = {"broadcast_buffers": False, "find_unused_parameters": True}
    if config.strategy == "ray":
        from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

        plugins.append(RayLightningEnvironment())
        return {"devices": "auto", "strategy": wrapped(RayDDPStrategy)(**options), **shared}
    return {
        "devices": config.devices,
        "num_nodes": config.num_nodes,
        "strategy": wrapped(DDPStrategy)(**options),
        **shared,
    }


def _as_it_is(strategy: type[DDPStrategy]) -> type[DDPStrategy]:
    return strategy


def _unwrapped(strategy: type[DDPStrategy]) -> type[DDPStrategy]:
    """Return a strategy that starts processes and leaves the gradients to the model."""

    class Unwrapped(strategy):  # type: ignore[misc, valid-type]
        """Processes without DistributedDataParallel."""

        def configure_ddp(self) -> None:
            """Do not wrap the model."""

    return Unwrapped


def check_processes(config: TrainingConfig) -> None:
    """Check that as many processes were started as the settings say.

    Raises:
        ConfigError: If torchrun started another number.
    """
    # Set by torchrun alone; Lightning and Ray count the processes that they start themselves.
    started = os.environ.get("WORLD_SIZE") if "TORCHELASTIC_RUN_ID" in os.environ else None
    wanted = config.devices * config.num_nodes
    if started is not None and config.strategy != "ray" and int(started) != wanted:
        raise ConfigError(
            f"torchrun started {started} processes, and devices={config.devices} times "
            f"num_nodes={config.num_nodes} is {wanted}; give --devices, the processes of each "
            "machine, and --num-nodes"
        )


def report_sharing(model: Recommender, config: TrainingConfig) -> None:
    """Print whether more processes make a step of this model faster."""
    if config.devices * config.num_nodes == 1 or type(model).part_loss is not ModelHooks.part_loss:
        return
    print_status(
        f"{type(model).__name__} contrasts or propagates a batch as a whole: every process "
        "computes all of it, so that more devices give the same result but no faster steps"
    )
