"""Requests of many callers answered together, in one thread beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
T = TypeVar("T")


class Overloaded(Exception):
    """The queue is full or closing; the caller may try again later."""


class Batcher(Generic[Q, A]):
    """Collects requests for a moment and answers them in one call.

    One thread computes. While it is busy, requests wait in a queue of bounded length. When that is
    full, :meth:`submit` raises at once, so that load beyond the capacity costs nothing. Used from
    one event loop.

    Args:
        answer: Takes 1 to ``batch`` requests and returns for each an answer, or an exception to
            raise. Called in the thread.
        queue: Most requests that wait.
        batch: Most requests in one call.
        wait: Seconds that the first request of a batch waits for others.
    """

    def __init__(
        self,
        answer: Callable[[list[Q]], list[A | Exception]],
        queue: int = 256,
        batch: int = 64,
        wait: float = 0.002,
    ) -> None:
        self.answer, self.batch, self.wait = answer, batch, wait
        self._queue: asyncio.Queue[tuple[Q, asyncio.Future[A]]] = asyncio.Queue(queue)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="graphdiff-batcher")
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._jobs = 0

    @property
    def waiting(self) -> int:
        """Number of requests in the queue, without those being answered."""
        return self._queue.qsize()

    def start(self) -> None:
        """Start answering; called within the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def submit(self, request: Q) -> A:
        """Return the answer to a request.

        Raises:
            Overloaded: If the queue is full or :meth:`close` was called.
        """
        if self._closing:
            raise Overloaded("the service is shutting down")
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((request, future))
        except asyncio.QueueFull:
            raise Overloaded(f"{self._queue.maxsize} requests are waiting; try again") from None
        return await future

    async def between(self, work: Callable[[], T]) -> T:
        """Run ``work`` in the thread, after the present batch and before the next."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` like :meth:`between`, unless too much waits already.

        Raises:
            Overloaded: If as many jobs wait as the queue is long, or :meth:`close` was called.
        """
        if self._closing:
            raise Overloaded("the service is shutting down")
        if self._jobs >= self._queue.maxsize:
            raise Overloaded(f"{self._jobs} requests are waiting; try again")
        self._jobs += 1
        try:
            return await self.between(work)
        finally:
            self._jobs -= 1

    async def close(self) -> None:
        """Take no more requests and return when all that wait are answered."""
        self._closing = True
        if self._task is not None:
            await self._queue.join()
            self._task.cancel()
        await asyncio.to_thread(self._thread.shutdown)

    async def _work(self) -> None:
        while True:
            asked = await self._collect()
            try:
                answers: list[A | Exception] = await self.between(
                    partial(self.answer, [request for request, _ in asked])
                )
            except Exception as error:
                answers = [error] * len(asked)
            for (_, future), answer in zip(asked, answers, strict=True):
                if future.done():  # the caller has disconnected
                    pass
                elif isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
                self._queue.task_done()

    async def _collect(self) -> list[tuple[Q, asyncio.Future[A]]]:
        asked = [await self._queue.get()]
        try:
            async with asyncio.timeout(self.wait):
                while len(asked) < self.batch:
                    asked.append(await self._queue.get())
        except TimeoutError:
            pass
        return asked
