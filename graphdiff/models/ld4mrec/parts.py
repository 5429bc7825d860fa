"""Checks of parts that are given to LD4MRec in place of its own."""

from __future__ import annotations

import torch

from graphdiff.errors import ConfigError
from graphdiff.models.ld4mrec.config import LD4MRecConfig
from graphdiff.nn.diffusion import Schedule

#: Attributes that a part needs beside being called.
NEEDED: dict[str, tuple[str, ...]] = {
    "schedule": ("num_steps", "add_noise", "step"),
    "cnet": (),
    "gate": (),
}


def check_parts(parts: dict[str, object]) -> tuple[str, ...]:
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


def with_schedule(config: LD4MRecConfig, schedule: Schedule | None) -> LD4MRecConfig:
    """Return settings with the number of steps of a given schedule.

    Raises:
        ConfigError: If another number was set.
    """
    if schedule is None:
        return config
    diffusion, num_steps = config.diffusion, int(schedule.num_steps)
    if "num_steps" in diffusion.model_fields_set and diffusion.num_steps != num_steps:
        raise ConfigError(
            f"diffusion.num_steps={diffusion.num_steps}, but the given schedule has {num_steps} "
            "steps; leave the setting out"
        )
    diffusion = diffusion.model_copy(update={"num_steps": num_steps})
    return config.model_copy(update={"diffusion": diffusion})
