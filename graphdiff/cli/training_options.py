"""Options of training that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from graphdiff.training.config import TrainingConfig

DEFAULTS = TrainingConfig()


def setting(name: str, **limits: Any) -> Any:
    """Return the option of a training setting, with the description that the setting has."""
    return typer.Option(help=TrainingConfig.model_fields[name].description, **limits)


Epochs = Annotated[int, setting("epochs", min=1)]
Patience = Annotated[int, setting("patience", min=1)]
MinSteps = Annotated[int, setting("min_steps", min=0)]
MaxMinutes = Annotated[float | None, setting("max_minutes", min=0)]
EvalEvery = Annotated[int | None, setting("eval_every", min=1)]
Monitor = Annotated[str, setting("monitor")]
Seed = Annotated[int, setting("seed", min=0)]
Accelerator = Annotated[str, setting("accelerator")]
