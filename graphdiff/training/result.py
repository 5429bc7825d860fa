"""Outcome of a training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class FitResult:
    """Outcome of a training.

    Attributes:
        epochs: Number of epochs trained.
        best_epoch: The epoch (from 1) whose weights the model has now.
        val: Validation metrics at that epoch.
        train_seconds: Wall-clock seconds of all epochs, validation not included.
        seconds_per_epoch: Median seconds of an epoch, validation not included.
        out_of_time: Whether ``max_minutes`` ended the training.
        history: One row per validated epoch: ``epoch``, ``loss`` (mean over the epoch's steps),
            ``seconds`` of its training, and the validation metrics.
    """

    epochs: int
    best_epoch: int
    val: dict[str, float]
    train_seconds: float
    seconds_per_epoch: float
    out_of_time: bool = False
    history: list[dict[str, float]] = field(default_factory=list)

    def _repr_html_(self) -> str:
        """Return the outcome as a table, which notebooks show."""
        rows = {
            "best epoch": f"{self.best_epoch} of {self.epochs}",
            "training": f"{self.train_seconds:.1f} s",
            **{f"validation {name}": f"{value:.4f}" for name, value in self.val.items()},
        }
        cells = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows.items())
        return f"<table>{cells}</table>"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return asdict(self)
