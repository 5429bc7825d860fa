"""Scores of items without training interactions: directions from neighbours, and a bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.autocast import without_autocast
from graphdiff.graph.changes import without_interactions
from graphdiff.graph.propagation import FixedConv, FixedGraph
from graphdiff.graph.store import RecGraph
from graphdiff.models.held_out import LENGTH, MOST_USERS, HeldOut, Scorer
from graphdiff.models.ld4mrec.calibration import vector_scorer
from graphdiff.models.ld4mrec.config import ColdItemsConfig
from graphdiff.models.query import Query
from graphdiff.nn.heads import CosineHeads, InnerProductHeads
from graphdiff.nn.topk import largest_of_rows

if TYPE_CHECKING:
    from graphdiff.models.ld4mrec.model import LD4MRec

#: Power of the mean cosine that weighs a neighbour.
SHARPNESS = 4
#: Largest share of the recall@20 on validation pairs that the bias may cost.
LARGEST_LOSS = 0.01
#: Share of the items that are withheld to choose the bias where there are no cold items.
WITHHELD = 0.05
#: Scores that this may compute; it looks at fewer users where there are more items.
MOST_SCORES = 2**24
#: Users with new interactions at which an update moves the bias half the way.
HALF_WAY = 100
#: Edges whose cosine is computed at a time.
PAIRS = 2**17


class ColdNeighbors(NamedTuple):
    """Cold items and the items with training interactions that are most similar to them.

    Attributes:
        item: The cold items that have such neighbours, long ``[n]``, ascending.
        graph: From all items to these n, with weights that sum to one for each of the n.
    """

    item: Tensor
    graph: FixedGraph


class ColdItemScores(torch.nn.Module):
    r"""Item vectors and biases of cold items, which have no training interactions.

    *Direction.* Message passing over users does not reach a cold item, so its row of Z is made from
    features and from the features of neighbours alone. Its vector is the mean of two directions,
    its own and that of its neighbours' finished vectors,

    .. math::
        \mathbf{v}_i \propto \bar{\mathbf{z}}_i +
        \nu\, \overline{\textstyle\sum_{j} c_{ij}^4\, \bar{\mathbf{z}}_j},

    with bars for the length of vectors, which is that of the heads. The sum runs over the
    neighbours of i in the modality graphs that have training interactions, and :math:`c_{ij}` is
    the mean cosine over the modalities that both have.

    *Bias.* Training never sees a cold item as a target, so the level of its scores is arbitrary,
    and in practice low. A bias :math:`\delta` is added to the scores of cold items with
    neighbours, and chosen so that they take the share of all top-20 lists that they have in the
    catalogue, times ``exposure``: an item is assumed to be worth as much as the others until
    something is known of it. The bias is smaller where the recall@20 of validation pairs would fall
    by more than 1 %, and never negative. Where there are no cold items, :math:`\delta` is chosen
    when the first ones are added, with a twentieth of the items withheld from the graph. An update
    takes the new interactions as validation pairs before they are learned (:meth:`recalibrate`).

    With ``propagation.num_item_layers=0`` there are no modality graphs, and scores are without
    both. All of this is ours, and takes place outside of training.

    Args:
        config: Settings.
    """

    bias: Tensor
    chosen: Tensor

    def __init__(self, config: ColdItemsConfig) -> None:
        super().__init__()
        self.exposure, self.neighbor_weight = config.exposure, config.neighbor_weight
        #: False where a process does not have all items; then scores are without both.
        self.enabled = True
        self.register_buffer("bias", torch.zeros(()))
        self.register_buffer("chosen", torch.tensor(False))

    def reset_parameters(self) -> None:
        """Set the bias to zero, as before it is chosen."""
        self.bias.zero_()
        self.chosen.fill_(False)

    def forward(
        self,
        encoder: Tensor,
        bias: Tensor,
        graph: RecGraph,
        heads: CosineHeads | InnerProductHeads,
    ) -> tuple[Tensor, Tensor]:
        """Return item vectors ``[I, d]`` and biases ``[I]``.

        Args:
            encoder: Z, ``[I, d]``.
            bias: Learned biases, ``[I]``.
            graph: The graph of the items.
            heads: They scale item vectors.
        """
        item = heads.normalize(encoder)
        cold = graph.cached(cold_neighbors) if self.enabled else None
        if cold is None:
            return item, bias
        if self.neighbor_weight:
            near = heads.normalize(FixedConv()(item, cold.graph))
            own = item.index_select(0, cold.item)
            mean = (own + self.neighbor_weight * near) / (1 + self.neighbor_weight)
            item = item.clone() if item is encoder else item
            item.index_copy_(0, cold.item, heads.normalize(mean))
        return item, bias.index_add(0, cold.item, self.bias.to(bias.dtype).expand(cold.item.shape))

    def can_choose(self, graph: RecGraph, pairs: Tensor) -> bool:
        """Return whether there are cold items whose bias the held-out pairs can choose."""
        wanted = self.enabled and bool(self.exposure) and pairs.numel() > 0
        return wanted and graph.cached(cold_neighbors) is not None

    @torch.no_grad()
    @without_autocast()
    def calibrate(self, model: LD4MRec, pairs: Tensor, most: int | None = None) -> None:
        """Choose the bias for the present weights.

        Args:
            model: The model that these scores are part of.
            pairs: Held-out pairs (user, item), long ``[2, P]``.
            most: Largest number of their users to look at; 2,048 by default.
        """
        graph = model.graph
        if not self.can_choose(graph, pairs):
            return
        self.bias.zero_()
        tables, held_out = model.tables(), HeldOut(graph, pairs, most)
        vectors = model.user_vectors(Query(held_out.seen), tables)
        self.choose(graph, held_out, vector_scorer(vectors, tables))
        model.invalidate_tables()

    def choose(self, graph: RecGraph, held_out: HeldOut, scorer: Scorer) -> None:
        """Choose the bias by held-out pairs.

        Args:
            graph: A graph for which :meth:`can_choose` is True.
            held_out: Users to look at.
            scorer: The model's scores with a bias of 0.
        """
        cold = graph.cached(cold_neighbors)
        assert cold is not None
        is_cold = torch.zeros(graph.num_items, dtype=torch.bool, device=cold.item.device)
        is_cold[cold.item] = True
        found = [
            exchanges(held_out, scorer(start, stop), is_cold, start, stop)
            for start, stop in held_out.blocks()
        ]
        threshold, gain, recall = (torch.cat(one) for one in zip(*found, strict=True))
        places = self.exposure * cold.item.numel() / graph.num_items * LENGTH * recall.numel()
        self.bias.copy_(smallest_bias(threshold, gain, recall.sum(), round(places)))
        self.chosen.fill_(True)

    @torch.no_grad()
    def recalibrate(self, model: LD4MRec, pairs: Tensor) -> None:
        r"""Move the bias towards the best one for interactions that are not learned yet.

        What the model would have recommended is compared with what users chose, so that the bias
        follows the new items and interactions of updates, as a validation chooses it in training.
        With n users it moves :math:`n / (n + 100)` of the way: few users say little.

        Args:
            model: The model that these scores are part of, whose graph lacks the pairs.
            pairs: Interactions (user, item), long ``[2, P]``. Those of users without a history are
                left out.
        """
        pairs = pairs[:, model.graph.user_degree()[pairs[0]] > 0]
        most = _most_users(model.graph)
        num = min(most, pairs[0].unique().numel())
        before = self.bias.clone()
        self.calibrate(model, pairs, most)
        self.bias.copy_(before.lerp(self.bias, num / (num + HALF_WAY)))
        model.invalidate_tables()

    @torch.no_grad()
    def prepare(self, model: LD4MRec) -> None:
        """Choose the bias with withheld items, unless it was chosen or there are cold items."""
        graph = model.graph
        if bool(self.chosen) or not (self.enabled and self.exposure and graph.modalities):
            return
        if graph.cached(cold_neighbors) is not None:
            return
        reduced, pairs = without_some_items(graph)
        if not reduced.num_interactions:
            return
        cold = reduced.item_degree() == 0
        biases = [(owner, owner.bias) for owner in (model, model.reconstruction)]
        model.graph = reduced
        try:
            for owner, bias in biases:
                # As items that are added have.
                owner.bias = torch.nn.Parameter(torch.where(cold, bias[~cold].mean(), bias))
            self.calibrate(model, pairs, _most_users(graph))
        finally:
            model.graph = graph
            for owner, bias in biases:
                owner.bias = bias
            model.invalidate_tables()

    def extra_repr(self) -> str:
        """Return the settings for ``print(model)``."""
        return f"exposure={self.exposure:g}, neighbor_weight={self.neighbor_weight:g}"


def _most_users(graph: RecGraph) -> int:
    """Return the largest number of users to look at outside of training."""
    return max(1, min(MOST_USERS, MOST_SCORES // graph.num_items))


def exchanges(
    held_out: HeldOut, score: Tensor, cold: Tensor, start: int, stop: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a growing bias of cold items does to users' lists: one after another, their best
    cold items take the places of the last others. The j-th best cold item exceeds the other that is
    j-th from the end of the list where the bias exceeds the difference of their scores.

    Args:
        held_out: Users with held-out items.
        score: Scores of the users from ``start`` to ``stop``, ``[B, I]``.
        cold: Bool ``[I]``.
        start: First user.
        stop: The user after the last.

    Returns:
        For each exchange the bias from which on it takes place, ``[B * L]``, and what it changes in
        the user's recall, ``[B * L]``; and the recalls of lists without cold items, ``[B]``.
    """
    length = min(LENGTH, score.size(1))
    target = held_out.targets(start, stop)
    score = score.masked_fill(held_out.histories(start, stop), -torch.inf)
    share = target / target.sum(dim=1, keepdim=True).clamp(min=1)
    other, place = largest_of_rows(score.masked_fill(cold, -torch.inf), length)
    lost = share.gather(1, place) * other.isfinite()
    best, place = largest_of_rows(score.masked_fill(~cold, -torch.inf), length)
    won = share.gather(1, place) * best.isfinite()
    threshold = (other.flip(1) - best).nan_to_num(
        nan=torch.inf, posinf=torch.inf, neginf=-torch.inf
    )
    return threshold.flatten(), (won - lost.flip(1)).flatten(), lost.sum(dim=1)


def smallest_bias(threshold: Tensor, gain: Tensor, recall: Tensor, places: int) -> Tensor:
    """Return the smallest bias, at least 0, with which cold items take a number of places, or as
    many as cost at most 1 % of the recall without a bias.

    Args:
        threshold: Bias from which on each exchange takes place, ``[n]``.
        gain: What each exchange adds to the sum of recalls, ``[n]``.
        recall: Sum of the recalls before all exchanges, a scalar.
        places: Number of places.

    Returns:
        A scalar.

    Example:
        >>> threshold, gain = torch.tensor([0.5, 1.0, 2.0, 3.0]), torch.tensor([0.0, 1.0, 0.0, 0.0])
        >>> smallest_bias(threshold, gain, torch.tensor(5.0), places=3)
        tensor(2.5000)
        >>> smallest_bias(threshold, -gain, torch.tensor(5.0), places=3)  # it would cost a fifth
        tensor(0.7500)
    """
    threshold, order = threshold.sort()
    recalls = torch.cat([recall.new_zeros(1), gain[order].cumsum(0)]) + recall
    free = int(torch.searchsorted(threshold, threshold.new_zeros(())))
    # Minus infinity is an exchange too, one that takes place without a bias.
    most = min(places, int((threshold < torch.inf).sum()))
    fits = recalls[free : most + 1] >= (1 - LARGEST_LOSS) * recalls[free]
    if not fits.any():
        return threshold.new_zeros(())
    number = free + int(fits.nonzero().max())
    if number == free:
        return threshold.new_zeros(())
    above = threshold[number] if number < threshold.numel() else threshold.new_tensor(torch.inf)
    last = threshold[number - 1]
    # Between this exchange and the next; in front of none.
    return (last + above) / 2 if above.isfinite() else last + 1


def cold_neighbors(graph: RecGraph) -> ColdNeighbors | None:
    """Return the cold items that have neighbours with training interactions in the modality graphs,
    and these neighbours; None where there are no such items."""
    cold = graph.item_degree() == 0
    found = []
    for name in graph.modalities:
        neighbor, item = graph.similar(name)[0].long()
        kept = cold[item] & ~cold[neighbor]
        found.append(item[kept] * graph.num_items + neighbor[kept])
    pair = torch.cat(found).unique() if found else cold.new_zeros(0, dtype=torch.long)
    if not pair.numel():
        return None
    item, neighbor = pair // graph.num_items, pair % graph.num_items
    # A minimum, so that an item with opposite neighbours only has a mean of them too.
    weight = _mean_cosine(graph, item, neighbor).clamp(min=1e-3) ** SHARPNESS
    known, place = item.unique(return_inverse=True)
    total = weight.new_zeros(known.numel()).index_add_(0, place, weight)
    weight = (weight / total[place]).to(torch.get_default_dtype())
    return ColdNeighbors(
        known, FixedGraph((neighbor, place), weight, graph.num_items, known.numel())
    )


def _mean_cosine(graph: RecGraph, item: Tensor, neighbor: Tensor) -> Tensor:
    """Return the mean cosine of pairs of items over the modalities that both have, ``[E]``.
    Features are centred on the mean direction of their modality among items with interactions."""
    trained = graph.item_degree() > 0
    total = torch.zeros(item.shape, device=item.device)
    both = torch.zeros_like(total)
    for name in graph.modalities:
        x, has = graph.features(name)
        scale = has / torch.linalg.vector_norm(x, dim=1).clamp(min=1e-12)
        # Items that are added later do not move it.
        centre = (scale * trained) @ x / (has & trained).sum().clamp(min=1)
        for part in torch.arange(item.numel(), device=item.device).split(PAIRS):
            a, b = item[part], neighbor[part]
            left, right = (scale[n].unsqueeze(1) * x[n] - centre for n in (a, b))
            shared = (has[a] & has[b]).to(total.dtype)
            total[part] += shared * F.cosine_similarity(left, right, dim=1)
            both[part] += shared
    return total / both.clamp(min=1)


def without_some_items(graph: RecGraph) -> tuple[RecGraph, Tensor]:
    """Return a graph without the interactions of a twentieth of the items, and these interactions,
    long ``[2, n]``. The draw is always the same."""
    trained = graph.trained_items()
    order = torch.randperm(trained.numel(), generator=torch.Generator().manual_seed(0))
    chosen = order[: max(1, round(WITHHELD * trained.numel()))].to(trained.device)
    withheld = torch.zeros(graph.num_items, dtype=torch.bool, device=trained.device)
    withheld[trained[chosen]] = True
    removed = withheld[graph.col]
    pairs = torch.stack([graph.user, graph.col])[:, removed]
    return without_interactions(graph, removed), pairs
