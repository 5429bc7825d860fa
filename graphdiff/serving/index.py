"""An index of item vectors, so that a request does not score the whole catalogue."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn.pool import MIPSKNNIndex
from torch_geometric.nn.pool.knn import KNNIndex

from graphdiff.console import print_status
from graphdiff.errors import ConfigError, DataError
from graphdiff.graph.approximate import has_faiss, share_found
from graphdiff.models.base import Recommender, Tables
from graphdiff.models.conversion import as_integer
from graphdiff.nn.topk import topk_inner_product

#: Catalogues up to this size are searched exactly by default.
EXACT_UP_TO = 100_000
#: Users on whose requests an approximate index is tuned, and the k of these requests.
SAMPLE, SAMPLE_K = 256, 20
#: Most candidates of one search; where more are needed, the whole catalogue is scored.
MAX_FETCH = 2048


class RetrievalIndex:
    r"""A model's item vectors in PyG's faiss index, with the model's own :meth:`recommend`.

    The score :math:`\mathbf{u} \cdot \mathbf{v}_i + b_i` is the inner product of
    :math:`[\mathbf{u}, 1]` with :math:`[\mathbf{v}_i, b_i]`, so a bias is one more coordinate.

    *Exact* (:class:`~torch_geometric.nn.pool.MIPSKNNIndex`): what the model recommends, up to
    rounding. *Approximate*: by default the inner products of all items are estimated from vectors
    in 4 bits for each two coordinates, and those of the best ``e * k`` items are then computed
    from the full vectors. The effort e is measured when the index is built: it is doubled until,
    on a sample of training users, the wanted share of the exact lists is found. (An inverted file
    compares a request with the items of a few cells. On vectors without clusters it has to visit
    half of them for the same share.)

    A search fetches more than k items where some are excluded. If too few remain, it is repeated
    with more, and finally over the whole catalogue: a list is short only where no item is left.

    The index follows its model: the next request sees items that were added or removed, without a
    new build; any other change of the weights builds the index again.

    Args:
        model: A model whose scores are inner products.
        approximate: Whether to search approximately. (default: above 100,000 items)
        factory: Description of the approximate index for :func:`faiss.index_factory`, such as
            ``"IVF4096,Flat"``, of which the number of visited cells is tuned.
        recall: Share of the exact lists that an approximate index must find, in (0, 1].
        verbose: Print the share found to stderr.

    Attributes:
        recall: The share found on the sample; 1 for an exact index.

    Raises:
        ConfigError: If faiss is not installed or does not know ``factory``, ``recall`` is out of
            range, or the model's scores are not inner products.

    Source: product quantisation with 4-bit codes in registers, André et al., arXiv 1812.09162;
    faiss.
    """

    _tables: Tables

    def __init__(
        self,
        model: Recommender,
        approximate: bool | None = None,
        factory: str | None = None,
        recall: float = 0.95,
        verbose: bool = True,
    ) -> None:
        if not has_faiss():
            raise ConfigError(
                "an index needs faiss, which is not installed; "
                "install it with: pip install 'graphdiff-rec[index]'"
            )
        if not 0 < recall <= 1:
            raise ConfigError(f"recall = {recall}; it must be above 0 and at most 1")
        model.require_inner_product()
        if approximate is None:
            approximate = factory is not None or model.num_items > EXACT_UP_TO
        self.model, self.approximate, self.factory = model, approximate, factory
        self.wanted_recall, self.verbose = recall, verbose
        with model.evaluation_mode():
            self._build(model.cached_tables())

    @torch.no_grad()
    def recommend(
        self,
        user_index: Any = None,
        *,
        user_id: Any = None,
        history: Any = None,
        history_index: Any = None,
        k: int = 20,
        exclude_seen: bool = True,
        exclude: Any = None,
        exclude_index: Any = None,
        candidates: Any = None,
        candidate_index: Any = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        """Return the best items of each user, as :meth:`graphdiff.models.Recommender.recommend`
        does, with its arguments and errors. Equal scores come in no particular order.

        Raises:
            ConfigError: If ``explore`` or ``popularity_discount`` is given: they need the scores of
                the whole catalogue.
        """
        _refuse_reranking(options)
        model = self.model
        query = model.query(
            user_index, user_id=user_id, history=history, history_index=history_index
        )
        pairs = model.excluded_pairs(query, exclude_seen, exclude_index, exclude=exclude)
        allowed = model.candidate_mask(candidates, candidate_index)
        with model.evaluation_mode():
            vectors = model.user_vectors(query, self._follow(), **options)
        return self.search(vectors, as_integer(k, "k"), pairs, allowed)

    @torch.no_grad()
    def search(
        self,
        vectors: Tensor,
        k: int,
        exclude: tuple[Tensor, Tensor] | None = None,
        allowed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the items with the highest scores for given vectors of users.

        Args:
            vectors: ``[B, d]``.
            k: Number of items, 1 … I.
            exclude: Pairs ``(row, item)`` to leave out, long ``[P]`` each.
            allowed: Bool ``[I]``, items that may be returned. (default: all)

        Returns:
            ``(item_index [B, k] long, score [B, k])``, best first; -1 and -inf where no item is
            left, on the device of ``vectors``.

        Raises:
            ConfigError: If ``k`` is out of range.
            DataError: If an excluded pair is out of range, or ``allowed`` has another shape.
        """
        num = self._searcher.numel
        if not 1 <= k <= num:
            raise ConfigError(f"k = {k} with an index of {num} items; k must be from 1 to {num}")
        _check(exclude, allowed, len(vectors), num)
        wanted = self._augmented(vectors, torch.ones_like(vectors[:, 0]))
        row, item = (None, None) if exclude is None else (exclude[0].cpu(), exclude[1].cpu())
        pairs = None if row is None else (row * num + item).sort().values
        share = 1.0
        if allowed is not None:
            allowed = allowed.cpu()
            share = allowed.float().mean().item()
        typical = 0.0 if row is None else row.numel() / max(1, len(wanted))
        index = torch.full((len(wanted), k), -1)
        score = torch.full((len(wanted), k), -torch.inf)
        # Excluded items were probably at the top of a list.
        fetch = int((k + 2 * typical) / max(share, 1e-9))
        short = torch.arange(len(wanted))
        while len(short) and fetch <= min(MAX_FETCH, num):
            found = self._searcher.search(wanted[short], fetch)
            kept = found.index >= 0
            if pairs is not None:
                kept &= ~_among(pairs, short.unsqueeze(1) * num + found.index)
            if allowed is not None:
                kept &= allowed[found.index]  # whatever -1 gives: it is not kept
            index[short], score[short] = _first(found.index, found.score, kept, k)
            short = short[index[short, -1] < 0]
            fetch *= 4
        index, score = index.to(vectors.device), score.to(vectors.device)
        if len(short):
            self._search_all(vectors, short, exclude, allowed, index, score)
        return index, score

    def _search_all(
        self,
        vectors: Tensor,
        short: Tensor,
        exclude: tuple[Tensor, Tensor] | None,
        allowed: Tensor | None,
        index: Tensor,
        score: Tensor,
    ) -> None:
        """Fill in the lists of the users ``short``, who need the whole catalogue."""
        short = short.to(vectors.device)
        if exclude is not None:
            place = torch.full((vectors.size(0),), -1, device=vectors.device)
            place[short] = torch.arange(len(short), device=vectors.device)
            row = place[exclude[0]]
            exclude = row[row >= 0], exclude[1][row >= 0]
        item, bias = self._tables.item, self._tables.bias
        score[short], index[short] = topk_inner_product(
            vectors[short],
            item,
            bias,
            index.size(1),
            exclude,
            None if allowed is None else allowed.to(vectors.device),
        )

    def _follow(self) -> Tables:
        """Return the model's tables, after bringing the index up to date with them."""
        tables = self.model.cached_tables()
        if tables is not self._tables:
            known = self._searcher.numel
            if _begins_with(tables, self._tables):
                self._tables = tables
                bias = None if tables.bias is None else tables.bias[known:]
                if len(tables.item) > known:
                    self._searcher.add(self._augmented(tables.item[known:], bias))
            else:
                self._build(tables)
        return tables

    @torch.no_grad()
    def _build(self, tables: Tables) -> None:
        self._tables = tables
        self.recall = 1.0
        vectors = self._augmented(tables.item, tables.bias)
        if not self.approximate:
            self._searcher: KNNIndex = MIPSKNNIndex(vectors)
            return
        # Two coordinates share 4 bits.
        factory = self.factory or f"PQ{vectors.size(1) // 2}x4fs,RFlat"
        try:
            self._searcher = _InnerProductIndex(factory)
            self._searcher.add(vectors)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1]
            raise ConfigError(f"faiss cannot build an index from {factory!r}: {reason}") from None
        self.recall = self._tune()
        if self.verbose:
            print_status(f"index {factory}: {self.recall:.1%} of the {SAMPLE_K} best items found")

    def _tune(self) -> float:
        """Double the effort until enough is found, and return the share found."""
        model, num_items = self.model, self._searcher.numel
        generator = torch.Generator().manual_seed(0)
        user = torch.randperm(model.num_users, generator=generator)[:SAMPLE].to(model.device)
        query = model.query(user)
        vectors = model.user_vectors(query, self._tables)
        seen, k = (query.rows.row, query.rows.item), min(SAMPLE_K, num_items)
        _, truth = topk_inner_product(vectors, self._tables.item, self._tables.bias, k, seen)
        effort, found = 4, 0.0
        while True:
            exhausted = self._searcher.set_effort(effort)
            guess, _ = self.search(vectors, k, seen)
            found = share_found(guess, truth)
            if found >= self.wanted_recall or exhausted:
                return found
            effort *= 2

    def _augmented(self, vectors: Tensor, last: Tensor | None) -> Tensor:
        """Return ``[n, d]`` and ``[n]`` side by side, of even width, as faiss takes them."""
        width = vectors.size(1) + 1
        out = torch.zeros(len(vectors), width + width % 2)
        out[:, : width - 1] = vectors
        if last is not None:
            out[:, width - 1] = last
        return out

    def __repr__(self) -> str:
        kind = f"recall={self.recall:.3f}" if self.approximate else "exact"
        return f"{type(self).__name__}({type(self.model).__name__}, {self._searcher.numel}, {kind})"


class _InnerProductIndex(KNNIndex):
    """PyG's index around one that faiss builds from a description, by inner product."""

    def _create_index(self, channels: int) -> Any:
        import faiss

        return faiss.index_factory(channels, self.index_factory, faiss.METRIC_INNER_PRODUCT)

    def set_effort(self, effort: int) -> bool:
        """Compare ``effort`` times as many candidates, and visit ``effort`` cells, where the index
        has such settings. Return whether more effort would change nothing."""
        import faiss

        assert self.index is not None
        exhausted = True
        if hasattr(self.index, "k_factor"):
            self.index.k_factor = effort
            exhausted &= effort * SAMPLE_K >= self.numel
        cells = faiss.try_extract_index_ivf(self.index)
        if cells is not None:
            cells.nprobe = min(effort, cells.nlist)
            exhausted &= effort >= cells.nlist
        return exhausted


def _refuse_reranking(options: dict[str, Any]) -> None:
    """Refuse what changes the order of all items; 0, the default of a model, is taken out."""
    for name in ("explore", "popularity_discount"):
        value = options.pop(name, 0)
        if value != 0:
            raise ConfigError(
                f"{name} is {value!r}, and an index does not take explore and popularity_discount: "
                "they need the scores of all items; use model.recommend"
            )


def _check(
    exclude: tuple[Tensor, Tensor] | None, allowed: Tensor | None, num_rows: int, num_items: int
) -> None:
    """Refuse pairs out of range: in a flat key they would be those of another user."""
    for name, size, part in (("row", num_rows, 0), ("item", num_items, 1)):
        if exclude is not None and exclude[part].numel():
            low, high = int(exclude[part].min()), int(exclude[part].max())
            if low < 0 or high >= size:
                wrong = low if low < 0 else high
                raise DataError(f"exclude has {name} {wrong}; expected 0 to {size - 1}")
    if allowed is not None and (allowed.shape != (num_items,) or allowed.dtype != torch.bool):
        raise DataError(
            f"allowed is {allowed.dtype} of shape {list(allowed.shape)}; expected torch.bool of "
            f"shape [{num_items}]"
        )


def _among(ordered: Tensor, key: Tensor) -> Tensor:
    """Return which keys are among ``ordered``, which ascends."""
    if len(ordered) == 0:
        return torch.zeros_like(key, dtype=torch.bool)
    place = torch.searchsorted(ordered, key).clamp_(max=len(ordered) - 1)
    return ordered[place] == key


def _first(index: Tensor, score: Tensor, kept: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the first k kept entries of each row ``[B, n]``, filled up with -1 and -inf."""
    place = kept.cumsum(dim=1) - 1
    place = torch.where(kept & (place < k), place, k)
    size = (len(index), k + 1)
    first = torch.full(size, -1).scatter_(1, place, index)
    best = torch.full(size, -torch.inf).scatter_(1, place, score)
    # The last column collected all entries that are not wanted.
    return first[:, :k], best[:, :k]


def _begins_with(tables: Tables, before: Tables) -> bool:
    """Return whether the items of ``before`` are the same, up to rounding."""
    num = len(before.item)
    if len(tables.item) < num or not torch.allclose(tables.item[:num], before.item, atol=1e-6):
        return False
    if tables.bias is None or before.bias is None:
        return tables.bias is before.bias
    return torch.allclose(tables.bias[:num], before.bias, atol=1e-6)
