"""Functions called in new processes, so that no measurement affects another.

The processes are forked from a server that has only imported graphdiff, so each begins with the
same memory and without threads, and the seconds that imports take are paid once. With CUDA the
server imports nothing: a library that PyG imports may initialise the driver, which a forked process
cannot use. Where the system has no fork server, processes are started from scratch.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

import torch

from graphdiff.errors import GraphDiffError, RunError

P = ParamSpec("P")
Item = TypeVar("Item")
T = TypeVar("T")

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
#: Of a thread of :func:`side_by_side`: the processes of its pool.
_of_thread = threading.local()
#: Imported by the server on a CPU: this loads PyTorch and everything else that a training needs.
PRELOAD = "graphdiff.experiments.measure"


def warm_up() -> None:
    """Start the fork server, which does its imports while the caller goes on."""
    if METHOD == "forkserver":
        preload = [] if torch.cuda.is_available() else [PRELOAD]
        multiprocessing.get_context(METHOD).set_forkserver_preload(preload)
        forkserver.ensure_running()


def in_own_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what ``function`` returns when it is called in a new process.

    Args:
        function: A function of a module; its arguments and its result must be picklable.
        *args: Its arguments.
        **kwargs: Its keyword arguments.

    Raises:
        RunError: If the process was killed, for example because memory ran out, or stopped.
        RuntimeError: If it failed with anything but a :class:`GraphDiffError`; the traceback is on
            standard error.
        GraphDiffError: As raised by ``function``.
    """
    warm_up()
    context: Any = multiprocessing.get_context(METHOD)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, function, args, kwargs), daemon=True)
    process.start()
    sender.close()
    processes: set[Any] = getattr(_of_thread, "processes", set())
    processes.add(process)
    try:
        result = receiver.recv()
    except EOFError:
        process.join()
        if (code := process.exitcode or 0) < 0:
            raise RunError(
                f"its process was killed by {signal.Signals(-code).name}"
                + (", most likely because memory ran out" if -code == signal.SIGKILL else "")
            ) from None
        raise RuntimeError(
            f"its process ended with exit code {code}; the reason is printed above"
        ) from None
    finally:
        receiver.close()
        processes.discard(process)
    process.join()
    if isinstance(result, Exception):
        raise result
    return result


def side_by_side(
    function: Callable[[Item], T], items: Iterable[Item], jobs: int
) -> Generator[tuple[Item, Future[T]]]:
    """Call ``function``, which works :func:`in_own_process`, on several items at a time.

    Closing the iterator terminates the calls that are still running.

    Args:
        function: Called in a thread.
        items: Its arguments. The next one is requested only when a thread is free.
        jobs: Maximum number of simultaneous calls.

    Yields:
        Each item with its finished future, in the order in which they finish.
    """
    items, running = iter(items), dict[Future[T], Item]()
    processes: set[Any] = set()
    with ThreadPoolExecutor(jobs, initializer=_share, initargs=(processes,)) as pool:
        try:
            while True:
                for item in islice(items, jobs - len(running)):
                    running[pool.submit(function, item)] = item
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future
        finally:
            left = set(running)
            while left:
                for process in list(processes):
                    process.terminate()
                # One that is only being started cannot be ended yet.
                _, left = wait(left, timeout=0.1)


def one_by_one(
    function: Callable[[Item], T], items: Iterable[Item]
) -> Generator[tuple[Item, Future[T]]]:
    """Call ``function`` on one item after another in this thread; as :func:`side_by_side`."""
    for item in items:
        future: Future[T] = Future()
        try:
            future.set_result(function(item))
        except Exception as error:
            future.set_exception(error)
        yield item, future


def _share(processes: set[Any]) -> None:
    """Have :func:`in_own_process` in this thread list its process while it works."""
    _of_thread.processes = processes


def _work(sender: Connection, function: Callable, args: tuple, kwargs: dict[str, Any]) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        result = function(*args, **kwargs)
    except GraphDiffError as error:
        result = error
    except KeyboardInterrupt:
        # The process that waits is mostly stopped by the same key, and then no longer listens.
        result = RunError("its process was stopped by a signal")
    with suppress(BrokenPipeError):
        sender.send(result)


def _die_with_parent() -> None:
    """End this process when its parent ends: a killed experiment leaves nothing running."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
