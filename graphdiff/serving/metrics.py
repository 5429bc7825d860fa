"""Measurements of a service, for Prometheus."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from graphdiff.errors import GraphDiffError
from graphdiff.serving.items import ItemIds
from graphdiff.serving.served import RankingRequest, Recommendations, Served

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Training users whose lists are the reference of scores, and the length of their lists.
SAMPLE, LENGTH = 64, 20
#: Paths with a label of their own; others are counted together, so that callers cannot add labels.
PATHS = (
    "/", "/explain", "/health", "/items", "/metrics", "/recommend", "/reload", "/similar",
)  # fmt: skip
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
NUM_BINS = 10


@dataclass(frozen=True)
class Reference:
    """What a model's answers are compared with.

    Attributes:
        borders: The deciles of the scores in the lists of training users, ``[9]``, ascending; empty
            where there are no such scores.
        new: Items without training interactions, bool ``[I]``.
    """

    borders: np.ndarray
    new: np.ndarray

    @classmethod
    def of(cls, served: Served) -> Reference:
        """Return the reference of a model, from the lists of some of its training users."""
        model = served.model
        new = (model.graph.item_degree() == 0).cpu().numpy()
        users = model.graph.user_degree().nonzero().flatten()
        if users.numel() == 0:
            return cls(np.empty(0), new)
        place = torch.linspace(0, users.numel() - 1, min(SAMPLE, users.numel())).long()
        _, scores = model.recommend(
            users[place.to(users.device)], k=min(LENGTH, model.num_items), exclude_seen=True
        )
        found = scores[scores.isfinite()].double().cpu().numpy()
        if not len(found):
            return cls(np.empty(0), new)
        return cls(np.quantile(found, np.arange(1, NUM_BINS) / NUM_BINS), new)

    def with_items(self, num_items: int) -> Reference:
        """Return the reference with items appended that are new."""
        added = np.ones(num_items - len(self.new), dtype=bool)
        return replace(self, new=np.concatenate([self.new, added]))


class Metrics:
    """Counters and histograms of one service, in a registry of their own.

    =======================================  ===================================================
    ``graphdiff_request_seconds``            histogram of latency, by path and status
    ``graphdiff_queue_requests``             requests that wait
    ``graphdiff_batch_requests``             histogram of requests answered in one call
    ``graphdiff_history_ids_total``          raw ids in histories, by whether they are known
    ``graphdiff_recommended_items_total``    items in answers, by whether they are new, which is
                                             without training interactions
    ``graphdiff_scores_total``               scores in answers, by the decile of the scores in
                                             the lists of training users that they fall into
    ``graphdiff_score_shift``                population stability index of these deciles: 0 where
                                             answers are as in training; above 0.25 they are not
    =======================================  ===================================================

    Args:
        waiting: Returns the number of requests in the queue.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        # Of the extra "serve", which everything but a service works without.
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        own: Any = {"registry": self.registry}
        self.latency = Histogram(
            "graphdiff_request_seconds",
            "Seconds until a request was answered.",
            ["path", "status"],
            buckets=SECONDS,
            **own,
        )
        queue = Gauge("graphdiff_queue_requests", "Requests that wait.", **own)
        queue.set_function(waiting)
        self.batch = Histogram(
            "graphdiff_batch_requests", "Requests answered in one call.", buckets=SIZES, **own
        )
        self.ids = Counter("graphdiff_history_ids", "Raw ids in histories.", ["known"], **own)
        self.items = Counter(
            "graphdiff_recommended_items",
            "Items in answers; new ones have no training interactions.",
            ["new"],
            **own,
        )
        self.scores = Counter(
            "graphdiff_scores",
            "Scores in answers, by the decile of training that they fall into.",
            ["decile"],
            **own,
        )
        shift = Gauge(
            "graphdiff_score_shift",
            "Population stability index of the scores in answers against training.",
            **own,
        )
        shift.set_function(self.score_shift)
        self._counts = np.zeros(NUM_BINS, dtype=np.int64)
        for decile in range(1, NUM_BINS + 1):
            self.scores.labels(decile)
        for value in ("yes", "no"):
            self.ids.labels(value)
            self.items.labels(value)
        self._references: weakref.WeakKeyDictionary[Served, Reference] = weakref.WeakKeyDictionary()

    def follow(self, served: Served, before: Served | None = None) -> None:
        """Compute what the answers of a model are compared with.

        Args:
            served: The model.
            before: The same model before items were added, whose reference is taken over.
        """
        if before is not None and before in self._references:
            reference = self._references[before].with_items(len(served.item_ids))
        else:
            reference = Reference.of(served)
            self._counts[:] = 0  # The deciles are others now.
        self._references[served] = reference

    def measured(
        self, answer: Callable[[list[RankingRequest]], list[Recommendations | Exception]]
    ) -> Callable[[list[RankingRequest]], list[Recommendations | Exception]]:
        """Return ``answer``, with its batches and answers counted."""

        def counted(requests: list[RankingRequest]) -> list[Recommendations | Exception]:
            self.batch.observe(len(requests))
            answers = answer(requests)
            for request, found in zip(requests, answers, strict=True):
                if isinstance(found, Recommendations):
                    self._count_answer(request, found)
            return answers

        return counted

    def count_ids(self, known: ItemIds, history: Collection[str]) -> None:
        """Count the raw ids of a history, known and unknown."""
        there = sum(one in known for one in history)
        self.ids.labels("yes").inc(there)
        self.ids.labels("no").inc(len(history) - there)

    def score_shift(self) -> float:
        r"""Return the population stability index
        :math:`\sum_b (q_b - p) \ln(q_b / p)` of the shares q of answers' scores in the deciles of
        training, with p = 0.1; 0 where nothing was answered. Half a score is added to each decile.
        """
        total = self._counts.sum()
        if total == 0:
            return 0.0
        share = (self._counts + 0.5) / (total + 0.5 * NUM_BINS)
        expected = 1 / NUM_BINS
        return float(((share - expected) * np.log(share / expected)).sum())

    def text(self) -> bytes:
        """Return all measurements in the text format of Prometheus."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)

    def _count_answer(self, request: RankingRequest, found: Recommendations) -> None:
        served = request.served
        if served not in self._references:
            try:
                self.follow(served)
            except GraphDiffError:
                return
        reference = self._references[served]
        new = sum(bool(reference.new[index]) for _, index, _ in found.items)
        self.items.labels("yes").inc(new)
        self.items.labels("no").inc(len(found.items) - new)
        # Scores less a discount say nothing of a shift.
        if len(reference.borders) and not request.popularity_discount:
            scores = [score for _, _, score in found.items]
            bins = np.searchsorted(reference.borders, scores, side="right")
            counts = np.bincount(bins, minlength=NUM_BINS)
            self._counts += counts
            for n in counts.nonzero()[0].tolist():
                self.scores.labels(n + 1).inc(int(counts[n]))


class Timed:
    """Measures the latency of each request.

    Args:
        app: The ASGI application.
        metrics: Where to count.
    """

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on and measure how long it takes."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), "500"

        async def noting(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            path = scope["path"] if scope["path"] in PATHS else "other"
            seconds = time.perf_counter() - start
            self.metrics.latency.labels(path, status).observe(seconds)
