"""Settings of LD4MRec."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from graphdiff.models.base import BaseConfig, ModelConfig
from graphdiff.nn.diffusion import DiffusionSchedule


class DiffusionConfig(BaseConfig):
    """Corruption of rows in training."""

    enabled: bool = Field(
        default=True,
        description="Corrupt rows in training; otherwise all are at step 0, as observed.",
    )
    process: Literal[
        "gaussian",
        "masking",
        "flipping",
        "heat",
        "content_heat",
        "masking+gaussian",
        "masking+heat",
        "masking+content_heat",
    ] = Field(
        default="gaussian",
        description="The corruption: Gaussian noise; items hidden with a probability that grows "
        "with the step; also replaced by random ones; smoothing over the item graph of "
        "interactions or of the modalities; or hiding and one of the others.",
    )
    strength: float | None = Field(
        default=None,
        gt=0,
        description="Strength of the process: inserted items for each dropped one (flipping, by "
        "default 0.5), or smoothing at step T (heat, by default 1.5; content_heat, by default 1). "
        "Gaussian noise has noise_scale, hiding has objective.input_dropout as its mean.",
    )
    whole_row: bool = Field(
        default=False,
        description="Corrupt the whole row in training, not its visible part; C-Net's signals are "
        "of the visible part in either case.",
    )
    num_steps: int = Field(default=20, ge=1, description="Diffusion steps T.")
    noise_scale: float = Field(
        default=0.1, gt=0, lt=1, description="s: largest variance of the noise."
    )
    noise_min: float = Field(default=0.01, gt=0, le=1, description="α_min: smallest share of s.")
    importance_sampling: bool = Field(
        default=False, description="Draw steps in proportion to their losses instead of uniformly."
    )

    @property
    def gaussian(self) -> bool:
        """Whether the process adds Gaussian noise."""
        return "gaussian" in self.process

    def control(self) -> dict[str, Any]:
        """Return the changes to the settings that keep the process's budget without its idea: the
        same row without noise or smoothing, a fixed share of hidden items, or hiding alone in
        place of flipping."""
        return {"process": "masking"} if self.process == "flipping" else {"enabled": False}

    def schedule(self) -> DiffusionSchedule:
        """Return the schedule of these settings."""
        return DiffusionSchedule.linear(self.num_steps, self.noise_scale, self.noise_min)


class PropagationConfig(BaseConfig):
    """Message passing over the graphs."""

    collaborative: Literal["smoothing", "svd"] = Field(
        default="smoothing",
        description="Collaborative table C: item embeddings smoothed over the user-item graph, or "
        "a truncated SVD of the interactions.",
    )
    content: Literal["smoothing", "features"] = Field(
        default="smoothing",
        description="Content tables: item embeddings smoothed over the item-item graphs, or "
        "learned linear maps of the features.",
    )
    num_layers: int = Field(default=2, ge=0, description="Round trips L over the user-item graph.")
    num_item_layers: int = Field(default=1, ge=0, description="Layers on each item-item graph.")
    content_weight: float = Field(default=2.0, ge=0, description="w: weight of the content tables.")
    every: int | None = Field(
        default=None,
        ge=0,
        description="Training steps between two propagations; 0 for one in every step, with its "
        "gradient. By default 0 on small graphs and 100 on large ones.",
    )
    hide_targets: bool = Field(
        default=True,
        description="Remove a batch's hidden items from message passing, where every step "
        "propagates; otherwise targets leak through the graph.",
    )

    @model_validator(mode="after")
    def _check_every(self) -> Self:
        if self.content == "features" and self.every:
            raise ValueError(
                f"propagation.every={self.every}, but maps of features are trained in every step; "
                "leave it out with propagation.content=features"
            )
        return self


class ObjectiveConfig(BaseConfig):
    """Training targets and their losses."""

    input_dropout: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="Share of a row's items that are hidden from the encoder.",
    )
    reconstruction: float = Field(
        default=0.1, ge=0, description="Weight of the reconstruction error."
    )
    ranking: float = Field(default=1.0, ge=0, description="Weight of the ranking loss.")
    num_negatives: int = Field(
        default=2048,
        ge=2,
        description="Negatives shared by a batch; by default 4096 on more than a million items.",
    )
    visible_weight: float = Field(
        default=0.0, ge=0, description="Weight of visible items as targets; hidden items have 1."
    )
    unobserved_weight: float = Field(
        default=0.1, ge=0, description="α₀: weight of unobserved items in the reconstruction error."
    )
    soft_probability: float = Field(
        default=0.0, ge=0, le=1, description="p: probability of softening."
    )
    soft_intensity: float = Field(default=0.1, ge=0, le=1, description="γ: intensity of softening.")


class LinearPathConfig(BaseConfig):
    """The linear scores beside the network."""

    enabled: bool | None = Field(
        default=None,
        description="Train a linear path; by default where users have at least 10 interactions on "
        "average and there are at most 100,000 items.",
    )
    rank: int = Field(
        default=1023,
        ge=1,
        description="K: eigenvalues that are kept of the item-item graph; by default 255 on more "
        "than 25,000 items.",
    )
    num_sampled: int = Field(
        default=8192, ge=1, description="Items that a step compares with 0; all of fewer items."
    )
    rare_content: bool = Field(
        default=False,
        description="Add the similarity of rare items to the row by features, with a weight that "
        "validation sets.",
    )


class ColdItemsConfig(BaseConfig):
    """Scores of items without training interactions."""

    exposure: float = Field(
        default=1.0,
        ge=0,
        description="Share of lists that they take, relative to their share of the catalogue, as "
        "long as recall on validation pairs does not fall by more than 1 %; 0 for no bias.",
    )
    neighbor_weight: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the direction of their neighbours' vectors; their own has 1.",
    )


class LD4MRecConfig(ModelConfig):
    """Settings of :class:`~graphdiff.models.LD4MRec`."""

    hidden_channels: int = Field(
        256,
        ge=1,
        description="Width of all heads together; by default 128 on more than 100,000 items, 64 on "
        "more than a million.",
    )
    num_heads: int = Field(
        4,
        ge=1,
        description="Heads H, which are trained independently and averaged; by default 2 on more "
        "than 100,000 items.",
    )
    lr: float = Field(3e-3, gt=0, description="Learning rate of Adam.")
    batch_size: int = Field(512, ge=1, description="Users per training step.")
    ema_decay: float = Field(
        0.99, ge=0, lt=1, description="Decay of the moving average of the weights."
    )
    num_blocks: int = Field(1, ge=0, description="Conditional residual blocks of C-Net.")
    num_neighbors: int = Field(20, ge=1, description="Neighbours k in each item-item graph.")
    content_rank: int = Field(
        256,
        ge=0,
        description="Principal directions R of a modality's features that item embeddings are "
        "linear in, or the content tables with propagation.content=features; 0 for none; by "
        "default fewer where there are more than 100,000 items.",
    )
    shrinkage: float = Field(
        3.0, ge=0, description="κ: the embedding of an item with n interactions times n / (n + κ)."
    )
    spectral_start: bool = Field(
        False,
        description="Start the item embeddings from a truncated SVD of the interactions (beyond "
        "four million on a CPU alone); otherwise from random values.",
    )
    modality_shares: Literal["agreement", "equal"] = Field(
        "agreement",
        description="Global weights of the modalities: by the similarity of a user's items in "
        "each, or equal; equal where item embeddings are not linear in features.",
    )
    gated: bool = Field(False, description="Learn weights of the modalities for each user.")
    recency: float | None = Field(
        default=None,
        ge=0,
        description="ρ: an item of a user's row counts (1 + number of later items)^-ρ in rankings, "
        "where the data has times; by default what validation chooses.",
    )
    diffusion: DiffusionConfig = Field(
        default_factory=DiffusionConfig, description="Corruption of rows in training."
    )
    propagation: PropagationConfig = Field(
        default_factory=PropagationConfig, description="Message passing over the graphs."
    )
    objective: ObjectiveConfig = Field(
        default_factory=ObjectiveConfig, description="Training targets and their losses."
    )
    linear_path: LinearPathConfig = Field(
        default_factory=LinearPathConfig,
        description="The linear scores beside the network.",
    )
    cold_items: ColdItemsConfig = Field(
        default_factory=ColdItemsConfig,
        description="Scores of items without training interactions.",
    )

    @property
    def reads_similarity(self) -> bool:
        """Whether the item-item graphs are read."""
        passing = self.propagation
        smoothed = passing.content == "smoothing" and passing.num_item_layers > 0
        return smoothed or "content_heat" in self.diffusion.process

    @model_validator(mode="after")
    def _check_widths(self) -> Self:
        if self.propagation.content == "features" and not self.content_rank:
            raise ValueError(
                "propagation.content=features maps the content_rank principal directions of the "
                "features, and content_rank=0; give at least 1"
            )
        if self.hidden_channels % self.num_heads:
            raise ValueError(
                f"hidden_channels={self.hidden_channels} cannot be divided among "
                f"num_heads={self.num_heads}"
            )
        return self


#: Values that tuning tries.
SEARCH_SPACE: dict[str, list[Any]] = {
    "hidden_channels": [64, 128, 256],
    "num_heads": [1, 2, 4],
    "objective.num_negatives": [512, 2048],
    "batch_size": [512, 1024],
    "lr": [1e-3, 3e-3],
    "num_blocks": [0, 1],
    "propagation.num_layers": [0, 1, 2, 3],
    "objective.input_dropout": [0.3, 0.5, 0.7, 0.85],
    "objective.reconstruction": [0.03, 0.1, 0.3, 1.0],
    "propagation.content_weight": [1.0, 2.0, 4.0],
    "content_rank": [0, 64, 256],
    "gated": [False, True],
}
