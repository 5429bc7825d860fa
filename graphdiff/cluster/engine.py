"""Connection to a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from graphdiff.errors import ConfigError


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Connect to a cluster for the duration of a ``with`` block, which gets the module ``ray``.

    Workers import the package, so it must be installed on every machine. Ray reports nothing on its
    use unless the environment variable ``RAY_USAGE_STATS_ENABLED`` is 1.

    Args:
        address: Address of the head node, or ``"auto"``; None for that in ``RAY_ADDRESS``, or a
            new cluster on this machine. A connection that is open already is used as it is.

    Raises:
        ConfigError: If Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigError(
            "the engine ray needs ray; install it with: pip install 'graphdiff-rec[cluster]'"
        ) from None
    # Reports on its use, and the thread that measures for them, are Ray's default.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        first, _, _ = str(error).partition("\n")
        raise ConfigError(
            f"no Ray cluster at {address or 'this machine'}: {first}; give the address that "
            "`ray start --head` prints"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()
