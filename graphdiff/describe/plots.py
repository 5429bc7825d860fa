"""Figures of a dataset: degrees, and how features relate to preferences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from graphdiff.figures import BLUE, ORANGE, new_figure, write_figure
from graphdiff.schema import INTERACTS, ITEM, USER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Pairs of items whose cosine is drawn.
PAIRS = 5000


def plot_degrees(data: HeteroData, path: str | Path) -> None:
    """Plot the numbers of users and of items with at least n training interactions, over n.

    Args:
        data: A graph that fits the schema.
        path: The file; its suffix determines the format, such as ``.png`` or ``.svg``.

    Raises:
        ConfigError: If there is no such format.
        OSError: If the file cannot be written.
    """
    write_figure(degree_figure(data), path)


def degree_figure(data: HeteroData) -> Figure:
    """Return the figure of :func:`plot_degrees`."""
    figure = new_figure(6, 4)
    axes = figure.subplots()
    for row, (node, style) in enumerate(((USER, "-"), (ITEM, "--"))):
        degree = data[INTERACTS].edge_index[row].bincount(minlength=data[node].num_nodes)
        values, counts = degree[degree > 0].unique(return_counts=True)
        at_least = counts.flip(0).cumsum(0).flip(0)
        axes.loglog(values, at_least, style, drawstyle="steps-pre", label=f"{node}s")
    axes.set_xlabel("training interactions, at least")
    axes.set_ylabel("number")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def similarity_figure(data: HeteroData, modality: str, seed: int = 0) -> Figure:
    """Return a figure of the cosine of features: items of one user against random items.

    Where features say something about preferences, the items of a user are more similar.

    Args:
        data: A graph that fits the schema.
        modality: Name of the modality.
        seed: Seed of the pairs that are drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    x, has = data[ITEM][f"x_{modality}"].cpu(), data[ITEM][f"has_{modality}"].cpu()
    x = torch.nn.functional.normalize(x - x[has].mean(dim=0), dim=1)
    user, item = data[INTERACTS].edge_index.cpu()
    user, item = user[has[item]], item[has[item]]
    first, second = _pairs_of_users(user, item, generator)
    figure = new_figure(6, 3)
    axes = figure.subplots()
    bins = torch.linspace(-1, 1, 61).tolist()
    present = has.nonzero().flatten()
    random = present[torch.randint(len(present), (2, PAIRS), generator=generator)]
    for (one, other), label, colour in (
        (random, "random items", ORANGE),
        ((first, second), "items of one user", BLUE),
    ):
        different = one != other
        cosine = (x[one[different]] * x[other[different]]).sum(dim=1)
        axes.hist(
            cosine.tolist(),
            bins,
            density=True,
            histtype="step",
            linewidth=1.8,
            label=label,
            color=colour,
        )
    axes.set_xlabel(f"cosine of centred {modality} features")
    axes.set_ylabel("density")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _pairs_of_users(
    user: Tensor, item: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw pairs of training items of one user: a random interaction, and another of its user."""
    order = user.argsort(stable=True)
    user, item = user[order], item[order]
    count = user.bincount()
    start = count.cumsum(0) - count
    picked = torch.randint(len(user), (PAIRS,), generator=generator)
    owner = user[picked]
    offset = (torch.rand(PAIRS, generator=generator) * count[owner]).long()
    return item[picked], item[start[owner] + offset]
