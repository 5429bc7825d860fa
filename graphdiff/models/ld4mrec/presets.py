"""Presets of LD4MRec."""

from __future__ import annotations

from typing import Any

#: The model of the paper, as far as it is known; ``docs/paper-preset.md`` gives the reason for each
#: setting.
PAPER: dict[str, Any] = {
    "num_heads": 1,
    "gated": True,
    "modality_shares": "equal",
    "shrinkage": 0.0,
    "content_rank": 64,
    "spectral_start": False,
    "recency": 0.0,
    "ema_decay": 0.0,
    "propagation.collaborative": "svd",
    "propagation.content": "features",
    "propagation.content_weight": 1.0,
    "diffusion.enabled": True,
    "diffusion.process": "gaussian",
    "diffusion.importance_sampling": True,
    "objective.ranking": 0.0,
    "objective.reconstruction": 1.0,
    "objective.input_dropout": 0.0,
    "objective.visible_weight": 1.0,
    "objective.unobserved_weight": 1.0,
    "objective.soft_probability": 0.1,
    "objective.soft_intensity": 0.1,
    "linear_path.enabled": False,
    "cold_items.exposure": 0.0,
    "cold_items.neighbor_weight": 0.0,
}

PRESETS: dict[str, dict[str, Any]] = {"paper": PAPER}
