"""How models are trained and ranked in an experiment, as its results state it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from graphdiff.evaluation.ranking import describe_masking
from graphdiff.training.config import training_config
from graphdiff.training.fit import check_monitor

#: Datasets whose published protocol masks validation items in the test ranking.
MASKS_VALIDATION = frozenset({"ml-1m-clean", "ml-1m-noisy"})


@dataclass(frozen=True)
class Protocol:
    """The protocol that all models of an experiment share.

    Attributes:
        epochs: See :func:`graphdiff.fit`, as for the five after it.
        patience: In validations.
        min_steps: Training steps before patience can end a training whose curve has not started;
            see :func:`graphdiff.training.stopping.is_past`.
        max_minutes: Minutes of a training; without limit where None.
        eval_every: Epochs between validations; by their cost where None.
        monitor: Validation metric that selects the epoch.
        mask_validation: Mask validation items in the test ranking.
        split: The transform that made the split; None for the dataset's own.

    Raises:
        ConfigError: If no model could be trained so.
    """

    epochs: int = 500
    patience: int = 30
    min_steps: int = 1500
    max_minutes: float | None = None
    eval_every: int | None = None
    monitor: str = "recall@20"
    mask_validation: bool = False
    split: str | None = None

    def __post_init__(self) -> None:
        # Here, since each training would fail in the same way.
        training_config(None, self.training())
        check_monitor(self.monitor)

    def training(self) -> dict[str, Any]:
        """Return the arguments of :func:`graphdiff.fit`."""
        names = ("epochs", "patience", "min_steps", "max_minutes", "eval_every", "monitor")
        return {name: getattr(self, name) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return the protocol as results state it."""
        return {
            "ranking": describe_ranking(self.mask_validation),
            "mask_validation": self.mask_validation,
            "epoch_chosen_by": f"validation {self.monitor}",
            **self.training(),
            **({"split": self.split} if self.split is not None else {}),
        }

    def differences(self, stated: Mapping[str, Any]) -> list[str]:
        """Return in words in what results that state a protocol were made under another one.

        Results are compared by what was done, not by how they describe it. The limit of time may
        differ; see :meth:`allows`.
        """
        return [
            f"{name} {stated.get(name)} instead of {value}"
            for name, value in asdict(self).items()
            if name != "max_minutes" and stated.get(name) != value
        ]

    def allows(self, figures: Mapping[str, Any]) -> bool:
        """Return whether a training, measured under any limit of time, ends as under this one.

        Args:
            figures: The training's figures, as :func:`graphdiff.experiments.measure.run_cell`
                returns them.
        """
        if (limit := figures.get("out_of_time")) is not None:
            return limit == self.max_minutes
        return not exceeds(figures, self.max_minutes)


def exceeds(figures: Mapping[str, Any], minutes: float | None) -> bool:
    """Return whether a training took longer than a limit of time would have let it.

    Args:
        figures: The training's figures.
        minutes: The limit; None for none.
    """
    # A training under the limit itself may be done at the validation at which its time is up.
    # Results of earlier versions state the limit only where it ended the training.
    if minutes in (None, figures.get("max_minutes"), figures.get("out_of_time")):
        return False
    # A training has one validation at least.
    return len(figures["history"]) > 1 and figures["train_seconds"] >= 60 * minutes


def describe_ranking(mask_validation: bool) -> str:
    """Return in words which items are ranked for a test user."""
    masked = describe_masking(mask_validation)
    return f"test items are ranked among the whole catalogue, with the user's {masked} masked"
