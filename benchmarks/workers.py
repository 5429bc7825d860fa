"""Measurements in processes of their own, so that none inherits memory or trouble from another.

The processes are forked from a server that has done nothing but import (where the system has such a
thing; they are started from scratch elsewhere). So each begins with the same memory, no threads and
no CUDA context, and the seconds that imports take are paid once.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
Item = TypeVar("Item")
T = TypeVar("T")

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def warm_up() -> None:
    """Starts the server, which imports while the caller does something else."""
    if METHOD == "forkserver":
        multiprocessing.get_context(METHOD).set_forkserver_preload(["graphdiff"])
        forkserver.ensure_running()


def in_own_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``function`` returns, called in a new process.

    Args:
        function: A function of a module, with arguments and a result that can be sent.
        *args: Its arguments.
        **kwargs: Its keyword arguments.

    Raises:
        RunError: If the process was killed, for example for want of memory.
        RuntimeError: If it failed with anything but a :class:`GraphDiffError`; it has printed why.
        GraphDiffError: As raised by ``function``.
    """
    from graphdiff.errors import RunError

    warm_up()
    context = multiprocessing.get_context(METHOD)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, function, args, kwargs), daemon=True)
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        process.join()
        if (code := process.exitcode or 0) < 0:
            raise RunError(
                f"its process was killed by {signal.Signals(-code).name}"
                + (", most likely for want of memory" if -code == signal.SIGKILL else "")
            ) from None
        raise RuntimeError(f"its process ended with exit code {code}; see above why") from None
    finally:
        receiver.close()
    process.join()
    if isinstance(result, Exception):
        raise result
    return result


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """The option of how many trainings run :func:`side_by_side`."""
    parser.add_argument(
        "--jobs",
        type=_jobs,
        default=1,
        help="trainings side by side, which share the processor's cores: as small ones do not keep "
        "several busy, all are finished sooner, while each takes longer",
    )


def _jobs(text: str) -> int:
    if (jobs := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{jobs}: at least one training has to run")
    return jobs


def side_by_side(
    function: Callable[[Item], T], items: Iterable[Item], jobs: int
) -> Iterator[tuple[Item, Future[T]]]:
    """Calls ``function``, which works :func:`in_own_process`, on some items at a time.

    Args:
        function: What is called, in a thread.
        items: Its arguments. The next is only asked for when there is room for it.
        jobs: How many may be at work.

    Yields:
        An item and what became of it, as it is finished. Who stops asking ends what is at work.
    """
    items, running = iter(items), dict[Future[T], Item]()
    with ThreadPoolExecutor(jobs) as pool:
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
            if running:
                for process in multiprocessing.active_children():
                    process.terminate()


def _work(sender: Connection, function: Callable, args: tuple, kwargs: dict[str, Any]) -> None:
    from graphdiff.errors import GraphDiffError

    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        result = function(*args, **kwargs)
    except GraphDiffError as error:
        result = error
    sender.send(result)


def _die_with_parent() -> None:
    """Ends this process when its parent is gone: a killed comparison leaves nothing running."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
