"""Training by several processes that each hold a part of the items."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from graphdiff.distributed.processes import in_group, is_main, own_part
from graphdiff.errors import ConfigError
from graphdiff.evaluation.ranking import RecommendsItems
from graphdiff.models.base import Recommender
from graphdiff.models.ld4mrec import LD4MRec
from graphdiff.models.ld4mrec.sharded import ITEM_ROWS, ShardedLD4MRec, shard
from graphdiff.schema import INTERACTS
from graphdiff.seeds import torch_seed
from graphdiff.training.config import TrainingConfig
from graphdiff.training.module import RecommenderModule


def check_sharding(model: type[Recommender] | Recommender, config: TrainingConfig) -> None:
    """Check that a model's items can be divided among processes, if the settings ask for it.

    Raises:
        ConfigError: If they cannot.
    """
    cls = model if isinstance(model, type) else type(model)
    if config.shard_items and cls is not LD4MRec:
        raise ConfigError(
            f"the items of {cls.__name__} cannot be divided among processes; those of LD4MRec can"
        )


class AllItems:
    """The ranking of a model whose items are divided: over the items of all processes.

    Args:
        model: This process's part.
    """

    def __init__(self, model: ShardedLD4MRec) -> None:
        self.num_items = model.graph.num_all_items
        self.recommend = model.recommend


class ShardedModule(RecommenderModule):
    """A recommender whose items are divided among the processes when training begins.

    Its checkpoints and RUN folders are those of a whole model, so that a training can go on with
    another number of processes, or with one. The main process writes them: it keeps the whole model
    in the memory of its host, and gathers the rows of the others there. In the other processes the
    model that was given has no values from then on.
    """

    shares_batches = False

    def setup(self, stage: str) -> None:
        """Divide the items, before the optimizer is made."""
        whole = cast(LD4MRec, self.model)
        # In a tuple, so that it is no submodule and does not move to the training device.
        self._whole = (whole,)
        self.trainer.precision_plugin.convert_module(whole)
        generator = torch.Generator().manual_seed(torch_seed(self.seed))
        self.model = shard(whole, generator)
        if self.trainer.strategy.root_device.type == "cpu":
            # The generator of the training has drawn the maps of features.
            self._generator_state = generator.get_state()
        if not is_main():
            whole.to("meta")

    def ranking(self) -> RecommendsItems:
        """Return what validation ranks with."""
        return cast(RecommendsItems, AllItems(self.part)) if in_group() else self.model

    @property
    def part(self) -> ShardedLD4MRec:
        """This process's part of the model."""
        assert isinstance(self.model, ShardedLD4MRec)
        return self.model

    def whole(self) -> Recommender:
        """Return the whole model with the current weights; it has values in the main process.

        The bias of cold items is chosen there: a part does not have their neighbours.
        """
        (whole,) = self._whole
        self.part.gather_into(whole)
        if is_main():
            pairs = self.data[INTERACTS].val_edge_label_index
            whole.calibrate(pairs.to(whole.device))
        return whole

    @property
    def identity(self) -> dict[str, Any]:
        """Values that a checkpoint must share with the training that resumes from it."""
        return {**super().identity, "model": LD4MRec.__name__}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Gather the rows of all processes."""
        super().on_save_checkpoint(checkpoint)
        self._convert(checkpoint, self.part.whole_rows)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the rows of this process."""
        part = own_part(self.part.graph.num_all_items)

        def own(state: dict[str, Tensor]) -> dict[str, Tensor]:
            return {n: x[part].clone() if n in ITEM_ROWS else x for n, x in state.items()}

        self._convert(checkpoint, own)
        super().on_load_checkpoint(checkpoint)

    def _convert(self, checkpoint: dict[str, Any], convert: Any) -> None:
        """Convert everything in a checkpoint that has a row per item."""
        names = [name for name, _ in self.model.named_parameters()]
        prefix = "model."
        state = {name.removeprefix(prefix): x for name, x in checkpoint["state_dict"].items()}
        checkpoint["state_dict"] = {prefix + name: x for name, x in convert(state).items()}
        ours = checkpoint["graphdiff"]
        if ours["average"]:
            average = convert(dict(zip(names, ours["average"], strict=True)))
            ours["average"] = [average[name] for name in names]
        for callback in checkpoint["callbacks"].values():
            if "weights" in callback:
                callback["weights"] = convert(callback["weights"])
        for optimizer in checkpoint["optimizer_states"]:
            optimizer["state"] = _converted(optimizer["state"], names, convert)


def _converted(
    state: dict[int, dict[str, Tensor]], names: list[str], convert: Any
) -> dict[int, dict[str, Tensor]]:
    """Convert the moments of an optimizer, given by the number of their parameter."""
    found: dict[int, dict[str, Tensor]] = {number: {} for number in state}
    for key in ("step", "exp_avg", "exp_avg_sq"):
        one = {names[number]: values[key] for number, values in state.items()}
        # The number of steps has no rows.
        one = one if key == "step" else convert(one)
        for number in state:
            found[number][key] = one[names[number]]
    return found
