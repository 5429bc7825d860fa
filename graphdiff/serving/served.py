"""A model as a service holds it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from graphdiff.errors import ConfigError, DataError, GraphDiffError
from graphdiff.models.base import Recommender
from graphdiff.models.explanation import Explanation
from graphdiff.models.storage import load_model
from graphdiff.serving.items import ServedItems
from graphdiff.serving.messages import ExplainedItem, ItemContribution, ItemLink, Reason, ScoredItem

#: Training users whose weights of the modalities are compared, and the difference that counts.
SAMPLE, NOTICEABLE = 256, 0.02


class Served:
    """A model that recommends to users given by their histories alone.

    It never changes: :meth:`with_items` returns another one.

    Args:
        model: A model that folds users in.
        run: The folder that it came from, if any.

    Raises:
        ConfigError: If the model scores only the users that it was trained on, or the raw ids of
            its items cannot be served.
    """

    def __init__(self, model: Recommender, run: Path | None = None) -> None:
        if not model.folds_in:
            raise ConfigError(
                f"{type(model).__name__} knows only the users it was trained on, so it cannot be "
                "served; use a model that computes a user from their history, such as LD4MRec"
            )
        self.model, self.run = model.eval(), run
        self.name = type(model).__name__
        self.explains = type(model).explain is not Recommender.explain
        self.items = ServedItems(model)
        self.item_ids = self.items.ids

    @classmethod
    def open(cls, run: Path) -> Served:
        """Load a RUN folder and answer one request, so that the model's tables are ready.

        Raises:
            RunError: If there is no whole model in the folder.
            ConfigError: If the model cannot be served.
        """
        served = cls(load_model(run, Recommender), run)  # type: ignore[type-abstract]
        served.answer([RankingRequest(served, [0], 1)])
        return served

    def copied(self) -> Served:
        """Return a copy with a model of its own."""
        return Served(copy.deepcopy(self.model), self.run)

    def with_items(
        self,
        features: dict[str, list[list[float] | None]],
        item_id: Sequence[str] | None,
        details: Mapping[Any, Sequence[str | None]] | None = None,
    ) -> Served:
        """Add items to this model's catalogue and check that it still answers.

        The model changes even where the check fails, so this is called on what :meth:`copied`
        returned.

        Args:
            features: Per modality a vector for each item, or None where an item lacks it.
            item_id: Their raw ids, if the model has raw ids.
            details: Their titles, categories and image addresses, with None for a missing one.

        Returns:
            The model with its new items.

        Raises:
            ConfigError: If the model knows items only by their interactions.
            DataError: If features, ids or details do not fit, or scores are not finite.
        """
        first = self.model.num_items
        tensors = {name: self._matrix(name, vectors) for name, vectors in features.items()}
        self.model.add_items(tensors, item_id=item_id, details=details)
        try:
            served = Served(self.model, self.run)
        except ConfigError as error:
            raise DataError(f"item_id: {error}") from None
        try:
            # The first request would have to compute the tables.
            served.answer(
                [RankingRequest(served, [item], 1) for item in range(first, len(served.item_ids))]
                or [RankingRequest(served, [0], 1)]
            )
        except GraphDiffError as error:
            raise DataError(f"the features cannot be used: {error}") from None
        return served

    def _matrix(self, name: str, vectors: list[list[float] | None]) -> torch.Tensor:
        widths = {len(one) for one in vectors if one is not None}
        if len(widths) > 1:
            raise DataError(f"features of {name} have {sorted(widths)} values; give equally many")
        known = name in self.model.graph.modalities  # otherwise the model refuses it
        if not widths and known:
            widths = {self.model.graph.features(name)[0].size(1)}
        width = widths.pop() if widths else 0
        lacking = [float("nan")] * width
        given = [n for n, one in enumerate(vectors) if one is not None]
        matrix = torch.tensor(
            [lacking if one is None else one for one in vectors], device=self.model.device
        ).reshape(len(vectors), width)
        if not matrix[given].isfinite().all():
            raise DataError(f"features of {name} are beyond the range of float32; scale them down")
        return matrix

    def answer(self, requests: list[RankingRequest]) -> list[Recommendations]:
        """Answer requests to this model in one call; all have the same ``candidates``, ``explore``
        and ``popularity_discount``."""
        first = requests[0]
        history = [request.history for request in requests]
        pairs = [(n, item) for n, one in enumerate(requests) for item in one.exclude]
        exclude = torch.tensor(pairs, dtype=torch.long).t() if pairs else None
        item_index, scores = self.model.recommend(
            history_index=history,
            k=min(max(request.k for request in requests), self.model.num_items),
            exclude_index=None if exclude is None else (exclude[0], exclude[1]),
            candidate_index=first.candidates,
            explore=first.explore,
            popularity_discount=first.popularity_discount,
        )
        preference = getattr(self.model, "modality_preference", None)
        gates = {} if preference is None else preference(history_index=history)
        shares = {name: share.tolist() for name, share in gates.items()}
        return [
            Recommendations(
                [
                    (self.item_ids.text[item], item, score)
                    for item, score in zip(found[: one.k], score_row[: one.k], strict=True)
                    if item >= 0
                ],
                {name: share[n] for name, share in shares.items()} or None,
                self.gate_is_personal,
            )
            for n, (one, found, score_row) in enumerate(
                zip(requests, item_index.tolist(), scores.tolist(), strict=True)
            )
        ]

    @cached_property
    def gate_is_personal(self) -> bool:
        """Whether training users differ in their weights of the modalities, measured on a sample;
        False for a model without weights."""
        preference = getattr(self.model, "modality_preference", None)
        if preference is None:
            return False
        users = torch.linspace(0, self.model.num_users - 1, SAMPLE).long().unique()
        weights = preference(user_index=users)
        ends = torch.tensor([0.1, 0.9])
        spread = [one.float().cpu().quantile(ends).diff().item() for one in weights.values()]
        return max(spread, default=0.0) > NOTICEABLE

    def similar(self, item_index: int, k: int) -> list[ScoredItem]:
        """Return the k most similar items.

        Raises:
            ConfigError: If the model has no item vectors.
        """
        found, cosine = self.model.similar_items(item_index, k=min(k, self.model.num_items))
        pairs = zip(found[0].tolist(), cosine[0].tolist(), strict=True)
        return [self.items.scored(index, score) for index, score in pairs if index >= 0]

    def explain(self, history: list[int], items: list[int], num_items: int) -> list[ExplainedItem]:
        """Explain the scores of items for one user.

        Raises:
            ConfigError: If the model cannot explain its scores.
        """
        return [
            self._explained(
                self.model.explain(item_index=item, history_index=[history], num_items=num_items)
            )
            for item in items
        ]

    def _explained(self, why: Explanation) -> ExplainedItem:
        if not all(map(isfinite, (why.score, *why.parts.values(), *why.remainder.values()))):
            raise DataError(f"the score of item {why.item} is not finite, so it has no parts")
        card, text = self.items.card, self.item_ids.text
        named = {why.item, *(one.item for one in why.history)}
        ends = dict.fromkeys(end for link in why.links for end in (link.source, link.target))
        return ExplainedItem(
            item=card(why.item),
            score=why.score,
            parts=why.parts,
            remainder=why.remainder,
            because=[Reason(item=card(item), why=words) for item, words in why.because()],
            history=[
                ItemContribution(item=card(one.item), value=one.value, parts=one.parts)
                for one in why.history
            ],
            unnamed=why.unnamed,
            between=[card(end) for end in ends if end not in named],
            links=[
                ItemLink(source=text[source], target=text[target], relation=name, weight=weight)
                for source, target, name, weight in why.links
            ],
        )


@dataclass(frozen=True)
class RankingRequest:
    """A request for the best items of one user, by index.

    Attributes:
        served: The model to ask; it stays the same while others are loaded.
        history: Indices of the items that the user interacted with.
        k: Number of items wanted.
        exclude: Indices to leave out beside ``history``.
        candidates: Indices that may be recommended at all; None for all.
        explore: Least share of items without training interactions.
        popularity_discount: What popular items lose.
    """

    served: Served
    history: list[int]
    k: int
    exclude: tuple[int, ...] = ()
    candidates: list[int] | None = None
    explore: float = 0.0
    popularity_discount: float = 0.0


@dataclass(frozen=True)
class Recommendations:
    """The best items of one user.

    Attributes:
        items: Raw id as text, index and score, best first.
        gate: The user's weight of each modality, if the model has weights.
        gate_is_personal: Whether users differ in these weights.
    """

    items: list[tuple[str, int, float]]
    gate: dict[str, float] | None
    gate_is_personal: bool = False


def answer_batch(requests: list[RankingRequest]) -> list[Recommendations | Exception]:
    """Answer requests with one call per model and choice of ``explore`` and
    ``popularity_discount``; those with candidates take a call each."""
    groups: dict[tuple[int, int, float, float], list[int]] = {}
    for n, request in enumerate(requests):
        alone = -1 if request.candidates is None else n
        key = (id(request.served), alone, request.explore, request.popularity_discount)
        groups.setdefault(key, []).append(n)
    answers: list[Recommendations | Exception] = [GraphDiffError("not answered")] * len(requests)
    for group in groups.values():
        for n, answer in zip(group, _answered([requests[n] for n in group]), strict=True):
            answers[n] = answer
    return answers


def _answered(requests: list[RankingRequest]) -> list[Recommendations | Exception]:
    try:
        return list(requests[0].served.answer(requests))
    except Exception as error:
        if len(requests) == 1:
            return [error]
        # One by one, so that a request that fails does not fail the others.
        return [answer for request in requests for answer in _answered([request])]
