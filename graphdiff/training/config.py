"""Settings of a training run: :class:`RunConfig` and its sections."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from graphdiff.errors import ConfigError, GraphDiffError
from graphdiff.seeds import as_seed
from graphdiff.validation import validated


def _as_integer(value: Any) -> Any:
    """Return integers of NumPy and others as ``int``, and everything else unchanged."""
    try:
        return value if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return value


Integer = Annotated[int, BeforeValidator(_as_integer)]
#: Precisions that every model can be trained with.
Precision = Literal["32-true", "64-true", "bf16-mixed"]


class Section(BaseModel):
    """A group of settings: immutable, with strict types and no unknown names."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelSection(Section):
    """The model of a run."""

    name: str = Field(default="ld4mrec", min_length=1, description="Name of the model.")
    settings: dict[str, Any] = Field(
        default={}, description="Settings of the model; its defaults otherwise."
    )
    module: str | None = Field(
        default=None, description="Module of the model's class; None for graphdiff's own."
    )
    parts: dict[str, Any] = Field(
        default={}, description="Parts of the model that replace the built-in ones."
    )
    files: dict[str, str] = Field(
        default={}, description="SHA-256 digests of the files that hold the trained model."
    )


class DatasetSection(Section):
    """The dataset of a run."""

    name: str = Field(default="synthetic", min_length=1, description="Name of the dataset.")
    root: str | None = Field(default=None, description="Folder of the dataset's files.")
    options: dict[str, Any] = Field(
        default={}, description="Further arguments of the dataset's class."
    )
    fingerprint: str | None = Field(
        default=None, description="Fingerprint of the graph that the model was trained on."
    )


class TrainingConfig(Section):
    """Settings of :func:`graphdiff.fit`."""

    epochs: Integer = Field(default=500, ge=1, description="Maximum number of epochs.")
    patience: Integer = Field(
        default=30,
        ge=1,
        description="Number of validations without improvement before training stops.",
    )
    min_steps: Integer = Field(
        default=1500,
        ge=0,
        description="Minimum number of training steps before patience can stop a model that has "
        "not begun to learn.",
    )
    max_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Minutes of training, validations not counted, after which the next validation "
        "is the last; without a limit by default.",
    )
    eval_every: Annotated[Integer, Field(ge=1)] | None = Field(
        default=None,
        description="Number of epochs between validations; by default 1, and more where a "
        "validation takes longer than half an epoch.",
    )
    monitor: str = Field(
        default="recall@20", description="Validation metric that selects the epoch."
    )
    seed: Annotated[int, BeforeValidator(as_seed)] = Field(
        default=0, description="Seed of everything random: a non-negative integer of any size."
    )
    accelerator: str = Field(
        default="auto", min_length=1, description="Device to train on: auto, cpu, cuda or mps."
    )
    devices: Integer = Field(
        default=1,
        ge=1,
        description="Devices of each machine, with one process each; they share each batch.",
    )
    num_nodes: Integer = Field(default=1, ge=1, description="Number of machines.")
    strategy: Literal["auto", "ddp", "ray"] = Field(
        default="auto",
        description="How processes share a training: ddp, by PyTorch's DistributedDataParallel; "
        "ray, the same inside a worker of Ray Train; auto, ddp if there is more than one.",
    )
    shard_items: bool = Field(
        default=False,
        description="Divide the items among the processes: tables, optimizer state and graphs.",
    )
    precision: Precision = Field(
        default="32-true",
        description="Floating-point numbers to train with: 32-true, 64-true or bf16-mixed.",
    )

    @model_validator(mode="after")
    def _validates_at_least_once(self) -> Self:
        if self.eval_every is not None and self.eval_every > self.epochs:
            raise ValueError(
                f"no epoch would be validated: eval_every={self.eval_every} is more than "
                f"epochs={self.epochs}; give a smaller eval_every or more epochs"
            )
        return self


class EvaluationSection(Section):
    """How a run is tested."""

    mask_validation: bool = Field(
        default=False,
        description="Mask validation items in the test ranking, as training items are.",
    )


class VersionSection(Section):
    """The version of a run's model; see :mod:`graphdiff.updates`."""

    number: Integer = Field(default=0, ge=0, description="The version; 0 before any update.")
    first: Integer = Field(default=0, ge=0, description="The earliest version that may be kept.")
    last: Integer = Field(default=0, ge=0, description="The latest version that was made.")


class RunConfig(Section):
    """Everything that determines a run; ``config.yaml`` is its serialisation."""

    model: ModelSection = Field(default=ModelSection(), description="The model.")
    dataset: DatasetSection = Field(default=DatasetSection(), description="The dataset.")
    training: TrainingConfig = Field(
        default=TrainingConfig(), description="How the model is trained."
    )
    evaluation: EvaluationSection = Field(
        default=EvaluationSection(), description="How the model is tested."
    )
    version: VersionSection = Field(
        default=VersionSection(), description="The version of the model, after updates."
    )


def run_config(
    values: Mapping[str, Any], error: type[GraphDiffError] = ConfigError, source: str = ""
) -> RunConfig:
    """Return a run's configuration, checked.

    Args:
        values: Sections of :class:`RunConfig`, each a mapping of settings; defaults otherwise.
        error: Class of the error to raise.
        source: Where the values are from, such as a file, for the message.

    Raises:
        GraphDiffError: Of class ``error``, naming the setting that does not exist or fit.
    """
    return validated(RunConfig, dict(values), error, source)


def training_config(base: TrainingConfig | None, settings: Mapping[str, Any]) -> TrainingConfig:
    """Return ``base``, or the defaults, with some settings changed.

    Args:
        base: The configuration to start from.
        settings: Fields of :class:`TrainingConfig`.

    Raises:
        ConfigError: Naming the setting that does not exist or fit.
    """
    if base is not None and not settings:
        return base
    values = {} if base is None else base.model_dump()
    return validated(TrainingConfig, {**values, **settings}, ConfigError)
