"""LD4MRec on several processes that each hold a part of the items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from graphdiff.autocast import without_autocast
from graphdiff.distributed.collectives import gather_parts, log_sum_parts, spread, sum_parts
from graphdiff.distributed.processes import is_main, join_columns, own_part, sum_over_processes
from graphdiff.errors import ConfigError
from graphdiff.graph.item_shard import (
    ItemShard,
    SharedRows,
    item_hop,
    round_trip,
    round_trip_without,
    unweighted_round_trip,
)
from graphdiff.graph.rows import Rows
from graphdiff.graph.store import RecGraph
from graphdiff.models.ld4mrec.draws import draw_softened, draw_steps, training_process
from graphdiff.models.ld4mrec.item_messages import SMALL_GRAPH, ItemMessages
from graphdiff.models.ld4mrec.item_tables import ItemTables
from graphdiff.models.ld4mrec.model import LD4MRec
from graphdiff.models.ld4mrec.objective import full_precision
from graphdiff.models.ld4mrec.row_diffusion import noise_scale
from graphdiff.models.ld4mrec.row_encoding import row_scale
from graphdiff.models.ld4mrec.row_signals import row_signals
from graphdiff.models.query import Query
from graphdiff.models.table_cache import Tables
from graphdiff.nn.heads import split_heads
from graphdiff.nn.losses import log_partition
from graphdiff.nn.processes import EncodedRows, GaussianProcess, MaskingProcess, RowProcess
from graphdiff.nn.reconstruction import (
    Quadratic,
    sum_item_table,
    sum_items,
    sum_rows,
)
from graphdiff.nn.topk import topk_blocks

#: Processes of rows that need no tables of their own and add no items.
DIVISIBLE = (GaussianProcess, MaskingProcess, RowProcess)
#: Entries of the state with a row for each item.
ITEM_ROWS = (
    "items.weight",
    "items.content.coordinates",
    "bias",
    "reconstruction.bias",
    "catalogue.available",
)


class Withheld(NamedTuple):
    """Interactions that are removed from message passing; see
    :func:`~graphdiff.graph.item_shard.round_trip_without`."""

    position: Tensor
    user: Tensor
    number: Tensor


class ShardedMessages(ItemMessages):
    """Item tables by message passing over the items of all processes."""

    def steps_between(self, graph: RecGraph) -> int:
        """Return the training steps between two propagations, as without shards."""
        assert isinstance(graph, ItemShard)
        if self.every is not None:
            return self.every
        num_messages = 2 * self.collaborative.num_layers * graph.num_all_interactions
        num_messages += self.content.num_layers * graph.cached(_num_similar)
        return 0 if num_messages <= SMALL_GRAPH else 100

    def _signal_tables(
        self, items: Tensor, graph: RecGraph, withheld: Any = None
    ) -> Iterator[Tensor]:
        assert isinstance(graph, ItemShard)
        channels, num_layers = items.size(1), self.collaborative.num_layers
        weigh_tables = self.saves_memory(graph)
        if withheld is None:
            build = unweighted_round_trip if weigh_tables else round_trip
            trip = graph.cached(build, channels)
        else:
            position, user, number = withheld
            trip = round_trip_without(graph, position, user, number, channels)
        total, current = items, items
        for _ in range(num_layers):
            current = trip(current)
            total = total + current
        yield total / (num_layers + 1)
        for name in graph.modalities:
            if not self.content.num_layers:
                yield self.content.weight * items * graph.features(name)[1].unsqueeze(-1)
                continue
            share = 1.0 if weigh_tables else self.content.edge_share
            hop, table = graph.cached(item_hop, name, share), items
            for _ in range(self.content.num_layers):
                table = hop(table)
            yield table.mul_(self.content.weight) if weigh_tables else table


class SharedDraw(NamedTuple):
    """All random values of a training step, drawn by each process for all items.

    Attributes:
        visible: Bool ``[N]``, items that the encoder sees.
        t: Diffusion steps, long ``[B]``.
        step_weight: ``[B]``.
        noise: White noise, ``[B, d]``.
        softened: Bool ``[N]``, items whose target is softened.
        negative: Negatives among the own items, long ``[n]``.
        log_chance: ``[n]``, as in :class:`~graphdiff.nn.losses.Negatives`.
    """

    visible: Tensor
    t: Tensor
    step_weight: Tensor
    noise: Tensor
    softened: Tensor
    negative: Tensor
    log_chance: Tensor


class ShardedLD4MRec(LD4MRec, registered=False):
    """The part of an LD4MRec that one process holds: the rows of its items in every table, with
    their gradients and the optimizer's state, and a copy of everything without a row per item.

    All processes compute the same users at the same time. Whatever is a sum over items is a sum
    over processes: encoded rows, the Gram matrix, partition functions and losses.
    """

    graph: ItemShard

    def __init__(self, model: LD4MRec, part: slice) -> None:
        parts = {name: getattr(model, name) for name in model.given_parts}
        super().__init__(model.config, ItemShard(model.graph, part), **parts)
        passing = self.config.propagation
        self.messages = ShardedMessages(
            passing.num_layers, passing.num_item_layers, passing.content_weight, passing.every
        )
        self.cold_items.enabled = False
        self.to(model.bias.dtype)
        self.load_state_dict(own_rows(model.state_dict(), part, self.state_dict()))
        if self.items.content is not None:
            # Each process has the gradient of its own items.
            self.items.content.weight.register_post_accumulate_grad_hook(_sum_gradient)

    def start_epoch(self, generator: torch.Generator) -> None:
        """Discard the propagated tables; features were read before the items were divided."""
        self.messages.invalidate()

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of a batch, which all processes have: the same in all of them."""
        rows, passing = self.graph.shared_rows(batch), self.config.propagation
        if rows.row.numel() == 0:
            return 0 * self.items.weight.sum()
        draw = self.draw_shared(rows, generator)
        withheld = None
        if passing.hide_targets and passing.num_layers > 0:
            hidden = torch.bincount(rows.row[~draw.visible], minlength=rows.own.num)
            withheld = Withheld(rows.position[~draw.visible[rows.place]], batch, hidden)
        loss = self.shared_losses(rows, draw, withheld)
        self.steps.update(draw.t, loss)
        return (draw.step_weight * loss).mean()

    def draw_shared(self, rows: SharedRows, generator: torch.Generator) -> SharedDraw:
        """Draw the values that :meth:`LD4MRec.draw` draws for the rows with all their items."""
        objective, graph, device = self.config.objective, self.graph, rows.row.device
        num, size = rows.row.numel(), (rows.own.num, self.config.hidden_channels)
        chance = torch.rand(num, generator=generator, device=device)
        process = training_process(self.config, self.process)
        t, step_weight = draw_steps(rows.own.num, self.steps, process, self.config, generator)
        everyone = Rows(rows.row, rows.row, rows.own.num)  # whose items the process does not use
        visible = process.visible(chance, everyone, t, objective.input_dropout)
        noise = torch.randn(size, generator=generator, device=device, dtype=torch.float32)
        softened = draw_softened(num, objective.soft_probability, device, generator)
        half = objective.num_negatives // 2
        uniform = torch.randint(graph.num_trained, (half,), generator=generator, device=device)
        drawn = torch.randint(num, (half,), generator=generator, device=device)
        # Places among trained items, and among the rows' items, of which the own are here.
        trained = graph.trained_items()
        uniform = uniform - graph.trained_before
        uniform = uniform[(uniform >= 0) & (uniform < trained.numel())]
        item_at = torch.full((num,), -1, device=device).index_copy(0, rows.place, rows.own.item)
        drawn = item_at[drawn]
        negative = torch.cat([trained[uniform], drawn[drawn >= 0]])
        chance = 0.5 / graph.num_trained + 0.5 * graph.cached(_frequency)[negative]
        log_chance = (2 * half * chance).log()
        return SharedDraw(visible, t, step_weight, noise, softened, negative, log_chance)

    def shared_losses(
        self, rows: SharedRows, draw: SharedDraw, withheld: Withheld | None
    ) -> Tensor:
        """Return the loss of each row, ``[B]``, as :meth:`LD4MRec.row_losses` does."""
        (row, item, num, _), reconstruction = rows.own, self.reconstruction
        propagated = self.propagated(withheld)  # type: ignore[arg-type]
        dtype, num_heads = propagated.table.dtype, self.config.num_heads
        popularity = self.graph.cached(_popularity).to(dtype)
        index = torch.cat([item, draw.negative])
        with full_precision(self.device):
            residual = reconstruction.residual(popularity)
            sums = sum_item_table(propagated.table, propagated.shift, residual, index, num_heads)
        objective = self.config.objective
        visible = draw.visible[rows.place].nonzero().flatten()
        signal_tables = propagated.signal_tables.index_select(0, item[visible])
        shown = torch.cat([sums.rows.index_select(0, visible), signal_tables], dim=1)
        encoded, gram, total, constant = sum_parts(
            sum_rows(shown, row[visible], num),
            sums.gram,
            sums.residual,
            residual.square().sum(),
        )
        seen = Rows(rows.row[draw.visible], rows.row[draw.visible], num)
        encoded = row_scale(seen, dtype).unsqueeze(-1) * encoded
        behaviour, signals = encoded.tensor_split([sums.rows.size(1)], dim=1)
        hidden = self.hidden(
            self._diffused(behaviour, gram, seen, draw),
            draw.t,
            row_signals(signals, self.gate, self.shares()),
        )

        # From here on each process works on the scores of its own items.
        weight = torch.where(draw.visible, objective.visible_weight, 1.0).to(dtype)
        own_weight = weight[rows.place]
        query = num_heads * self.heads(hidden)
        own_hidden, own_query = spread(hidden.to(dtype)), spread(query)
        entries = sums.rows[: item.numel()]
        direction = self.heads.normalize(sums.rows)
        own_bias, negative_bias = self.bias.index_select(0, index).tensor_split([item.numel()])
        products = split_heads(own_hidden.index_select(0, row) * entries, num_heads).sum(dim=-1)
        gap = residual.index_select(0, item) - spread(reconstruction.scale) * products
        excess = reconstruction.excess(popularity, item, draw.softened[rows.place])
        observed = own_weight * (gap + (1 if excess is None else excess)).square()
        observed = observed - objective.unobserved_weight * gap.square()
        cosine = split_heads(own_query.index_select(0, row) * direction[: item.numel()], num_heads)
        rank_score = own_weight * (cosine.sum(dim=-1) + own_bias)
        zero = observed.new_zeros(num_heads, num)
        partition = self._partition(own_query, direction[item.numel() :], negative_bias, draw)
        observed, rank_score = sum_parts(
            zero.index_add(1, row, observed), zero.index_add(1, row, rank_score)
        )

        scale = reconstruction.scale
        everywhere = Quadratic(
            weight=objective.unobserved_weight,
            matrix=scale.square() * gram,
            linear=scale * total,
            constant=constant,
        )
        error = everywhere(split_heads(hidden.to(dtype), num_heads)) + observed
        row_weight = weight.new_zeros(num).index_add(0, rows.row, weight)
        ranking = row_weight * partition - rank_score
        return (objective.reconstruction * error + objective.ranking * ranking).mean(dim=0)

    def _diffused(self, behaviour: Tensor, gram: Tensor, rows: Rows, draw: SharedDraw) -> Tensor:
        """Return x_t·Z; see :func:`~graphdiff.models.ld4mrec.row_diffusion.diffuse`."""
        scale = noise_scale(rows.degree().to(behaviour.dtype), self.graph.num_all_items)
        process = training_process(self.config, self.process)
        encoded = EncodedRows(behaviour, None, gram, scale)
        return process.corrupt(encoded, draw.t, draw.noise.to(behaviour.dtype))

    def _partition(
        self, query: Tensor, direction: Tensor, bias: Tensor, draw: SharedDraw
    ) -> Tensor:
        """Return the logarithm of the softmax's partition function over the negatives of all
        processes, ``[H, B]``."""
        num_heads = self.config.num_heads
        if not draw.negative.numel():
            own = query.new_full((num_heads, query.size(0)), -torch.inf)
        else:
            heads = split_heads(query, num_heads), split_heads(direction, num_heads)
            own = log_partition(*heads, bias - draw.log_chance)
        return log_sum_parts(own)

    def user_vectors(self, query: Query, tables: Tables, num_steps: int = 0) -> Tensor:
        """Return user vectors ``[B, d + K]`` of training users by one pass."""
        assert isinstance(tables, ItemTables)
        assert query.user is not None
        encoded = sum_over_processes(sum_items(tables.row_encoder, query.rows))
        degree = self.graph.row_degree[query.user].clamp(min=1).to(encoded.dtype)
        return tables.inference(degree.rsqrt().unsqueeze(-1) * encoded)

    @without_autocast()
    @torch.no_grad()
    def recommend(  # type: ignore[override]
        self,
        user_index: Tensor,
        *,
        k: int = 20,
        exclude_seen: bool = True,
        exclude_index: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the top-k items of training users over the items of all processes: the best of
        those that each finds among its own."""
        part, user = self.graph.part, torch.as_tensor(user_index, device=self.device)
        query = Query(self.graph.rows(user), user)
        if exclude_index is not None:
            row, item = (x.to(self.device) for x in exclude_index)
            own = (item >= part.start) & (item < part.stop)
            exclude_index = row[own], item[own] - part.start
        with self.evaluation_mode():
            score_block = self.scorer(query, self.cached_tables())
        few = min(k, self.num_items)
        score, item = topk_blocks(
            score_block,
            user.numel(),
            self.num_items,
            few,
            exclude=self.excluded_pairs(query, exclude_seen, exclude_index),
        )
        item = torch.where(item < 0, item, item + part.start)
        score = join_columns(F.pad(score, (0, k - few), value=-torch.inf))
        item = join_columns(F.pad(item, (0, k - few), value=-1))
        # Of equal scores the lower index comes first, and earlier processes have lower ones.
        score, order = score.sort(dim=1, descending=True, stable=True)
        return item.gather(1, order)[:, :k], score[:, :k]

    def gather_into(self, model: LD4MRec) -> None:
        """Write the state of all processes into a whole model, in the main process."""
        state = self.whole_rows(self.state_dict())
        if is_main():
            whole = model.state_dict()
            with torch.no_grad():
                for name, value in state.items():
                    whole[name].copy_(value)
            model.invalidate_tables()

    def whole_rows(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a state with the rows of all items, in the main process; the graph is left
        out."""
        num = self.graph.num_all_items
        return {
            name: value if name not in ITEM_ROWS else _or_own(gather_parts(value, num), value)
            for name, value in state.items()
            if not name.startswith("graph.")
        }


def shard(model: LD4MRec, generator: torch.Generator) -> ShardedLD4MRec:
    """Return this process's part of a model.

    Args:
        model: The whole model, untrained, the same in all processes.
        generator: Source of the random values that reading the features takes.

    Raises:
        ConfigError: If the process that corrupts rows, a linear path, or weights of the latest
            items need items that other processes hold.
    """
    if model.linear is not None:
        raise ConfigError(
            "items cannot be divided with a linear path, which this model has; give "
            "linear_path.enabled=false"
        )
    if model.config.recency != 0 and model.graph.age is not None:
        raise ConfigError(
            "items cannot be divided with weights of the latest items of a row, which data with "
            "times has; give recency=0"
        )
    diffusion = model.config.diffusion
    if type(model.process) not in DIVISIBLE or diffusion.whole_row:
        raise ConfigError(
            f"items cannot be divided with the diffusion process {model.process}"
            f"{' and whole_row' if diffusion.whole_row else ''}; gaussian and masking can, on the "
            "visible part of rows"
        )
    model.start_epoch(generator)
    return ShardedLD4MRec(model, own_part(model.num_items))


def own_rows(
    state: dict[str, Tensor], part: slice, own: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Return a state with the rows of some items, and the graph of ``own``."""
    found = {
        name: value[part].clone() if name in ITEM_ROWS else value
        for name, value in state.items()
        if not name.startswith("graph.")
    }
    return found | {n: value for n, value in (own or {}).items() if n.startswith("graph.")}


def _or_own(whole: Tensor | None, own: Tensor) -> Tensor:
    return own if whole is None else whole


def _sum_gradient(parameter: Tensor) -> None:
    assert parameter.grad is not None
    sum_over_processes(parameter.grad)


def _num_similar(graph: RecGraph) -> int:
    """Return the number of edges of all processes' item-item graphs."""
    own = sum(graph.similar(name)[1].numel() for name in graph.modalities)
    return int(sum_over_processes(torch.tensor(own, device=graph.col.device)))


def _frequency(graph: RecGraph) -> Tensor:
    assert isinstance(graph, ItemShard)
    return graph.item_degree().float() / float(graph.num_all_interactions)


def _popularity(graph: RecGraph) -> Tensor:
    assert isinstance(graph, ItemShard)
    largest = torch.tensor(float(graph.largest_degree)) / float(graph.num_all_interactions)
    return graph.cached(_frequency) / largest.to(graph.col.device)
