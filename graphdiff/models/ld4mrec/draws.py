"""The random values of a training step of LD4MRec."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.ld4mrec.config import LD4MRecConfig
from graphdiff.nn.diffusion import StepSampler
from graphdiff.nn.losses import Negatives, draw_negatives
from graphdiff.nn.processes import Process, RowProcess


class Draw(NamedTuple):
    """All random values of a training step.

    Attributes:
        visible: Bool ``[nnz]``, items that the encoder sees.
        t: Diffusion steps, long ``[B]``.
        step_weight: ``[B]``, the weight of the process's steps, corrected for steps that are not
            drawn uniformly.
        noise: White noise, ``[B, d]``.
        softened: Bool ``[nnz]``, items whose target is softened.
        negatives: Negatives of the ranking loss.
        inserted: Items that the diffused rows have in addition.
    """

    visible: Tensor
    t: Tensor
    step_weight: Tensor
    noise: Tensor
    softened: Tensor
    negatives: Negatives
    inserted: Rows

    def part(self, rows: Rows, part: slice) -> Draw:
        """Return the values of consecutive rows of ``rows``, with the negatives of all."""
        if part == slice(None):
            return self
        entries = rows.entries(part)
        return Draw(
            self.visible[entries],
            self.t[part],
            self.step_weight[part],
            self.noise[part],
            self.softened[entries],
            self.negatives,
            self.inserted.part(part),
        )


def draw_step(
    rows: Rows,
    graph: RecGraph,
    steps: StepSampler,
    process: Process,
    config: LD4MRecConfig,
    generator: torch.Generator,
) -> Draw:
    """Draw the random values of a training step on ``rows``, which are not all empty."""
    objective, nnz, device = config.objective, rows.item.numel(), rows.item.device
    chance = torch.rand(nnz, generator=generator, device=device)
    process = training_process(config, process)
    t, step_weight = draw_steps(rows.num, steps, process, config, generator)
    visible = process.visible(chance, rows, t, objective.input_dropout)
    size = (rows.num, config.hidden_channels)
    # In float32 whatever the model's dtype, so that a seed gives the same noise.
    noise = torch.randn(size, generator=generator, device=device, dtype=torch.float32)
    softened = draw_softened(nnz, objective.soft_probability, device, generator)
    negatives = draw_negatives(
        rows.item,
        graph.trained_items(),
        graph.cached(negative_log_chance, objective.num_negatives),
        objective.num_negatives,
        generator,
    )
    inserted = process.inserted(rows, t, graph.trained_items(), generator)
    return Draw(visible, t, step_weight, noise, softened, negatives, inserted)


def draw_steps(
    num: int,
    steps: StepSampler,
    process: Process,
    config: LD4MRecConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw diffusion steps, long ``[num]``, with the weights of their losses, ``[num]``."""
    t, weight = steps.sample(num, generator)
    if not config.diffusion.enabled:
        return torch.zeros_like(t), torch.ones_like(t, dtype=torch.float32)
    return t, weight * process.loss_weight(t)


def draw_softened(
    num: int, probability: float, device: torch.device, generator: torch.Generator
) -> Tensor:
    """Draw which of ``num`` targets are softened, bool ``[num]``."""
    if not probability:
        return torch.zeros(num, dtype=torch.bool, device=device)
    return torch.rand(num, generator=generator, device=device) < probability


def training_process(config: LD4MRecConfig, process: Process) -> Process:
    """Return the process that corrupts training rows: the given one, or none where diffusion is
    off."""
    return process if config.diffusion.enabled else RowProcess(process.num_steps)


def negative_log_chance(graph: RecGraph, num: int) -> Tensor:
    """Return each item's logarithm of its expected number among ``num`` negatives, ``[I]``; see
    :func:`~graphdiff.nn.losses.draw_negatives`."""
    chance = 0.5 / graph.trained_items().numel() + 0.5 * graph.cached(item_frequency)
    return (num // 2 * 2 * chance).log()


def item_frequency(graph: RecGraph) -> Tensor:
    """Return each item's share of all interactions, ``[I]``."""
    degree = graph.item_degree().float()
    return degree / degree.sum()
