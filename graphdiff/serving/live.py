"""The served model, the queue of requests to it, and what is measured of both."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import graphdiff
from graphdiff.errors import ConfigError, DataError
from graphdiff.serving.access import Access, check_host
from graphdiff.serving.batching import Batcher
from graphdiff.serving.items import ItemIds
from graphdiff.serving.messages import (
    AddItemsRequest,
    ExplainRequest,
    ExplainResponse,
    Limits,
    RecommendRequest,
    RecommendResponse,
    SimilarResponse,
)
from graphdiff.serving.metrics import Metrics
from graphdiff.serving.served import RankingRequest, Recommendations, Served, answer_batch
from graphdiff.serving.watching import model_changes

log = logging.getLogger("uvicorn.error")


class Service:
    """The served model and the queue of requests to it.

    Args:
        served: The first model.
        limits: Sizes that are accepted.
        access: Who may change the service.
        watch: Seconds between two looks whether the RUN folder holds another model, which is then
            loaded; 0 for never.
        image_hosts: Hosts from which the page loads pictures.
    """

    def __init__(
        self,
        served: Served,
        limits: Limits,
        access: Access,
        watch: float = 0,
        image_hosts: Sequence[str] = (),
    ) -> None:
        self.served, self.limits, self.access, self.watch = served, limits, access, watch
        self.image_hosts = [check_host(one) for one in image_hosts]
        self.loads = 1
        self.metrics = Metrics(lambda: self.batcher.waiting)
        self.metrics.follow(served)
        self._changing = asyncio.Lock()
        self.batcher: Batcher[RankingRequest, Recommendations] = Batcher(
            self.metrics.measured(answer_batch), limits.queue, limits.batch, limits.wait
        )

    async def recommend(self, asked: RecommendRequest) -> RecommendResponse:
        """Answer one request, together with others.

        Raises:
            DataError: If a limit is exceeded or an item is unknown; where unknown items are to be
                left out, if no other one remains.
            Overloaded: If too many requests wait.
        """
        limits, served = self.limits, self.served
        _within("history", asked.history or asked.history_index, limits.history)
        _within("exclude", [*asked.exclude, *asked.exclude_index], limits.history)
        _within("candidates", asked.candidates or asked.candidate_index, limits.candidates)
        _check_k(asked.k, limits)
        self.metrics.count_ids(served.item_ids, asked.history or ())
        unknown: list[str] = []
        if asked.ignore_unknown:
            asked, unknown = _without_unknown(asked, served.item_ids)
        candidates = None
        if asked.candidates is not None or asked.candidate_index is not None:
            candidates = _indices(served, asked.candidates, asked.candidate_index)
        request = RankingRequest(
            served,
            _indices(served, asked.history, asked.history_index),
            asked.k,
            tuple(_indices(served, asked.exclude, asked.exclude_index)),
            candidates,
            asked.explore,
            asked.popularity_discount,
        )
        answer = await self.batcher.submit(request)
        return RecommendResponse(
            items=[served.items.scored(index, score) for _, index, score in answer.items],
            gate=answer.gate,
            gate_is_personal=answer.gate_is_personal,
            unknown=unknown,
            model=served.name,
        )

    async def explain(self, asked: ExplainRequest) -> ExplainResponse:
        """Explain the scores of items for one user.

        Raises:
            ConfigError: If the model cannot explain its scores.
            DataError: If a limit is exceeded or an item is unknown.
            Overloaded: If too many requests wait.
        """
        limits, served = self.limits, self.served
        _within("history", asked.history or asked.history_index, limits.history)
        _within("items", asked.items or asked.item_index, limits.explained)
        history = _indices(served, asked.history, asked.history_index)
        items = _indices(served, asked.items, asked.item_index)
        found = await self.batcher.run(partial(served.explain, history, items, asked.num_items))
        return ExplainResponse(explanations=found, model=served.name)

    async def similar(self, item: str | None, item_index: int | None, k: int) -> SimilarResponse:
        """Return the items most similar to one.

        Raises:
            ConfigError: If the model has no item vectors.
            DataError: If not exactly one known item is given, or a limit is exceeded.
            Overloaded: If too many requests wait.
        """
        served = self.served
        if (item is None) == (item_index is None):
            raise DataError("give either item or item_index")
        _check_k(k, self.limits)
        (index,) = _indices(
            served, None if item is None else [item], None if item_index is None else [item_index]
        )
        found = await self.batcher.run(partial(served.similar, index, k))
        return SimilarResponse(items=found, model=served.name)

    async def add_items(self, new: AddItemsRequest) -> list[str]:
        """Add items until a model is loaded, and return their raw ids.

        They are added to a copy of the model, which is served once it is known to answer, so a
        request that is refused changes nothing.

        Raises:
            ConfigError: If the model cannot take new items.
            DataError: If a limit is exceeded, or features, ids or details do not fit.
        """
        for name, vectors in new.features.items():
            _within(f"features of {name}", vectors, self.limits.new_items)
        _within("item_id", new.item_id, self.limits.new_items)
        for name, texts in (new.details or {}).items():
            _within(f"{name}s", texts, self.limits.new_items)
        async with self._changing:
            served = self.served
            # The copy is made in the thread that answers, as answering fills the model's caches.
            copied = await self.batcher.between(served.copied)
            grown = await asyncio.to_thread(
                copied.with_items, new.features, new.item_id, new.details
            )
            self.metrics.follow(grown, served)
            self.served = grown
            return self.served.item_ids.text[len(served.item_ids) :]

    async def reload(self, run: Path | None = None) -> None:
        """Load a RUN folder beside the present model, then serve it instead. Requests that wait
        are answered by the model that they were put to.

        Raises:
            RunError: If there is no whole model in the folder; the old one stays.
            ConfigError: If it cannot be served; likewise.
        """
        async with self._changing:
            folder = self.served.run if run is None else run
            if folder is None:
                raise ConfigError("this model came from no folder; give run, the folder to load")
            opened = await asyncio.to_thread(Served.open, folder)
            await asyncio.to_thread(self.metrics.follow, opened)
            self.served = opened
            self.loads += 1
        log.info("serving %s of %s", self.served.name, folder)

    async def try_reload(self, run: Path | None = None) -> bool:
        """Reload and return whether it worked. The reason for a failure is only logged, as it may
        describe the file system."""
        try:
            await self.reload(run)
        except Exception as error:
            log.error("not reloaded, the old model stays: %s", " ".join(str(error).split()))
            return False
        return True

    def health(self) -> dict[str, Any]:
        """Return the served model, its sizes and the number of waiting requests."""
        model = self.served.model
        return {
            "status": "ok",
            "model": self.served.name,
            "users": model.num_users,
            "items": len(self.served.item_ids),
            "modalities": list(model.graph.modalities),
            "explains": self.served.explains,
            "image_hosts": self.image_hosts,
            "version": graphdiff.__version__,
            "loads": self.loads,
            "queue": self.batcher.waiting,
            "queue_limit": self.limits.queue,
        }

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Answer requests from start to shutdown."""
        self.batcher.start()
        loop, reloads = asyncio.get_running_loop(), set()

        def hang_up() -> None:
            task = loop.create_task(self.try_reload())
            reloads.add(task)  # the loop itself holds tasks weakly
            task.add_done_callback(reloads.discard)

        # Only the main thread receives signals, and not every system has this one.
        with suppress(AttributeError, NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(signal.SIGHUP, hang_up)
        watching = loop.create_task(self._watch()) if self.watch else None
        yield
        if watching is not None:
            watching.cancel()
        await self.batcher.close()

    async def _watch(self) -> None:
        async for _ in model_changes(lambda: self.served.run, self.watch):
            await self.try_reload()


def _within(what: str, found: Sequence[Any] | None, limit: int) -> None:
    if len(found or ()) > limit:
        raise DataError(f"{what}: {len(found or ())} is over the limit of {limit}")


def _check_k(k: int, limits: Limits) -> None:
    if k > limits.k:
        raise DataError(f"k: {k} is over the limit of {limits.k}")


def _without_unknown(asked: RecommendRequest, known: ItemIds) -> tuple[RecommendRequest, list[str]]:
    """Return a request without raw ids that are not known, and these."""
    unknown, kept = [], {}
    for name in ("history", "exclude", "candidates"):
        ids = getattr(asked, name)
        if ids is None:
            continue
        kept[name] = [one for one in ids if one in known]
        unknown += [one for one in ids if one not in known]
        if ids and not kept[name] and name != "exclude":
            raise DataError(
                f"{name}: none of {len(ids)} ids is among the {len(known)} items of this model"
            )
    return asked.model_copy(update=kept), list(dict.fromkeys(unknown))


def _indices(served: Served, ids: list[str] | None, indices: list[int] | None) -> list[int]:
    known = served.item_ids
    return [known.index(one) for one in ids or ()] + [known.checked(one) for one in indices or ()]
