"""A masked linear autoencoder with a graph score, trained beside LD4MRec's network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.graph.item_graph import scaled_interactions
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.ld4mrec.adoption import changed
from graphdiff.models.ld4mrec.config import LD4MRecConfig
from graphdiff.models.ld4mrec.item_embedding import ItemEmbedding
from graphdiff.models.ld4mrec.rare_content import RareContent
from graphdiff.nn.pairs import Pairs, pair_products, sum_pairs
from graphdiff.nn.spectral import right_singular_vectors

#: Factor of the initial embeddings, so that the initial scores are close to zero.
INITIAL_SCALE = 0.3
#: The two weights of the score move this many times as fast as embeddings.
PACE = 5.0
#: Validations without improvement after which the path is complete.
PATIENCE = 8
#: Slope of the error below a target of zero.
SLOPE = 0.1


class LinearPath(torch.nn.Module):
    r"""Scores that are linear in the row, for data with long rows.

    .. math::
        s_{ui} = w\, \Big(\frac{1}{|N_u|} \sum_{j \in N_u} \mathbf{e}_j\Big) \cdot \mathbf{e}_i
        + g\, \sum_{j \in N_u} A_{ji} + b_i

    with item embeddings E (:class:`~graphdiff.models.ld4mrec.item_embedding.ItemEmbedding`) as
    encoder and decoder, and the item-item graph :math:`A = R^\top R / \lambda_1` of
    :func:`~graphdiff.graph.item_graph.scaled_interactions`. A is truncated to its K largest
    eigenvalues, :math:`A \approx V \Lambda V^\top`, so that s is an inner product of a query with
    :math:`(\mathbf{e}_i, \mathbf{v}_i, b_i)` and no matrix ``[I, I]`` is needed. With all
    eigenvalues it is exact.

    *Objective.* A part of the row is hidden, and its scores are compared with 1, those of all items
    that the row lacks with 0, by a squared error that is one-sided for the latter: below zero it
    counts :math:`0.1^2` times. What matters for a ranking is that items without interaction do not
    score high; how far below zero they are is free.

    The parts are those of GiffCF (`arXiv 2311.08744 <https://arxiv.org/abs/2311.08744>`_) that our
    controls found to matter on dense data: hiding, one table, the graph score, and the curvature of
    its output network, of which the one-sided error is the plain form. Its diffusion is left out;
    see ``docs/lab-notes/dense-data.md``. Embeddings from features, and sampled items where the
    catalogue is large, are ours.

    *Rare items.* On request the similarity of rare items to the row by features is added
    (:class:`~graphdiff.models.ld4mrec.rare_content.RareContent`), outside of training.

    *Beside the network.* It has its own parameters and loss, and its scores are added to the
    network's with the weight :math:`\mu`, which validation sets: see
    :mod:`graphdiff.models.ld4mrec.calibration`. Until then :math:`\mu` is 0.

    Args:
        graph: Training interactions and item content.
        channels: Width d of the embeddings.
        rank: K; vectors beyond the number of users or items are zero.
        num_sampled: Items that a training step compares with 0; all where there are no more.
        content_rank: See :class:`~graphdiff.models.ld4mrec.item_embedding.ItemEmbedding`.
        shrinkage: Likewise.
        rare_content: Add the similarity of rare items by features.
    """

    basis: Tensor
    eigenvalues: Tensor
    solved: Tensor
    weight: Tensor
    kept_table: Tensor
    kept_bias: Tensor
    kept_pace: Tensor
    best: Tensor
    looks: Tensor

    def __init__(
        self,
        graph: RecGraph,
        channels: int,
        rank: int,
        num_sampled: int,
        content_rank: int,
        shrinkage: float,
        rare_content: bool = False,
    ) -> None:
        super().__init__()
        num_items = graph.num_items
        self.rank = rank
        # Columns of zeros fill up the width d + K + 1 to whole blocks of d columns, which the
        # tables of exported models consist of.
        rank = self.rank + -(self.rank + 1) % channels
        self.num_sampled = num_sampled
        self.items = ItemEmbedding(graph, channels, content_rank, shrinkage, scale=INITIAL_SCALE)
        content = self.items.content
        self.rare = None
        if rare_content and content is not None:
            self.rare = RareContent(content.ranks, channels)
        self.bias = torch.nn.Parameter(torch.zeros(num_items))
        self.pace = torch.nn.Parameter(torch.empty(2))
        self.register_buffer("basis", torch.zeros(num_items, rank))
        self.register_buffer("eigenvalues", torch.zeros(rank))
        self.register_buffer("solved", torch.tensor(False))
        self.register_buffer("weight", torch.tensor(0.0))
        # The weights of the best epoch so far, its recall, and the looks since then.
        self.register_buffer("kept_table", torch.zeros(num_items, channels))
        self.register_buffer("kept_bias", torch.zeros(num_items))
        self.register_buffer("kept_pace", torch.zeros(2))
        self.register_buffer("best", torch.tensor(-1.0))
        self.register_buffer("looks", torch.tensor(0))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the embeddings and set the rest to initial values."""
        self.items.reset_parameters()
        torch.nn.init.zeros_(self.bias)
        torch.nn.init.constant_(self.pace, 1 / PACE)
        self.weight.zero_()
        if self.rare is not None:
            self.rare.reset_parameters()
        self.best.fill_(-1)
        self.looks.zero_()

    @torch.no_grad()
    def start(self, graph: RecGraph, generator: torch.Generator) -> None:
        """Read the features and decompose the item graph; the second time, do nothing."""
        self.items.start(graph, generator)
        if self.rare is not None and self.items.content is not None:
            self.rare.start(self.items.content)
        if self.solved:
            return
        matrix = scaled_interactions(graph)
        rank = min(self.rank, *matrix.shape)
        basis = right_singular_vectors(matrix, rank)
        square = torch.from_numpy(matrix @ basis.double().numpy()).square().sum(dim=0)
        largest = square.max().clamp(min=torch.finfo(square.dtype).tiny)
        self.basis[:, :rank] = basis
        self.eigenvalues.zero_()[:rank] = square / largest
        self.solved.fill_(True)

    @property
    def counts(self) -> bool:
        """Whether its scores are added to those of the network."""
        return bool(self.weight) or self.counts_rare

    @property
    def counts_rare(self) -> bool:
        """Whether they include the similarity of rare items."""
        return self.rare is not None and bool(self.rare.weight)

    def tables(
        self, graph: RecGraph, kept: bool = True, rare: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return the inference tables, ``[I, d + C + K + 1]`` each: the columns that a row is
        encoded by, which are E, the features f, VΛ and ones that count its items; and the item
        vectors, which are E, r f, V and b.

        Args:
            graph: Training interactions.
            kept: Use the weights that :meth:`keep` kept, if any.
            rare: Include the C columns of features, where they count.
        """
        table, bias, _ = self._values(graph, kept)
        basis = self.basis.to(table.dtype)
        ones = torch.ones_like(table[:, :1])
        near = own = table
        if rare and self.counts_rare:
            features, of_rare = self.rare_tables(graph)
            near = torch.cat([table, features.to(table.dtype)], dim=1)
            own = torch.cat([table, of_rare.to(table.dtype)], dim=1)
        row_encoder = torch.cat([near, basis * self.eigenvalues.to(table.dtype), ones], dim=1)
        return row_encoder, torch.cat([own, basis, bias.unsqueeze(1)], dim=1)

    def _values(self, graph: RecGraph, kept: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return E, b and the two weights."""
        if kept and self.best >= 0:
            return self.kept_table, self.kept_bias, PACE * self.kept_pace
        return self.items(graph), self.bias, PACE * self.pace

    def rare_tables(self, graph: RecGraph) -> tuple[Tensor, Tensor]:
        """Return the columns of features; see :meth:`RareContent.tables`."""
        assert self.rare is not None
        assert self.items.content is not None
        return self.rare.tables(self.items.content, graph)

    @property
    def complete(self) -> bool:
        """Whether training has stopped, as the last validations brought no improvement."""
        return bool(self.looks >= PATIENCE)

    @torch.no_grad()
    def keep(self, graph: RecGraph, recall: Tensor) -> None:
        """Keep the weights for inference, if their recall is the best so far.

        The path is at its best after a few epochs, long before the network, and then fits noise.
        """
        self.looks += 1
        if recall > self.best:
            self.best.copy_(recall)
            self.looks.zero_()
            self.kept_table = self.items(graph).clone()
            self.kept_bias.copy_(self.bias)
            self.kept_pace.copy_(self.pace)

    def loss(
        self, graph: RecGraph, rows: Rows, visible: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return the error of each row, ``[B]``.

        Args:
            graph: Training interactions.
            rows: B rows with nnz items in all.
            visible: Bool ``[nnz]``, items that the encoder sees; the others are targets.
            generator: Draws the sampled items.
        """
        table, row = self.items(graph), rows.row
        basis, seen = self.basis.to(table.dtype), visible.to(table.dtype)
        pairs = Pairs(row, rows.item, rows.num, len(table))
        zero = seen.new_zeros(rows.num)
        count = zero.index_add(0, row, seen).clamp(min=1).unsqueeze(1)
        mean = sum_pairs(table, pairs, seen) / count
        # The graph score is a sum; what is hidden is made up for.
        share = rows.degree().to(seen.dtype).unsqueeze(1) / count
        total = pairs.sums(basis, seen) * self.eigenvalues.to(seen.dtype) * share
        w, g = PACE * self.pace
        near, far = w * mean, g * total
        bias = self.bias.index_select(0, rows.item)
        score = pair_products(near.unsqueeze(1), table.unsqueeze(1), pairs)[0] + bias
        score = score + g * pairs.products(total.unsqueeze(1), basis.unsqueeze(1))[0]
        # An item of the row that was sampled counts as an item that the row lacks; take it out.
        error, drawn = self._lacking(near, far, table, basis, generator)
        target = torch.where(visible, 0.0, (1 - score).square())
        return error.index_add(0, row, target - drawn[rows.item] * one_sided(score))

    def _lacking(
        self, near: Tensor, far: Tensor, table: Tensor, basis: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the error of each row if it lacked all items, ``[B]``, and how often each item
        counts in it, ``[I]``; the basis is constant and has no gradient."""
        bias: Tensor = self.bias
        sampled = self._sample(len(table), generator)
        if sampled is None:
            drawn = torch.ones_like(bias)
        else:
            drawn = torch.zeros_like(bias).index_fill(0, sampled, len(table) / sampled.numel())
            table, basis, bias = (x.index_select(0, sampled) for x in (table, basis, bias))
        score = torch.addmm(torch.addmm(bias, near, table.t()), far, basis.t())
        # Autocast on a CPU sums in 16 bits.
        error = one_sided(score).sum(dim=1, dtype=drawn.dtype)
        return len(drawn) / len(table) * error, drawn

    def _sample(self, num_items: int, generator: torch.Generator) -> Tensor | None:
        """Draw the items that are compared with 0, long; None for all."""
        if num_items <= self.num_sampled:
            return None
        order = torch.rand(num_items, generator=generator, device=self.bias.device)
        return order.topk(self.num_sampled).indices

    def freeze(
        self, kept: bool = True, weight: Tensor | None = None, rare: bool = True
    ) -> LinearQuery:
        """Return the map from encoded rows to user vectors, without the tables.

        Args:
            kept: As in :meth:`tables`.
            weight: μ; by default the current one.
            rare: As in :meth:`tables`.
        """
        pace = self.kept_pace if kept and self.best >= 0 else self.pace
        weight = self.weight if weight is None else weight
        w, g = weight * PACE * pace.detach()
        near = w.expand(self.items.weight.size(1))
        if rare and self.counts_rare:
            assert self.rare is not None
            near = torch.cat([near, self.rare.weight.to(w.dtype).expand(self.rare.num_columns)])
        return LinearQuery(weight, near, g, self.basis.size(1))

    def discard(self) -> None:
        """Forget the basis, so that :meth:`start` computes it again, and the weights that were
        kept."""
        self.basis.zero_()
        self.kept_table.zero_()
        self.kept_bias.zero_()
        self.solved.fill_(False)
        self.best.fill_(-1)
        self.looks.zero_()

    @torch.no_grad()
    def change(self, graph: RecGraph, kept: Tensor | None, num: int, like: Tensor) -> None:
        """Follow a change of the catalogue.

        Args:
            graph: The new graph.
            kept: Items that stay, bool ``[I]``; all by default.
            num: Number of new items, which are known by their features.
            like: Items whose mean bias new items get, bool ``[I]``.
        """
        stay: Tensor | slice = slice(None) if kept is None else kept
        new_kept = self.kept_bias.new_zeros(num) + self.kept_bias[like].mean()
        if kept is not None:
            self.items.keep(kept)
        self.items.grow(graph)
        self.bias = changed(self.bias, kept, num, like)
        self.basis = F.pad(self.basis[stay], (0, 0, 0, num))
        added = self.items(graph)[len(self.basis) - num :]
        self.kept_table = torch.cat([self.kept_table[stay], added.to(self.kept_table.dtype)])
        self.kept_bias = torch.cat([self.kept_bias[stay], new_kept])


def linear_path(graph: RecGraph, config: LD4MRecConfig) -> LinearPath | None:
    """Return a linear path with the settings of a model, or None where it is off; whether it is on
    was decided with the model's sizes (:mod:`~graphdiff.models.ld4mrec.sizes`)."""
    settings = config.linear_path
    if not settings.enabled:
        return None
    return LinearPath(
        graph,
        config.hidden_channels,
        settings.rank,
        settings.num_sampled,
        config.content_rank,
        config.shrinkage,
        settings.rare_content,
    )


def one_sided(score: Tensor) -> Tensor:
    """Return the squared distance of scores from zero, which counts 0.01 times below zero.

    Example:
        >>> one_sided(torch.tensor([2.0, -2.0]))
        tensor([4.0000, 0.0400])
    """
    return F.leaky_relu(score, SLOPE).square()


class LinearQuery(torch.nn.Module):
    """User vectors of a linear path from encoded rows.

    Args:
        weight: μ.
        near: Factors of the columns of which the mean counts: μ w for those of E, τ for those of
            features, ``[N]``.
        far: The factor of those of which the sum counts, μ g.
        rank: K, the number of the latter.
    """

    weight: Tensor
    near: Tensor
    far: Tensor

    def __init__(self, weight: Tensor, near: Tensor, far: Tensor, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.register_buffer("near", near.clone())
        self.register_buffer("far", far.clone())
        self.register_buffer("weight", weight.clone())

    def forward(self, encoded: Tensor) -> Tensor:
        """Return ``[B, N + K + 1]``.

        Args:
            encoded: Rows scaled by :math:`1 / \\sqrt{|N_u|}`, times the row encoder of
                :meth:`LinearPath.tables`, ``[B, N + K + 1]``.
        """
        stop = encoded.size(1) - 1
        table, basis, root = encoded.tensor_split([stop - self.rank, stop], dim=1)
        # The last column is the root of the number of items, which turns the scaled sums into a
        # mean and a sum.
        mean, total = table / root.clamp(min=1), basis * root
        near, far = self.near.to(encoded.dtype), self.far.to(encoded.dtype)
        one = self.weight.to(encoded.dtype).expand_as(root)
        return torch.cat([near * mean, far * total, one], dim=1)

    def decompose(self, columns: Tensor, item: Tensor) -> tuple[Tensor, float]:
        """Split a score into the contributions of the items of the row, ``[n]``, and the bias.

        Args:
            columns: The tables' columns that encode these items, ``[n, N + K + 1]``.
            item: The vector of the scored item, ``[N + K + 1]``.
        """
        stop = item.numel() - 1
        table, basis, _ = columns.tensor_split([stop - self.rank, stop], dim=1)
        own, far, bias = item.tensor_split([stop - self.rank, stop])
        near = table @ (self.near.to(item.dtype) * own) / len(columns)
        return near + self.far.to(item.dtype) * (basis @ far), (self.weight * bias).item()
