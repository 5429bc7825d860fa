"""Further training of a trained model: on new interactions, or after others were removed."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from graphdiff.autocast import without_autocast
from graphdiff.errors import ConfigError, TrainingError
from graphdiff.models.base import ModelConfig, Recommender
from graphdiff.models.changes import ChangeableModel
from graphdiff.seeds import as_seed, torch_seed
from graphdiff.training.changes import add, read_additions, remove
from graphdiff.training.checkpoints import WholeCheckpoints
from graphdiff.training.config import Integer, Section
from graphdiff.validation import validated

#: The tensors that Adam keeps for each parameter.
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class UpdateConfig(Section):
    """Settings of :meth:`~graphdiff.models.changes.ChangeableModel.update`."""

    passes: Integer = Field(
        default=5, ge=1, description="How often each user with new interactions is trained on."
    )
    replay: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="Share of a training batch that are users drawn from all, so that what was "
        "learned before is not forgotten.",
    )
    lr: float | None = Field(
        default=None,
        gt=0,
        description="Learning rate; None for a third of that of the model's settings.",
    )
    seed: Annotated[int, BeforeValidator(as_seed)] = Field(
        default=0, description="Seed of everything random: a non-negative integer of any size."
    )


@dataclass(frozen=True)
class UpdateResult:
    """Outcome of an update.

    Attributes:
        users: Number of users that were added, negative for users that were removed.
        items: Number of items, likewise.
        interactions: Number of interactions, likewise. Those that were known do not count.
        steps: Number of training steps.
        loss: Mean loss of the last pass; NaN without steps.
        seconds: Wall-clock seconds of the whole update.
        state: State of the optimizer, to give to the next update.
    """

    users: int
    items: int
    interactions: int
    steps: int
    loss: float
    seconds: float
    state: dict[str, Tensor]


def update_model(
    model: ChangeableModel,
    interactions: Any,
    features: Mapping[str, Any] | None = None,
    details: Any = None,
    state: Mapping[str, Tensor] | None = None,
    **settings: Any,
) -> UpdateResult:
    """Update a model; see :meth:`~graphdiff.models.changes.ChangeableModel.update`."""
    model.require_updates()
    config, start = _config(settings), time.perf_counter()
    new = read_additions(model, interactions, features, details)
    with _restored_after_an_error(model):
        before = model.graph
        touched = add(model, new).unique()
        moments = _resized(model, state or {}, before.num_items, None)
        steps, loss = (
            _train(model, touched, moments, config) if touched.numel() else (0, float("nan"))
        )
    return _result(model, before, steps, loss, moments, start)


def forget_nodes(
    model: ChangeableModel,
    user_id: Any = None,
    item_id: Any = None,
    state: Mapping[str, Tensor] | None = None,
    **settings: Any,
) -> UpdateResult:
    """Remove users and items from a model; see
    :meth:`~graphdiff.models.changes.ChangeableModel.forget`."""
    model.require_updates()
    if user_id is None and item_id is None:
        raise ConfigError("give user_id, item_id or both: what to forget")
    config, start = _config(settings), time.perf_counter()
    none = torch.empty(0, dtype=torch.long, device=model.device)
    users = none if user_id is None else model.catalogue.user_index(user_id)
    items = none if item_id is None else model.catalogue.item_index(item_id)
    with _restored_after_an_error(model):
        before = model.graph
        keep = torch.ones(before.num_items, dtype=torch.bool, device=model.device)
        keep[items] = False
        near = remove(model, users, items)
        moments = _resized(model, state or {}, before.num_items, keep)
        steps, loss = _train(model, near, moments, config) if near.numel() else (0, float("nan"))
    return _result(model, before, steps, loss, moments, start)


def saved_state(checkpoint: Path, model: Recommender) -> dict[str, Tensor]:
    """Return the optimizer's state from a training's checkpoint, for the first update after it.

    Args:
        checkpoint: The file; without it, the state is empty.
        model: The model that was trained.

    Raises:
        RunError: If the checkpoint is damaged.
    """
    if not checkpoint.is_file():
        return {}
    saved = WholeCheckpoints().load_checkpoint(checkpoint)["optimizer_states"][0]["state"]
    names = {id(p): name for name, p in model.named_parameters()}
    ordered = [names[id(p)] for group in model.parameter_groups() for p in group["params"]]
    return {
        f"{ordered[place]}/{moment}": torch.as_tensor(values[moment])
        for place, values in saved.items()
        for moment in MOMENTS
    }


def _config(settings: Mapping[str, Any]) -> UpdateConfig:
    return validated(UpdateConfig, dict(settings), ConfigError, "update")


def _result(
    model: ChangeableModel, before: Any, steps: int, loss: float, state: dict, start: float
) -> UpdateResult:
    graph = model.graph
    return UpdateResult(
        graph.num_users - before.num_users,
        graph.num_items - before.num_items,
        graph.num_interactions - before.num_interactions,
        steps,
        loss,
        time.perf_counter() - start,
        state,
    )


@contextmanager
def _restored_after_an_error(model: ChangeableModel) -> Iterator[None]:
    """Restore the model if the block raises; leave it in evaluation mode."""
    # The graph never changes in place, so the copy shares it.
    backup = copy.deepcopy(model, {id(model.graph): model.graph})
    try:
        yield
        model.eval()
    except BaseException:
        model.__dict__.clear()
        model.__dict__.update(backup.__dict__)
        raise


@without_autocast()
def _train(
    model: ChangeableModel, touched: Tensor, state: dict[str, Tensor], config: UpdateConfig
) -> tuple[int, float]:
    """Train on the users ``touched``, long ``[n]``, and a replay of others.

    Returns:
        The number of steps, and the mean loss of the last pass.
    """
    assert isinstance(model, Recommender)
    assert isinstance(model.config, ModelConfig)
    settings, seed = model.config, torch_seed(config.seed)
    generator = torch.Generator(model.device).manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    lr = config.lr or settings.lr / 3
    learned = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(
        model.parameter_groups(),
        lr=lr,
        weight_decay=settings.weight_decay,
        fused=model.device.type in ("cpu", "cuda"),
    )
    _load(optimizer, learned, state)
    average = [p.detach().clone() for _, p in learned]
    model.train()
    steps = 0
    losses: list[float] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.start_update(generator)
        for _ in range(config.passes):
            losses = []
            for batch in _batches(model, touched.cpu(), config, settings.batch_size, order):
                loss = model.loss(batch.to(model.device), generator)
                if not loss.isfinite():
                    raise TrainingError(
                        f"the loss is not finite in step {steps + 1} of the update; lower the "
                        f"learning rate (now {lr:g})"
                    )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                steps += 1
                losses.append(loss.item())
                decay = min(settings.ema_decay, (1 + steps) / (10 + steps))
                with torch.no_grad():
                    torch._foreach_lerp_(average, [p for _, p in learned], 1 - decay)
    with torch.no_grad():
        for (_, p), mean in zip(learned, average, strict=True):
            p.copy_(mean)
    state.clear()
    state.update(_moments(optimizer, learned))
    model.invalidate_tables()
    return steps, sum(losses) / len(losses)


def _batches(
    model: ChangeableModel,
    touched: Tensor,
    config: UpdateConfig,
    batch_size: int,
    order: torch.Generator,
) -> Iterator[Tensor]:
    """Yield batches of one pass: all touched users in shuffled order, each batch filled up with
    users drawn from all that have interactions."""
    everyone = model.graph.user_degree().nonzero().flatten().cpu()
    size = max(1, round(batch_size * (1 - config.replay)))
    for part in touched[torch.randperm(len(touched), generator=order)].split(size):
        num = round(len(part) * config.replay / (1 - config.replay))
        drawn = everyone[torch.randint(len(everyone), (num,), generator=order)]
        yield torch.cat([part, drawn]).unique()


def _resized(
    model: ChangeableModel, state: Mapping[str, Tensor], num_items: int, kept: Tensor | None
) -> dict[str, Tensor]:
    """Return the optimizer's state with the rows of the model's present items.

    Args:
        model: The model, which has changed already.
        state: The state before.
        num_items: Number of items before.
        kept: Those of them that stay, bool ``[I]``; all by default.
    """
    parameters = dict(model.named_parameters())
    found = {}
    for key, value in state.items():
        name, _, moment = key.rpartition("/")
        if name not in parameters or moment not in MOMENTS:
            continue
        if name in model.item_parameters and moment != "step" and value.size(0) == num_items:
            value = value if kept is None else value[kept.to(value.device)]
            rows = parameters[name].size(0) - value.size(0)
            value = torch.cat([value, value.new_zeros(rows, *value.shape[1:])])
        if moment == "step" or value.shape == parameters[name].shape:
            found[key] = value.clone()
    return found


def _load(
    optimizer: torch.optim.Adam,
    learned: list[tuple[str, torch.nn.Parameter]],
    state: Mapping[str, Tensor],
) -> None:
    for name, p in learned:
        values = {m: state[f"{name}/{m}"] for m in MOMENTS if f"{name}/{m}" in state}
        if len(values) == len(MOMENTS):
            optimizer.state[p] = {
                m: v.to(p.device, p.dtype if m != "step" else torch.float32)
                for m, v in values.items()
            }


def _moments(
    optimizer: torch.optim.Adam, learned: list[tuple[str, torch.nn.Parameter]]
) -> dict[str, Tensor]:
    return {
        f"{name}/{moment}": optimizer.state[p][moment].detach().cpu().clone()
        for name, p in learned
        if p in optimizer.state
        for moment in MOMENTS
    }
