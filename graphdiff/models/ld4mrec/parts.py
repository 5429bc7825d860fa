"""Parts of LD4MRec made from its settings, and checks of parts that are given in their place."""

from __future__ import annotations

import torch

from graphdiff.errors import ConfigError
from graphdiff.graph.store import RecGraph
from graphdiff.models.ld4mrec.config import LD4MRecConfig
from graphdiff.models.ld4mrec.content_embedding import ContentEmbedding
from graphdiff.models.ld4mrec.item_embedding import ItemEmbedding
from graphdiff.models.ld4mrec.item_messages import ItemMessages
from graphdiff.models.ld4mrec.singular_signal import SingularSignal
from graphdiff.nn.diffusion import Schedule
from graphdiff.nn.processes import Process

#: Attributes that a part needs beside being called.
NEEDED: dict[str, tuple[str, ...]] = {
    "schedule": ("num_steps", "add_noise", "step"),
    "process": (
        "num_steps",
        "visible",
        "loss_weight",
        "inserted",
        "smooth",
        "corrupt",
        "step",
    ),
    "cnet": (),
    "gate": (),
}


def item_embedding(config: LD4MRecConfig, graph: RecGraph) -> ItemEmbedding:
    """Return the item embeddings of a model with the given settings."""
    in_embeddings = config.propagation.content == "smoothing"
    return ItemEmbedding(
        graph,
        config.hidden_channels,
        config.content_rank if in_embeddings else 0,
        config.shrinkage,
        config.spectral_start,
    )


def check_parts(**parts: object) -> tuple[str, ...]:
    """Check given parts by name, None for none, and return the names of those that are given.

    Raises:
        ConfigError: If a part is no module, or lacks an attribute.
    """
    for name, part in parts.items():
        if part is None:
            continue
        if not isinstance(part, torch.nn.Module):
            raise ConfigError(
                f"{name} is a {type(part).__name__}; give a torch.nn.Module, so that it moves and "
                "is saved with the model"
            )
        for attribute in NEEDED[name]:
            if not hasattr(part, attribute):
                raise ConfigError(
                    f"{name} is a {type(part).__name__} without {attribute}; it needs "
                    f"{', '.join(NEEDED[name])}"
                )
    return tuple(name for name, part in parts.items() if part is not None)


def item_messages(config: LD4MRecConfig, graph: RecGraph) -> ItemMessages:
    """Return what makes the item tables."""
    passing, channels = config.propagation, config.hidden_channels
    by_svd, by_features = passing.collaborative == "svd", passing.content == "features"
    return ItemMessages(
        passing.num_layers,
        passing.num_item_layers,
        passing.content_weight,
        passing.every,
        singular=SingularSignal(graph.num_items, channels) if by_svd else None,
        features=ContentEmbedding(graph, channels, config.content_rank)
        if by_features and graph.modalities
        else None,
    )


def noise_schedule(process: Process) -> Schedule:
    """Return the schedule of a process's Gaussian noise.

    Raises:
        ConfigError: If it adds none.
    """
    for part in (process, getattr(process, "continuous", None)):
        if (schedule := getattr(part, "schedule", None)) is not None:
            return schedule
    raise ConfigError(f"{process} has no noise schedule; use model.process")


def with_steps(
    config: LD4MRecConfig, schedule: Schedule | None, process: Process | None
) -> LD4MRecConfig:
    """Return settings with the number of steps of a given schedule or process.

    Raises:
        ConfigError: If another number was set, both are given, or a schedule is given for a process
            without one.
    """
    if schedule is not None and process is not None:
        raise ConfigError("a schedule and a process are given; give the schedule to the process")
    if schedule is not None and not config.diffusion.gaussian:
        raise ConfigError(
            f"a schedule is given, but diffusion.process={config.diffusion.process} adds no "
            "Gaussian noise; leave one of them out"
        )
    name, part = ("schedule", schedule) if process is None else ("process", process)
    if part is None:
        return config
    diffusion, num_steps = config.diffusion, int(part.num_steps)
    if "num_steps" in diffusion.model_fields_set and diffusion.num_steps != num_steps:
        raise ConfigError(
            f"diffusion.num_steps={diffusion.num_steps}, but the given {name} has {num_steps} "
            "steps; leave the setting out"
        )
    diffusion = diffusion.model_copy(update={"num_steps": num_steps})
    return config.model_copy(update={"diffusion": diffusion})
